use super::*;

fn told(rejection: Rejection, scheme: Scheme) -> (u16, Option<&'static str>, String) {
    let answer = answer(rejection, scheme, &Needed::default());
    assert_eq!(answer.wants_nonce, answer.error == Some("use_dpop_nonce"));
    (answer.status.as_u16(), answer.error, answer.www_authenticate.unwrap_or_default())
}

#[test]
fn without_credentials_both_schemes_are_offered_and_no_error_is_named() {
    let offer = r#"Bearer realm="fapi-mesh", DPoP algs="ES256 PS256 EdDSA""#;
    assert_eq!(told(Rejection::TokenMissing, Scheme::None), (401, None, offer.to_owned()));
}

#[test]
fn a_bad_token_is_told_in_its_own_scheme() {
    for rejection in [Rejection::TokenExpired, Rejection::BindingCertMismatch, Rejection::CallerMismatch] {
        let bearer = r#"Bearer error="invalid_token""#.to_owned();
        assert_eq!(told(rejection, Scheme::Bearer), (401, Some("invalid_token"), bearer));
        let dpop = r#"DPoP error="invalid_token", algs="ES256 PS256 EdDSA""#.to_owned();
        assert_eq!(told(rejection, Scheme::Dpop), (401, Some("invalid_token"), dpop));
    }
}

#[test]
fn a_bad_proof_is_told_as_such() {
    let proof = r#"DPoP error="invalid_dpop_proof", algs="ES256 PS256 EdDSA""#.to_owned();
    assert_eq!(told(Rejection::ProofHtu, Scheme::Dpop), (401, Some("invalid_dpop_proof"), proof));
    let nonce = r#"DPoP error="use_dpop_nonce", algs="ES256 PS256 EdDSA""#.to_owned();
    assert_eq!(told(Rejection::ProofNonceStale, Scheme::Dpop), (401, Some("use_dpop_nonce"), nonce));
}

#[test]
fn an_ambiguous_request_is_told_in_both_schemes() {
    let both = r#"Bearer error="invalid_request", DPoP error="invalid_request", algs="ES256 PS256 EdDSA""#.to_owned();
    for scheme in [Scheme::None, Scheme::Bearer, Scheme::Dpop] {
        assert_eq!(told(Rejection::RequestMalformed, scheme), (400, Some("invalid_request"), both.clone()));
    }
}

#[test]
fn a_small_scope_is_told_with_the_one_needed() {
    for (scopes, challenge) in
        [("b a", r#"Bearer error="insufficient_scope", scope="a b""#), ("", r#"Bearer error="insufficient_scope""#)]
    {
        let needed = Needed { scopes: ScopeSet::parse(scopes).ok(), max_age: None };
        let answer = answer(Rejection::ScopeInsufficient, Scheme::Bearer, &needed);
        assert_eq!((answer.status.as_u16(), answer.www_authenticate.as_deref()), (403, Some(challenge)));
    }
}

#[test]
fn an_old_token_is_told_with_the_age_that_would_do() {
    let needed = Needed { scopes: None, max_age: Some(60) };
    let answer = answer(Rejection::TokenTooOld, Scheme::Dpop, &needed);
    let challenge = r#"DPoP error="insufficient_user_authentication", max_age="60", algs="ES256 PS256 EdDSA""#;
    assert_eq!((answer.status.as_u16(), answer.www_authenticate.as_deref()), (401, Some(challenge)));
    assert_eq!(answer.error, Some("insufficient_user_authentication"));
}

#[test]
fn every_rejection_has_an_answer_that_does_not_name_the_reason() {
    for rejection in Rejection::ALL {
        for scheme in [Scheme::None, Scheme::Bearer, Scheme::Dpop] {
            let (status, error, challenge) = told(*rejection, scheme);
            assert_eq!(status, rejection.status().unwrap_or(400));
            assert_eq!(status == 401, challenge.starts_with("Bearer") | challenge.starts_with("DPoP") && status == 401);
            assert!(!challenge.contains(rejection.id()), "{rejection}");
            assert_ne!(error, Some(rejection.id()), "{rejection}");
        }
    }
}
