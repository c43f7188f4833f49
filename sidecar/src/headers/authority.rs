//! A request has one authority.

use fapi::Rejection;
use http::{HeaderMap, HeaderValue, Uri, header::HOST};

/// Makes sure that target and `Host` name the same authority, and that `Host` is there.
///
/// # Errors
/// [`Rejection::RequestMalformed`] without any, with two, or with one that is no authority.
pub(super) fn unify(target: &Uri, headers: &mut HeaderMap) -> Result<(), Rejection> {
    let mut hosts = headers.get_all(HOST).iter();
    match (target.authority(), hosts.next(), hosts.next()) {
        (_, _, Some(_)) | (None, None, None) => Err(Rejection::RequestMalformed),
        (Some(authority), None, None) => {
            let host = HeaderValue::from_str(authority.as_str()).map_err(|_| Rejection::RequestMalformed)?;
            check(authority.as_str().as_bytes())?;
            headers.insert(HOST, host);
            Ok(())
        }
        (Some(authority), Some(host), None) => {
            check(host.as_bytes())?;
            let same = authority.as_str().as_bytes().eq_ignore_ascii_case(host.as_bytes());
            if same { Ok(()) } else { Err(Rejection::RequestMalformed) }
        }
        (None, Some(host), None) => check(host.as_bytes()),
    }
}

/// Host and port only: no user, no second host, nothing that a URL could continue with.
fn check(authority: &[u8]) -> Result<(), Rejection> {
    let legal = |byte: &u8| byte.is_ascii_alphanumeric() || b".-_~:[]%!$&'()*+;=".contains(byte);
    if !authority.is_empty() && authority.iter().all(legal) { Ok(()) } else { Err(Rejection::RequestMalformed) }
}
