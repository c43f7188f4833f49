#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use super::*;

fn headers(fields: &[(&'static str, &'static str)]) -> HeaderMap {
    let mut headers = HeaderMap::new();
    for (name, value) in fields {
        headers.append(*name, HeaderValue::from_static(value));
    }
    headers
}

#[test]
fn every_connection_header_is_read() {
    let mut found = headers(&[
        ("connection", "close, x-one"),
        ("connection", "X-Two"),
        ("x-one", "1"),
        ("x-two", "2"),
        ("x-two", "3"),
        ("x-three", "4"),
        ("upgrade", "h2c"),
        ("te", "gzip"),
    ]);
    drop_hop_by_hop(&mut found);
    assert_eq!(found.keys().map(HeaderName::as_str).collect::<Vec<_>>(), ["x-three"]);
}

#[test]
fn only_challenges_about_tokens_are_taken_out_of_answers() {
    let mut found = headers(&[
        ("www-authenticate", "DPoP error=\"use_dpop_nonce\""),
        ("www-authenticate", "Basic realm=\"x\""),
        ("www-authenticate", "bearer"),
        ("dpop-nonce", "n"),
        ("content-type", "text/plain"),
    ]);
    clean_response(&mut found);
    let left: Vec<_> = found.get_all(header::WWW_AUTHENTICATE).iter().collect();
    assert_eq!(left, ["Basic realm=\"x\""]);
    assert_eq!(found.len(), 2);
}

#[test]
fn a_websocket_needs_both_headers() {
    let asks = |fields: &[(&'static str, &'static str)]| {
        let mut request = Request::new(());
        *request.headers_mut() = headers(fields);
        is_websocket(&request)
    };
    assert!(asks(&[("connection", "keep-alive, Upgrade"), ("upgrade", "WebSocket")]));
    assert!(!asks(&[("upgrade", "websocket")]));
    assert!(!asks(&[("connection", "upgrade"), ("upgrade", "h2c")]));
}

#[test]
fn the_name_space_of_identities_is_closed_in_both_spellings() {
    let mut found = headers(&[
        ("x-fapi-caller", "a"),
        ("x_fapi-client_id", "b"),
        ("x-fapi-anything", "c"),
        ("x-fapi-interaction-id", "d"),
        ("x-fap", "e"),
    ]);
    drop_identity(&mut found);
    assert_eq!(found.len(), 2);
    assert!(found.contains_key("x-fapi-interaction-id") && found.contains_key("x-fap"));
}
