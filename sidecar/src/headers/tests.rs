use http::{Request, Uri};

use super::*;

fn parts(headers: &[(&str, &str)]) -> request::Parts {
    let mut request = Request::builder().method("GET").uri("/a");
    for (name, value) in headers {
        request = request.header(*name, *value);
    }
    request.body(()).unwrap().into_parts().0
}

fn cleaned(headers: &[(&str, &str)]) -> Result<HeaderMap, Rejection> {
    let mut parts = parts(headers);
    clean_request(&mut parts).map(|_| parts.headers)
}

fn names(headers: &HeaderMap) -> Vec<&str> {
    headers.keys().map(HeaderName::as_str).collect()
}

#[test]
fn an_ordinary_request_passes_untouched() {
    let headers = [("host", "payments.bank"), ("accept", "*/*"), ("content-type", "a/b"), ("content-length", "3")];
    assert_eq!(names(&cleaned(&headers).unwrap()), ["host", "accept", "content-type", "content-length"]);
}

#[test]
fn what_claims_an_identity_is_taken_out_however_it_is_spelled() {
    for name in [
        "x-fapi-caller",
        "X_Fapi_Caller",
        "x-fapi_client-id",
        "x_fapi-anything-at-all-that-is-longer-than-every-known-name",
        "X-Forwarded-Client-Cert",
        "client-cert",
        "Client_Cert_Chain",
        "x-forwarded-tls-client-cert-info",
        "ssl-client-cert",
        "x-ssl-client-verify",
        "X_SSL_CLIENT_S_DN",
        "X-SSL-Cert",
        "x_ssl_certificate_verified",
        "cf-client-cert-der-base64",
        "Cf_Client_Cert_Sha256",
        "X-WSO2-CLIENT-CERTIFICATE",
        "txn-token",
        "x-original-url",
        "x_rewrite_url",
        "x-http-method",
        "X-HTTP_Method-Override",
        "x-method-override",
    ] {
        assert_eq!(names(&cleaned(&[("host", "a"), (name, "v")]).unwrap()), ["host"], "{name}");
        let mut trailers: HeaderMap =
            [(HeaderName::from_bytes(name.as_bytes()).unwrap(), HeaderValue::from_static("v"))].into_iter().collect();
        clean_request_trailers(&mut trailers);
        assert!(trailers.is_empty(), "{name}");
    }
}

#[test]
fn what_goes_out_of_the_mesh_loses_only_what_is_ours_and_what_ends_here() {
    let mut out = parts(&[
        ("host", "a"),
        ("x-http-method-override", "PUT"),
        ("client-cert", ":AAAA:"),
        ("x-ssl-client-verify", "NONE"),
        ("authorization", "Bearer x"),
        ("x-fapi-context", "c"),
        ("X_Fapi-Caller", "me"),
        ("x-fapi", "1"),
        ("connection", "x-private"),
        ("x-private", "1"),
        ("te", "trailers"),
    ]);
    assert!(clean_request_outside(&mut out).unwrap().trailers);
    let left = ["host", "x-http-method-override", "client-cert", "x-ssl-client-verify", "authorization", "x-fapi"];
    assert_eq!(names(&out.headers), left);
    let two = [("host", "a"), ("content-length", "3"), ("transfer-encoding", "chunked")];
    assert_eq!(clean_request_outside(&mut parts(&two)), Err(Rejection::RequestMalformed));
}

#[test]
fn names_that_only_look_alike_stay() {
    let people = ["remote-user", "x-remote-user", "x-forwarded-user"];
    let alike = ["x-forwarded-for", "x-http-methods", "x-original-url-2", "x-fapi", "client", "ssl", "cf-ray", "x-ssl"];
    for name in alike.into_iter().chain(people) {
        assert_eq!(names(&cleaned(&[("host", "a"), (name, "v")]).unwrap()), ["host", name]);
    }
}

#[test]
fn fields_of_the_connection_end_here() {
    let headers = cleaned(&[
        ("host", "a"),
        ("connection", "close, X-Private"),
        ("x-private", "1"),
        ("keep-alive", "timeout=5"),
        ("proxy-connection", "keep-alive"),
        ("te", "trailers"),
        ("expect", "100-continue"),
        ("upgrade", "foo"),
        ("http2-settings", "AAMAAABkAAQAAP__"),
        ("proxy-authorization", "Basic x"),
        ("accept", "*/*"),
    ]);
    assert_eq!(names(&headers.unwrap()), ["host", "accept"]);
}

#[test]
fn a_token_that_connection_names_is_gone_before_the_decision() {
    let headers = cleaned(&[("host", "a"), ("authorization", "Bearer x"), ("connection", "authorization")]);
    assert_eq!(names(&headers.unwrap()), ["host"]);
}

#[test]
fn two_ways_to_read_the_length_are_refused() {
    for headers in [
        [("content-length", "3"), ("content-length", "3")],
        [("content-length", "3"), ("transfer-encoding", "chunked")],
        [("transfer-encoding", "chunked"), ("transfer-encoding", "chunked")],
        [("transfer-encoding", "gzip, chunked"), ("accept", "*/*")],
        [("transfer-encoding", "identity"), ("accept", "*/*")],
    ] {
        let mut headers = headers.to_vec();
        headers.push(("host", "a"));
        assert_eq!(cleaned(&headers), Err(Rejection::RequestMalformed), "{headers:?}");
    }
}

#[test]
fn there_is_one_authority() {
    for headers in [
        vec![],
        vec![("host", "")],
        vec![("host", "a"), ("host", "a")],
        vec![("host", "user@a")],
        vec![("host", "a, b")],
        vec![("host", "a/b")],
        vec![("host", "a"), ("connection", "host")],
    ] {
        assert_eq!(cleaned(&headers), Err(Rejection::RequestMalformed), "{headers:?}");
    }
    let mut absolute = parts(&[("host", "Payments.bank")]);
    absolute.uri = Uri::from_static("https://payments.bank/a");
    assert!(clean_request(&mut absolute).is_ok());
    absolute.uri = Uri::from_static("https://ledger.bank/a");
    assert_eq!(clean_request(&mut absolute), Err(Rejection::RequestMalformed));
    let mut only_target = parts(&[]);
    only_target.uri = Uri::from_static("https://payments.bank/a");
    assert!(clean_request(&mut only_target).is_ok());
    assert_eq!(only_target.headers[http::header::HOST], "payments.bank");
}

#[test]
fn only_a_websocket_may_upgrade() {
    let websocket = [("host", "a"), ("connection", "keep-alive, Upgrade"), ("upgrade", "WebSocket")];
    assert!(clean_request(&mut parts(&websocket)).unwrap().websocket);
    assert!(!clean_request(&mut parts(&[("host", "a"), ("upgrade", "websocket")])).unwrap().websocket);
    let mut by_http2 = parts(&websocket);
    by_http2.version = Version::HTTP_2;
    assert!(!clean_request(&mut by_http2).unwrap().websocket);
    for h2c in ["h2c", "websocket, H2C"] {
        let headers = [("host", "a"), ("connection", "upgrade"), ("upgrade", h2c)];
        assert_eq!(cleaned(&headers), Err(Rejection::RequestMalformed));
    }
    let mut connect = parts(&[("host", "a")]);
    connect.method = Method::CONNECT;
    assert_eq!(clean_request(&mut connect), Err(Rejection::RequestMalformed));
}

#[test]
fn crumbs_of_a_cookie_are_joined_for_http1() {
    let mut split = parts(&[("host", "a"), ("cookie", "a=1"), ("cookie", "b=2")]);
    split.version = Version::HTTP_2;
    clean_request(&mut split).unwrap();
    assert_eq!(split.headers.get_all(COOKIE).iter().collect::<Vec<_>>(), ["a=1; b=2"]);
}

#[test]
fn too_many_fields_are_refused() {
    let names: Vec<_> = (0..101).map(|number| format!("n{number}")).collect();
    let headers: Vec<_> = names.iter().map(|name| (name.as_str(), "v")).collect();
    assert_eq!(cleaned(&headers), Err(Rejection::HeaderTooLarge));
}

#[test]
fn an_answer_loses_what_only_sidecars_say() {
    let mut headers = HeaderMap::new();
    for (name, value) in [
        ("connection", "x-private"),
        ("x-private", "1"),
        ("dpop-nonce", "n"),
        ("x-fapi-caller", "me"),
        ("x_fapi_context", "c"),
        ("x-fapi_context", "c"),
        ("x-fapi-context", "c"),
        ("x-fapi", "1"),
        ("www-authenticate", "Basic realm=\"a\""),
        ("www-authenticate", "dpop error=\"use_dpop_nonce\""),
        ("www-authenticate", "Bearer, DPoP algs=\"ES256\""),
        ("content-type", "a/b"),
    ] {
        headers.append(HeaderName::from_static(name), HeaderValue::from_static(value));
    }
    clean_response(&mut headers);
    let mut left = names(&headers);
    left.sort_unstable();
    assert_eq!(left, ["content-type", "www-authenticate", "x-fapi"]);
    assert_eq!(headers.get_all(WWW_AUTHENTICATE).iter().collect::<Vec<_>>(), ["Basic realm=\"a\"", "Bearer"]);
}

#[test]
fn of_an_answer_with_two_lengths_the_false_one_is_taken_out() {
    let fields = [("content-length", "3"), ("transfer-encoding", "chunked"), ("content-type", "a/b")];
    let mut both: HeaderMap = fields
        .into_iter()
        .map(|(name, value)| (HeaderName::from_static(name), HeaderValue::from_static(value)))
        .collect();
    clean_response(&mut both);
    assert_eq!(names(&both), ["content-type"]);
    let mut one: HeaderMap = [(CONTENT_LENGTH, HeaderValue::from_static("3"))].into_iter().collect();
    clean_response(&mut one);
    assert_eq!(names(&one), ["content-length"]);
}

#[test]
fn trailers_of_an_answer_lose_what_only_sidecars_say() {
    let said = ["dpop-nonce", "x-fapi-interaction-id", "x_fapi_context", "x-fapi-caller", "x-sum"];
    let mut trailers: HeaderMap =
        said.into_iter().map(|name| (HeaderName::from_static(name), HeaderValue::from_static("v"))).collect();
    clean_response_trailers(&mut trailers);
    assert_eq!(names(&trailers), ["x-sum"]);
}
