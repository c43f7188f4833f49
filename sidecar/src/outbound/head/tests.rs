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
fn an_answer_loses_what_belongs_to_one_hop_and_a_length_that_is_none() {
    let mut found = headers(&[
        ("connection", "close, x-one"),
        ("connection", "X-Two"),
        ("x-one", "1"),
        ("x-two", "2"),
        ("x-two", "3"),
        ("x-three", "4"),
        ("content-length", "7"),
        ("upgrade", "h2c"),
        ("keep-alive", "timeout=5"),
        ("transfer-encoding", "chunked"),
    ]);
    clean_response(&mut found, true);
    assert_eq!(found.keys().map(HeaderName::as_str).collect::<Vec<_>>(), ["x-three"]);
}

#[test]
fn only_challenges_about_tokens_are_taken_out_of_answers() {
    let mut found = headers(&[
        ("www-authenticate", "DPoP error=\"use_dpop_nonce\""),
        ("www-authenticate", "Basic realm=\"x\""),
        ("www-authenticate", "bearer"),
        ("www-authenticate", "Bearer error=\"invalid_token\", Digest realm=\"bearer, dpop\""),
        ("dpop-nonce", "n"),
        ("content-type", "text/plain"),
    ]);
    clean_response(&mut found, true);
    let left: Vec<_> = found.get_all(header::WWW_AUTHENTICATE).iter().collect();
    assert_eq!(left, ["Basic realm=\"x\"", "Digest realm=\"bearer, dpop\""]);
    assert_eq!(found.len(), 3);
}

#[test]
fn an_answer_from_outside_the_mesh_keeps_its_challenges_and_nonces() {
    let kept = [
        ("www-authenticate", "Bearer realm=\"api\""),
        ("www-authenticate", "DPoP algs=\"ES256\", error=\"use_dpop_nonce\""),
        ("dpop-nonce", "n"),
    ];
    let mut found = headers(&kept);
    let expected = found.clone();
    found.extend(headers(&[("connection", "x-one"), ("x-one", "1"), ("x-fapi-context", "c"), ("keep-alive", "max=5")]));
    found.extend(headers(&[("x_fapi_context", "c"), ("x-fapi-caller", "me")]));
    clean_response(&mut found, false);
    assert_eq!(found, expected);
}
