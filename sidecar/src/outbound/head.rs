//! The heads of requests and responses on their way through: what is taken out, what is put in.

use fapi::Rejection;
use http::{
    HeaderMap, HeaderName, HeaderValue, Method, Request, Uri, Version,
    header::{self, Entry},
    uri::{Authority, PathAndQuery, Scheme},
};

use super::{body::AppBody, dpop, failure::Failure, own::Protocol, target::Target};

/// Names a call across all hops.
pub(super) const INTERACTION_ID: HeaderName = HeaderName::from_static("x-fapi-interaction-id");

const KEEP_ALIVE: HeaderName = HeaderName::from_static("keep-alive");
const PROXY_CONNECTION: HeaderName = HeaderName::from_static("proxy-connection");

/// The authority that a proxy request names (RFC 9112 section 3.2.2).
///
/// # Errors
/// What the app must do instead.
pub(super) fn authority(request: &Request<impl Sized>) -> Result<&Authority, Failure> {
    if request.method() == Method::CONNECT {
        return Err(Failure::Misused(
            "CONNECT hides the request: call http:// URLs through this proxy, it adds TLS itself",
        ));
    }
    let uri = request.uri();
    match (uri.scheme(), uri.authority()) {
        (Some(scheme), Some(authority)) if *scheme == Scheme::HTTP => Ok(authority),
        (Some(_), _) => Err(Failure::Misused("call http:// URLs through this proxy, it adds TLS itself")),
        (None, _) => Err(Failure::Misused("this is a proxy: send the whole URL, for example by http_proxy")),
    }
}

/// Whether the app wants a WebSocket, the one upgrade that passes (RFC 6455 section 4.1).
pub(super) fn is_websocket(request: &Request<impl Sized>) -> bool {
    let headers = request.headers();
    request.version() == Version::HTTP_11
        && request.method() == Method::GET
        && headers.get(header::UPGRADE).is_some_and(|value| value.as_bytes().eq_ignore_ascii_case(b"websocket"))
        && names(headers, &header::CONNECTION, "upgrade")
}

/// Whether trailers must get through (RFC 9110 section 10.1.4).
pub(super) fn wants_trailers(headers: &HeaderMap) -> bool {
    headers.contains_key(header::TE) && names(headers, &header::TE, "trailers")
}

/// A service of the mesh gets its credentials from us alone.
pub(super) fn refuse_credentials(headers: &HeaderMap) -> Result<(), Failure> {
    if headers.contains_key(header::AUTHORIZATION) || headers.contains_key(&dpop::DPOP) {
        return Err(Failure::Rejected(Rejection::AppAuthorizationPresent));
    }
    Ok(())
}

/// Turns the app's request into one that a peer gets: its URL, its version, no header that ends here, no identity.
pub(super) fn prepare(request: &mut Request<AppBody>, target: &Target, protocol: Protocol, websocket: bool) {
    let trailers = wants_trailers(request.headers());
    let headers = request.headers_mut();
    drop_hop_by_hop(headers);
    // Answered here already; a second answer would come too late to mean anything.
    headers.remove(header::EXPECT);
    drop_identity(headers);
    if websocket {
        upgrade(headers);
    }
    if trailers && protocol == Protocol::H2 {
        headers.insert(header::TE, HeaderValue::from_static("trailers"));
    }
    match protocol {
        Protocol::H1 => headers.insert(header::HOST, target.host.clone()),
        Protocol::H2 => headers.remove(header::HOST),
    };
    let path = request.uri().path_and_query().cloned().unwrap_or_else(|| PathAndQuery::from_static("/"));
    *request.uri_mut() = uri(path, target, protocol);
    *request.version_mut() = match protocol {
        Protocol::H1 => Version::HTTP_11,
        Protocol::H2 => Version::HTTP_2,
    };
}

/// The URL as it is written on a connection.
pub(super) fn uri(path: PathAndQuery, target: &Target, protocol: Protocol) -> Uri {
    let mut parts = http::uri::Parts::default();
    if protocol == Protocol::H2 {
        parts.scheme = Some(Scheme::HTTPS);
        parts.authority = Some(target.authority.clone());
    }
    parts.path_and_query = Some(path);
    // Parts of a URL make a URL again.
    Uri::from_parts(parts).unwrap_or_default()
}

/// Takes out of a response what is between the sidecars: hop-by-hop headers and challenges that only a sidecar can
/// answer. The nonce is taken before.
pub(super) fn clean_response(headers: &mut HeaderMap) {
    drop_hop_by_hop(headers);
    headers.remove(&dpop::DPOP_NONCE);
    if headers.contains_key(header::WWW_AUTHENTICATE) {
        drop_challenges(headers);
    }
}

/// Says that the connection changes to WebSocket.
pub(super) fn upgrade(headers: &mut HeaderMap) {
    headers.insert(header::CONNECTION, HeaderValue::from_static("upgrade"));
    headers.insert(header::UPGRADE, HeaderValue::from_static("websocket"));
}

/// Whether a response carries a challenge about the token.
pub(super) fn is_challenge(value: &HeaderValue) -> bool {
    let scheme = value.as_bytes().split(|byte| *byte == b' ').next().unwrap_or_default();
    scheme.eq_ignore_ascii_case(b"bearer") || scheme.eq_ignore_ascii_case(b"dpop")
}

fn drop_challenges(headers: &mut HeaderMap) {
    let Entry::Occupied(found) = headers.entry(header::WWW_AUTHENTICATE) else { return };
    let (_, values) = found.remove_entry_mult();
    let kept: Vec<_> = values.filter(|value| !is_challenge(value)).collect();
    for value in kept {
        headers.append(header::WWW_AUTHENTICATE, value);
    }
}

/// Headers of one hop, and those that `Connection` names (RFC 9110 section 7.6.1).
fn drop_hop_by_hop(headers: &mut HeaderMap) {
    for name in named_by_connection(headers) {
        headers.remove(name);
    }
    headers.remove(header::CONNECTION);
    for name in [KEEP_ALIVE, PROXY_CONNECTION, header::TE, header::TRANSFER_ENCODING, header::UPGRADE] {
        headers.remove(name);
    }
    headers.remove(header::PROXY_AUTHORIZATION);
    headers.remove(header::PROXY_AUTHENTICATE);
}

fn named_by_connection(headers: &HeaderMap) -> Vec<HeaderName> {
    let lists = headers.get_all(header::CONNECTION).iter();
    let items = lists.flat_map(|list| list.as_bytes().split(|byte| *byte == b',')).map(<[u8]>::trim_ascii);
    // Options, not names; by far the most frequent ones.
    let named = items.filter(|item| !item.eq_ignore_ascii_case(b"keep-alive") && !item.eq_ignore_ascii_case(b"close"));
    named.filter_map(|name| HeaderName::from_bytes(name).ok()).collect()
}

/// Everything in our own name space except the interaction id, also spelled with `_`.
fn drop_identity(headers: &mut HeaderMap) {
    let ours = |name: &HeaderName| {
        let name = name.as_str().as_bytes();
        name.len() >= 7
            && name.iter().zip(b"x-fapi-").all(|(found, ours)| found == ours || (*ours == b'-' && *found == b'_'))
    };
    let found: Vec<HeaderName> =
        headers.keys().filter(|name| ours(name) && **name != INTERACTION_ID).cloned().collect();
    for name in found {
        headers.remove(name);
    }
}

/// Whether a list header contains a token, in any case.
fn names(headers: &HeaderMap, header: &HeaderName, token: &str) -> bool {
    headers.get_all(header).iter().any(|value| {
        value
            .as_bytes()
            .split(|byte| *byte == b',')
            .any(|item| item.trim_ascii().eq_ignore_ascii_case(token.as_bytes()))
    })
}

#[cfg(test)]
mod tests;
