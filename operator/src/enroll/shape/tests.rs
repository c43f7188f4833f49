use serde_json::{Value, json};

use super::*;
use crate::testing::NOW;

/// As an API server writes it, with a signature that it did not make.
fn token(header: &Value, claims: &Value) -> String {
    let encode = |value: &Value| URL_SAFE_NO_PAD.encode(value.to_string());
    format!("{}.{}.c2lnbmF0dXJl", encode(header), encode(claims))
}

fn header() -> Value {
    json!({"alg": "RS256", "kid": "cluster-key"})
}

fn claims() -> Value {
    let now = NOW.as_secs();
    json!({
        "aud": ["fapi-mesh.dev"], "exp": now + 600, "iat": now, "nbf": now,
        "iss": "https://kubernetes.default.svc.cluster.local", "jti": "1f0c3a2e-8d6b-4c57-9a1e-2b7d5f4e6c80",
        "kubernetes.io": {
            "namespace": "bank",
            "node": {"name": "node-1", "uid": "uid-of-node-1"},
            "pod": {"name": "shop-1", "uid": "uid-of-shop-1"},
            "serviceaccount": {"name": "shop", "uid": "uid-of-shop"},
        },
        "sub": "system:serviceaccount:bank:shop",
    })
}

/// What becomes of a token in which one claim is another, or gone.
fn with(claim: &str, value: Value) -> Result<(), TokenRefused> {
    let mut claims = claims();
    let place = claims.pointer_mut(claim).unwrap();
    *place = value;
    check(&token(&header(), &claims), NOW)
}

#[test]
fn the_token_of_a_pod_for_the_operator_is_worth_a_review() {
    for aud in
        [json!(["fapi-mesh.dev"]), json!("fapi-mesh.dev"), json!(["https://kubernetes.default.svc", "fapi-mesh.dev"])]
    {
        assert_eq!(with("/aud", aud), Ok(()));
    }
    assert_eq!(with("/kubernetes.io/node", Value::Null), Ok(()), "made before the pod had a node");
}

#[test]
fn what_is_for_others_or_over_is_not() {
    for aud in [json!([]), json!(""), json!(["https://kubernetes.default.svc"]), json!(["fapi-mesh.dev/"])] {
        assert_eq!(with("/aud", aud.clone()), Err(TokenRefused::Audience), "{aud}");
    }
    let now = NOW.as_secs();
    for (exp, expected) in [
        (0, Err(TokenRefused::Expired)),
        (now - 120, Err(TokenRefused::Expired)),
        (now - 119, Ok(())),
        (u64::MAX, Ok(())),
    ] {
        assert_eq!(with("/exp", exp.into()), expected, "{exp}: its clock may be behind ours");
    }
}

#[test]
fn what_is_not_the_token_of_a_pod_is_malformed() {
    for (claim, value) in [
        ("/aud", Value::Null),
        ("/exp", json!("9999999999")),
        ("/kubernetes.io", Value::Null),
        ("/kubernetes.io/namespace", json!("")),
        ("/kubernetes.io/pod", Value::Null),
        ("/kubernetes.io/pod", json!({"name": "shop-1"})),
        ("/kubernetes.io/pod/uid", json!("")),
        ("/kubernetes.io/serviceaccount/name", json!("")),
    ] {
        assert_eq!(with(claim, value.clone()), Err(TokenRefused::Malformed), "{claim}: {value}");
    }
    let good = token(&header(), &claims());
    let (signed, _) = good.rsplit_once('.').unwrap();
    for bad in [
        String::new(),
        "a.b.c".to_owned(),
        signed.to_owned(),
        format!("{signed}."),
        format!("{good}.x"),
        format!("{good}="),
        format!(" {good}"),
        token(&json!({}), &claims()),
        token(&header(), &json!([])),
        format!("{good}{}", "A".repeat(MAX_TOKEN)),
    ] {
        assert_eq!(check(&bad, NOW), Err(TokenRefused::Malformed), "{bad}");
    }
    assert_eq!(check(&good, NOW), Ok(()));
}
