//! Which names are dangerous.

use http::{
    HeaderName,
    header::{
        AUTHORIZATION, CONNECTION, CONTENT_ENCODING, CONTENT_LENGTH, CONTENT_TYPE, COOKIE, EXPECT, HOST,
        PROXY_AUTHENTICATE, PROXY_AUTHORIZATION, SET_COOKIE, TE, TRANSFER_ENCODING, UPGRADE,
    },
};

/// Claims about who calls or with which certificate: true only when this sidecar made them. Names of people (`Remote-User` and
/// its like) are no such claims: a proxy that signs people in is a caller like any other, and tells its app so.
const IDENTITY_PREFIXES: &[&str] = &[
    "x-fapi-",
    "x-forwarded-client-cert",
    "x-forwarded-tls-client-cert",
    "client-cert",
    "cf-client-cert",
    "x-client-cert",
    "x-wso2-client-cert",
    "ssl-client-",
    "x-ssl-client-",
    "x-ssl-cert",
    "x-tls-client-",
    "x-amzn-mtls-",
    "x-arr-clientcert",
    "l5d-client-id",
    "txn-token",
];

/// Names that make an app see another path or method than the one that was decided.
const OVERRIDES: &[&str] =
    &["x-original-url", "x-rewrite-url", "x-http-method", "x-http-method-override", "x-method-override"];

/// Longer names are compared by their first bytes, which is as much as any prefix has.
const COMPARED: usize = 32;

/// Fields that belong to one connection (RFC 9110 section 7.6.1), and `Expect`, which this hop answers itself.
pub(super) fn is_hop_by_hop(name: &HeaderName) -> bool {
    match name.as_str().len() {
        2 => name == TE,
        6 => name == EXPECT,
        7 => name == UPGRADE,
        10 => name == CONNECTION || name == "keep-alive",
        14 => name == "http2-settings",
        16 => name == "proxy-connection",
        17 => name == TRANSFER_ENCODING,
        18 => name == PROXY_AUTHENTICATE,
        19 => name == PROXY_AUTHORIZATION,
        _ => false,
    }
}

/// Whether a name (in lower case) claims an identity or overrides the request line. Many apps read `_` as `-`,
/// so both are the same here.
pub(super) fn claims_identity(name: &str) -> bool {
    if !matches!(name.as_bytes(), [b'x' | b'c' | b's' | b'l' | b't', ..]) {
        return false;
    }
    let mut dashed = [0; COMPARED];
    let name = name.as_bytes();
    let length = name.len().min(COMPARED);
    for (to, &from) in dashed.iter_mut().zip(name) {
        *to = if from == b'_' { b'-' } else { from };
    }
    let compared = &dashed[..length];
    IDENTITY_PREFIXES.iter().any(|prefix| compared.starts_with(prefix.as_bytes()))
        || OVERRIDES.iter().any(|whole| compared == whole.as_bytes() && name.len() == length)
}

/// Whether a name (in lower case) is one that only sidecars and their apps use.
pub(super) fn is_ours(name: &str) -> bool {
    const OURS: &[u8] = b"x-fapi-";
    let alike = |(ours, &found): (&u8, &u8)| *ours == found || (*ours == b'-' && found == b'_');
    name.len() >= OURS.len() && OURS.iter().zip(name.as_bytes()).all(alike)
}

/// Fields that steer how a message is read or whom it is from, and so come before its body (RFC 9110 section 6.5.1).
pub(super) fn never_in_trailers(name: &HeaderName) -> bool {
    [HOST, AUTHORIZATION, COOKIE, SET_COOKIE, CONTENT_LENGTH, CONTENT_TYPE, CONTENT_ENCODING].contains(name)
        || name == super::DPOP
        || name == super::DPOP_NONCE
}
