//! Headers on their way from a peer to the app and back: what must not pass is taken out here, and what the app may
//! believe is put in here, nowhere else.

mod authority;
mod challenges;
mod names;
#[cfg(test)]
mod tests;

pub(crate) use challenges::{Challenge, challenges, drop_challenges};

use fapi::Rejection;
use http::{
    HeaderMap, HeaderName, HeaderValue, Method, Version,
    header::{AUTHORIZATION, CONNECTION, CONTENT_LENGTH, COOKIE, TE, TRANSFER_ENCODING, UPGRADE, WWW_AUTHENTICATE},
    request,
};

/// The workload that calls, as its certificate names it.
pub(crate) const CALLER: HeaderName = HeaderName::from_static("x-fapi-caller");
/// The client that the token was issued to.
pub(crate) const CLIENT_ID: HeaderName = HeaderName::from_static("x-fapi-client-id");
/// On whose behalf the call is made, if its caller was called for it itself: the `sub` of its token (RFC 8693 section 4.1).
pub(crate) const SUBJECT: HeaderName = HeaderName::from_static("x-fapi-subject");
/// The handle of a call, which the app passes on with the calls that it makes for it. It never leaves this sidecar and its app.
pub(crate) const CONTEXT: HeaderName = HeaderName::from_static("x-fapi-context");
/// One id for a call in the logs of everybody on its way.
pub(crate) const INTERACTION_ID: HeaderName = HeaderName::from_static("x-fapi-interaction-id");
/// The proof of possession (RFC 9449 section 4.1).
pub(crate) const DPOP: HeaderName = HeaderName::from_static("dpop");
/// The nonce for the next proof (RFC 9449 section 8).
pub(crate) const DPOP_NONCE: HeaderName = HeaderName::from_static("dpop-nonce");

/// More fields than this are refused. HTTP/1.1 parsing has the same bound.
pub(crate) const MAX_FIELDS: usize = 100;

/// What a clean request still wants of its connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Wishes {
    /// It asks to become a WebSocket.
    pub(crate) websocket: bool,
    /// It understands trailers in the answer.
    pub(crate) trailers: bool,
}

/// Takes out of a request what belongs to its connection or claims an identity, and makes `Host` its one authority.
///
/// # Errors
/// [`Rejection::RequestMalformed`] for what can be read in two ways, [`Rejection::HeaderTooLarge`] for too many fields.
pub(crate) fn clean_request(parts: &mut request::Parts) -> Result<Wishes, Rejection> {
    clean(parts, names::claims_identity)
}

/// The same for a request to what is not in the mesh: what an app tells it about identities is between the two, and only what
/// is ours stays here.
///
/// # Errors
/// As [`clean_request`].
pub(crate) fn clean_request_outside(parts: &mut request::Parts) -> Result<Wishes, Rejection> {
    clean(parts, names::is_ours)
}

fn clean(parts: &mut request::Parts, is_dropped: impl Fn(&str) -> bool) -> Result<Wishes, Rejection> {
    if parts.method == Method::CONNECT {
        return Err(Rejection::RequestMalformed);
    }
    if parts.headers.len() > MAX_FIELDS {
        return Err(Rejection::HeaderTooLarge);
    }
    let found = Found::in_request(&parts.headers, is_dropped)?;
    let wishes = Wishes {
        websocket: found.websocket
            && found.connection_upgrade
            && parts.method == Method::GET
            && parts.version == Version::HTTP_11,
        trailers: found.trailers,
    };
    found.drop.remove_from(&mut parts.headers);
    authority::unify(&parts.uri, &mut parts.headers)?;
    if parts.version == Version::HTTP_2 {
        join_cookies(&mut parts.headers);
    }
    Ok(wishes)
}

/// Takes out the credentials that were meant for this sidecar: the app sees who called, never the token.
pub(crate) fn remove_credentials(headers: &mut HeaderMap) {
    headers.remove(AUTHORIZATION);
    headers.remove(DPOP);
}

/// Says that the connection changes to WebSocket.
pub(crate) fn upgrade(headers: &mut HeaderMap) {
    headers.insert(CONNECTION, HeaderValue::from_static("upgrade"));
    headers.insert(UPGRADE, HeaderValue::from_static("websocket"));
}

/// Takes out of trailers everything that would be taken out of headers, and what may not be a trailer at all.
pub(crate) fn clean_request_trailers(trailers: &mut HeaderMap) {
    let mut drop = Removals::default();
    for name in trailers.keys() {
        if names::is_hop_by_hop(name) || names::claims_identity(name.as_str()) || names::never_in_trailers(name) {
            drop.name(name);
        }
    }
    drop.remove_from(trailers);
}

/// Takes out of the app's answer what belongs to its connection and what only a sidecar may say.
pub(crate) fn clean_response(headers: &mut HeaderMap) {
    drop_untrue(headers);
    let mut drop = Removals::default();
    for (name, value) in &*headers {
        if name == CONNECTION {
            drop.named_by(value);
        }
        if names::is_hop_by_hop(name) || name == DPOP_NONCE {
            drop.name(name);
        }
    }
    if headers.contains_key(WWW_AUTHENTICATE) {
        // `DPoP` challenges are between sidecars: one of the app's would make the caller's sidecar try again.
        drop_challenges(headers, |challenge| challenge.is("DPoP"));
    }
    drop.remove_from(headers);
}

/// Takes out of an answer, wherever it comes from, what its receiver would be wrong to believe: a length that is none beside
/// `Transfer-Encoding` (RFC 9112 section 6.3), and what only sidecars say. The interaction id stays: each answer gets it anew.
pub(crate) fn drop_untrue(headers: &mut HeaderMap) {
    if headers.contains_key(TRANSFER_ENCODING) {
        headers.remove(CONTENT_LENGTH);
    }
    drop_ours(headers);
}

/// Takes out of the answer's trailers what only a sidecar may say.
pub(crate) fn clean_response_trailers(trailers: &mut HeaderMap) {
    trailers.remove(DPOP_NONCE);
    trailers.remove(INTERACTION_ID);
    drop_ours(trailers);
}

/// All but the interaction id.
fn drop_ours(headers: &mut HeaderMap) {
    let mut drop = Removals::default();
    for name in headers.keys() {
        if names::is_ours(name.as_str()) && name != INTERACTION_ID {
            drop.name(name);
        }
    }
    drop.remove_from(headers);
}

/// Whether a value of `Connection` or `TE` lists `token`.
pub(crate) fn lists(value: &HeaderValue, token: &str) -> bool {
    value.as_bytes().split(|&byte| byte == b',').any(|item| item.trim_ascii().eq_ignore_ascii_case(token.as_bytes()))
}

/// What one look over the fields of a request found.
#[derive(Default)]
struct Found {
    drop: Removals,
    connection_upgrade: bool,
    websocket: bool,
    trailers: bool,
    content_lengths: usize,
    transfer_encodings: usize,
}

impl Found {
    fn in_request(headers: &HeaderMap, is_dropped: impl Fn(&str) -> bool) -> Result<Self, Rejection> {
        let mut found = Self::default();
        for (name, value) in headers {
            found.field(name, value)?;
            if names::is_hop_by_hop(name) || is_dropped(name.as_str()) {
                found.drop.name(name);
            }
        }
        // RFC 9112 section 6.1: whoever reads the length differently than the app smuggles a request.
        if found.content_lengths + found.transfer_encodings > 1 {
            return Err(Rejection::RequestMalformed);
        }
        Ok(found)
    }

    fn field(&mut self, name: &HeaderName, value: &HeaderValue) -> Result<(), Rejection> {
        if name == CONNECTION {
            self.connection_upgrade |= lists(value, "upgrade");
            self.drop.named_by(value);
        } else if name == TE {
            self.trailers |= lists(value, "trailers");
        } else if name == UPGRADE {
            self.websocket |= value.as_bytes().eq_ignore_ascii_case(b"websocket");
            if lists(value, "h2c") {
                return Err(Rejection::RequestMalformed);
            }
        } else if name == CONTENT_LENGTH {
            self.content_lengths += 1;
        } else if name == TRANSFER_ENCODING {
            self.transfer_encodings += 1;
            if !value.as_bytes().eq_ignore_ascii_case(b"chunked") {
                return Err(Rejection::RequestMalformed);
            }
        }
        Ok(())
    }
}

/// Names to take out. Nothing is allocated while there are none.
#[derive(Default)]
struct Removals(Vec<HeaderName>);

impl Removals {
    fn name(&mut self, name: &HeaderName) {
        self.0.push(name.clone());
    }

    /// Fields that `Connection` declares as its own (RFC 9110 section 7.6.1).
    fn named_by(&mut self, connection: &HeaderValue) {
        let items = connection.as_bytes().split(|&byte| byte == b',').map(<[u8]>::trim_ascii);
        self.0.extend(items.filter_map(|item| HeaderName::from_bytes(item).ok()));
    }

    fn remove_from(self, headers: &mut HeaderMap) {
        for name in self.0 {
            headers.remove(name);
        }
    }
}

/// HTTP/2 may split `Cookie`; HTTP/1.1 may not (RFC 9113 section 8.2.3).
fn join_cookies(headers: &mut HeaderMap) {
    if headers.get_all(COOKIE).iter().nth(1).is_none() {
        return;
    }
    let crumbs: Vec<_> = headers.get_all(COOKIE).iter().map(HeaderValue::as_bytes).collect();
    // Values of a header joined by legal bytes are a legal value.
    if let Ok(whole) = HeaderValue::from_bytes(&crumbs.join(&b"; "[..])) {
        headers.insert(COOKIE, whole);
    }
}
