//! The heads of requests and responses on their way through: what is taken out, what is put in.

use fapi::Rejection;
use http::{
    HeaderMap, HeaderName, HeaderValue, Method, Request, Uri, Version, header,
    request::Parts,
    uri::{Authority, PathAndQuery, Scheme},
};

use super::{failure::Failure, own::Protocol, target::Target};
use crate::headers::{self, Challenge, DPOP, DPOP_NONCE, Wishes};

/// Headers of a response that belong to one connection (RFC 9110 section 7.6.1), beside `Connection` itself.
const HOP_BY_HOP: [HeaderName; 5] = [
    HeaderName::from_static("keep-alive"),
    HeaderName::from_static("proxy-connection"),
    header::PROXY_AUTHENTICATE,
    header::TRANSFER_ENCODING,
    header::UPGRADE,
];

/// The authority that a proxy request names (RFC 9112 section 3.2.2).
///
/// # Errors
/// What the app must do instead.
pub(super) fn authority<T>(request: &Request<T>) -> Result<&Authority, Failure> {
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

/// A service of the mesh gets its credentials from us alone.
///
/// # Errors
/// The app brings some of its own.
pub(super) fn refuse_credentials(headers: &HeaderMap) -> Result<(), Failure> {
    if headers.contains_key(header::AUTHORIZATION) || headers.contains_key(&DPOP) {
        return Err(Failure::Rejected(Rejection::AppAuthorizationPresent));
    }
    Ok(())
}

/// Takes out of the app's request what ends here, and for a service of the mesh what claims an identity. A proxy replaces
/// `Host` by the authority of the URL (RFC 9112 section 3.2.2).
///
/// # Errors
/// What can be read in two ways.
pub(super) fn clean_request(head: &mut Parts, target: &Target, meshed: bool) -> Result<Wishes, Failure> {
    head.headers.insert(header::HOST, target.host.clone());
    let wishes = if meshed { headers::clean_request(head) } else { headers::clean_request_outside(head) };
    Ok(wishes?)
}

/// Writes the request as a connection of this protocol wants it.
pub(super) fn address(head: &mut Parts, target: &Target, protocol: Protocol, wishes: Wishes) {
    match protocol {
        Protocol::H1 => {
            head.version = Version::HTTP_11;
            if wishes.websocket {
                headers::upgrade(&mut head.headers);
            }
        }
        Protocol::H2 => {
            head.version = Version::HTTP_2;
            head.headers.remove(header::HOST);
            if wishes.trailers {
                head.headers.insert(header::TE, HeaderValue::from_static("trailers"));
            }
        }
    }
    let path = head.uri.path_and_query().cloned().unwrap_or_else(|| PathAndQuery::from_static("/"));
    head.uri = uri(path, target, protocol);
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

/// Takes out of a response what is untrue, hop-by-hop headers and, if it comes from a sidecar, challenges that only a sidecar can
/// answer. Those of a server outside the mesh are for the app (RFC 9110 section 11.6.1).
pub(super) fn clean_response(headers: &mut HeaderMap, meshed: bool) {
    headers::drop_untrue(headers);
    if headers.contains_key(header::CONNECTION) {
        for name in named_by_connection(headers) {
            headers.remove(name);
        }
        headers.remove(header::CONNECTION);
    }
    for name in &HOP_BY_HOP {
        headers.remove(name);
    }
    if !meshed {
        return;
    }
    headers.remove(&DPOP_NONCE);
    if headers.contains_key(header::WWW_AUTHENTICATE) {
        headers::drop_challenges(headers, is_about_token);
    }
}

/// Whether a challenge is about the token.
pub(super) fn is_about_token(challenge: &Challenge<'_>) -> bool {
    challenge.is("Bearer") || challenge.is("DPoP")
}

fn named_by_connection(headers: &HeaderMap) -> Vec<HeaderName> {
    let lists = headers.get_all(header::CONNECTION).iter();
    let items = lists.flat_map(|list| list.as_bytes().split(|byte| *byte == b',')).map(<[u8]>::trim_ascii);
    items.filter_map(|name| HeaderName::from_bytes(name).ok()).collect()
}

#[cfg(test)]
mod tests;
