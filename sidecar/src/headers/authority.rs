//! A request has one authority.

use std::net::Ipv6Addr;

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

/// Host and port only (RFC 9112 section 3.2): no user, no second host, nothing that a URL could continue with.
fn check(authority: &[u8]) -> Result<(), Rejection> {
    if is_host_and_port(authority) { Ok(()) } else { Err(Rejection::RequestMalformed) }
}

fn is_host_and_port(authority: &[u8]) -> bool {
    // What a colon of an address is, is told by its brackets.
    let end_of_host = match authority.strip_prefix(b"[") {
        Some(inside) => inside.iter().position(|&byte| byte == b']').map(|at| at + 2),
        None => Some(authority.iter().position(|&byte| byte == b':').unwrap_or(authority.len())),
    };
    let Some((host, port)) = end_of_host.and_then(|end| authority.split_at_checked(end)) else { return false };
    let is_host = match host.strip_prefix(b"[").and_then(|host| host.strip_suffix(b"]")) {
        Some(address) => std::str::from_utf8(address).is_ok_and(|address| address.parse::<Ipv6Addr>().is_ok()),
        None => !host.is_empty() && host.iter().all(|byte| byte.is_ascii_alphanumeric() || b".-_~".contains(byte)),
    };
    is_host && (port.is_empty() || port.strip_prefix(b":").is_some_and(is_port))
}

fn is_port(digits: &[u8]) -> bool {
    let all = !digits.is_empty() && digits.iter().all(u8::is_ascii_digit);
    all && std::str::from_utf8(digits).is_ok_and(|digits| digits.parse::<u16>().is_ok())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_authority_is_a_host_and_perhaps_a_port() {
        for good in ["payments", "payments.bank", "Payments.bank:8080", "10.0.0.1", "[::1]", "[::1]:80", "a_b:0"] {
            assert!(is_host_and_port(good.as_bytes()), "{good}");
        }
        for bad in [
            "", ":80", "a:", "a:x", "a:65536", "a:+1", "a:1:2", "[::1", "[::1]80", "[]", "[x]", "::1", "]", "%",
            "a%20", "a b", "a,b", "u@a", "a/b", "a?", "a#", "a\\", "\u{e9}",
        ] {
            assert!(!is_host_and_port(bad.as_bytes()), "{bad}");
        }
    }
}
