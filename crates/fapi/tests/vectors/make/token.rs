//! Form, claims and times of the token.

use serde_json::json;

use super::*;
use crate::mint::{base64url, proof, signed_texts, token};

pub(super) fn files() -> Vec<(&'static str, VectorFile)> {
    vec![extensions(), numbers(), left_out(), audiences(), twice(), types(), clocks(), endings()]
}

fn extensions() -> (&'static str, VectorFile) {
    let mut cases = Vec::new();
    for (name, member, value) in [
        ("crit_unknown", "crit", json!(["x"])),
        ("crit_known", "crit", json!(["exp"])),
        ("crit_empty", "crit", json!([])),
        ("b64_false", "b64", json!(false)),
        ("b64_true", "b64", json!(true)),
    ] {
        let bad = bearer(&token().head(member, value.clone()));
        cases.push(Case::new(format!("token_{name}"), bad, bad_token("token_malformed")));
        let bad = bent(|proof| proof.head(member, value));
        cases.push(Case::new(format!("proof_{name}"), bad, bad_proof("proof_malformed")));
    }
    let both = token().head("crit", json!(["b64"])).head("b64", false);
    cases.push(Case::new("crit_names_b64", bearer(&both), bad_token("token_malformed")));
    cases.push(Case::new("unknown_and_not_critical", bearer(&token().head("x", 1)), admitted()));
    file("n20_critical_extensions", "crit is ignored, or b64 false accepted.", cases)
}

fn numbers() -> (&'static str, VectorFile) {
    let bad = ["\"9999999999\"", "1e30", "-1", "1800000000.5", "99999999999999999999", "null", "[1800000000]", "true"];
    let mut cases = Vec::new();
    for name in ["exp", "nbf", "iat"] {
        for text in bad {
            let value: Value = serde_json::from_str(text).unwrap();
            let bad = bearer(&token().claim(name, value));
            cases.push(Case::new(format!("{name} {text}"), bad, bad_token("token_malformed")));
        }
    }
    for text in bad {
        let value: Value = serde_json::from_str(text).unwrap();
        let bad = bent(|proof| proof.claim("iat", value));
        cases.push(Case::new(format!("proof iat {text}"), bad, bad_proof("proof_malformed")));
    }
    let year_10000 = bearer(&token().claim("exp", 253_402_300_800_u64));
    cases.push(Case::new("exp after the year 9999", year_10000, bad_token("token_malformed")));
    file(
        "n21_times_are_numbers",
        "A time that is no number, or too large, counts as absent or as the end of time.",
        cases,
    )
}

fn left_out() -> (&'static str, VectorFile) {
    let mut cases = Vec::new();
    for name in ["iss", "sub", "client_id", "aud", "jti", "iat", "exp"] {
        for (how, bad) in [("without", token().without(name)), ("null", token().claim(name, Value::Null))] {
            cases.push(Case::new(format!("{how}_{name}"), bearer(&bad), bad_token("token_malformed")));
        }
    }
    for name in ["sub", "client_id", "jti"] {
        let bad = bearer(&token().claim(name, ""));
        cases.push(Case::new(format!("empty_{name}"), bad, bad_token("token_malformed")));
    }
    let nobody = bearer(&token().claim("aud", json!([])));
    cases.push(Case::new("aud_empty_list", nobody, bad_token("token_malformed")));
    file("n22_claims_left_out", "A token without exp, aud, iss or another required claim passes.", cases)
}

fn audiences() -> (&'static str, VectorFile) {
    let mut cases = Vec::new();
    for (name, audience, expect) in [
        ("another_service", json!("https://ledger.bank"), bad_token("audience_mismatch")),
        ("other_services", json!(["https://ledger.bank", "https://shop.bank"]), bad_token("audience_mismatch")),
        ("with_a_slash", json!("https://payments.bank/"), bad_token("audience_mismatch")),
        ("with_a_suffix", json!("https://payments.bank.evil"), bad_token("audience_mismatch")),
        ("the_origin_alone", json!("https://api.bank.example"), bad_token("audience_mismatch")),
        ("in_capitals", json!("https://PAYMENTS.bank"), bad_token("audience_mismatch")),
        ("the_issuer", json!(ISSUER), bad_token("audience_mismatch")),
        ("empty", json!(""), bad_token("audience_mismatch")),
        ("this_and_another", json!(["https://ledger.bank", AUDIENCE]), admitted()),
        ("this", json!(AUDIENCE), admitted()),
    ] {
        cases.push(Case::new(name, bearer(&token().claim("aud", audience)), expect));
    }
    file("n23_audience_per_service", "A token for service A is taken at service B.", cases)
}

fn twice() -> (&'static str, VectorFile) {
    let (header, claims) = token().texts();
    let bad = || bad_token("token_malformed");
    let case = |name: &str, header: &str, claims: &str, expect| {
        Case::new(name, Asked::bearer(&signed_texts(Key::Issuer, header, claims)), expect)
    };
    let mut cases = vec![
        case("once", &header, &claims, admitted()),
        case("alg", &header.replacen('{', r#"{"alg":"none","#, 1), &claims, bad()),
        case("alg_alike", &header.replacen('{', r#"{"alg":"ES256","#, 1), &claims, bad()),
        case("typ", &header.replacen('{', r#"{"typ":"JWT","#, 1), &claims, bad()),
        case("sub", &header, &claims.replacen('{', r#"{"sub":"admin","#, 1), bad()),
        case("sub_escaped", &header, &claims.replacen('{', r#"{"s\u0075b":"admin","#, 1), bad()),
        case("cnf", &header, &claims.replacen('{', r#"{"cnf":{},"#, 1), bad()),
        case("inside_cnf", &header, &claims.replacen(r#""cnf":{"#, r#""cnf":{"x5t#S256":"x","#, 1), bad()),
        case("inside_what_nobody_reads", &header, &claims.replacen('{', r#"{"x":[{"y":1,"y":2}],"#, 1), bad()),
    ];
    let bound = mint::dpop_token().sign();
    let (header, claims) = proof(&bound).texts();
    for (name, header, claims) in [
        ("proof_htm", header.clone(), claims.replacen('{', r#"{"htm":"GET","#, 1)),
        ("proof_ath", header.clone(), claims.replacen('{', r#"{"ath":"x","#, 1)),
        ("proof_kty", header.replacen(r#""jwk":{"#, r#""jwk":{"kty":"EC","#, 1), claims.clone()),
    ] {
        let proof = signed_texts(Key::Proof, &header, &claims);
        cases.push(Case::new(name, Asked::dpop(&bound, &proof), bad_proof("proof_malformed")));
    }
    file("n27_members_twice", "Two layers read different copies of a repeated member.", cases)
}

fn types() -> (&'static str, VectorFile) {
    let mut cases = Vec::new();
    for typ in [
        "JWT",
        "jwt",
        "id_token+jwt",
        "client-authentication+jwt",
        "logout+jwt",
        "token-introspection+jwt",
        "secevent+jwt",
        "dpop+jwt",
        "oauth-authz-req+jwt",
        "at+jwt;v=1",
        " at+jwt",
        "",
    ] {
        cases.push(Case::new(format!("typ {typ:?}"), bearer(&token().head("typ", typ)), bad_token("token_type")));
    }
    cases.push(Case::new("no typ", bearer(&token().headless("typ")), bad_token("token_type")));
    for typ in ["at+jwt", "AT+JWT", "application/at+jwt"] {
        cases.push(Case::new(format!("typ {typ:?}"), bearer(&token().head("typ", typ)), admitted()));
    }
    let bound = mint::dpop_token().sign();
    cases.push(Case::new("a token as proof", Asked::dpop(&bound, &bound), bad_proof("proof_malformed")));
    let proof = proof(&bound).sign();
    cases.push(Case::new("a proof as token", Asked::dpop(&proof, &proof), bad_bound_token("token_malformed")));
    let nested = format!("{}.{}.{}.{}.{}", base64url("{}"), "", "", "", "");
    cases.push(Case::new("encrypted", Asked::bearer(&nested), bad_token("token_malformed")));
    file("n28_other_jwts", "An ID token, assertion, logout or introspection JWT is taken as access token.", cases)
}

fn clocks() -> (&'static str, VectorFile) {
    let mut cases = Vec::new();
    for name in ["iat", "nbf"] {
        for (ahead, good) in [(0, true), (8, true), (10, true), (11, false), (61, false), (3600, false)] {
            let expect = if good { admitted() } else { bad_token("token_not_yet_valid") };
            let ahead_token = token().claim(name, NOW + ahead).claim("exp", NOW + 9000);
            cases.push(Case::new(format!("{name} {ahead} s ahead"), bearer(&ahead_token), expect));
        }
    }
    for (ahead, good) in [(8, true), (10, true), (11, false), (61, false)] {
        let expect = if good { admitted() } else { bad_proof("proof_stale") };
        cases.push(Case::new(format!("proof {ahead} s ahead"), bent(|proof| proof.claim("iat", NOW + ahead)), expect));
    }
    file("n49_clocks_ahead", "A future iat within 10 s is refused, or one over 60 s accepted.", cases)
}

fn endings() -> (&'static str, VectorFile) {
    let call = bearer(&token());
    let cached =
        |later: u64, expect| Case::new(format!("cached, {later} s later"), call.clone(), expect).at(NOW + later);
    let short = bearer(&token().claim("exp", NOW + 2));
    let short_case = |later: u64, expect| {
        Case::new(format!("a life of 2 s, {later} s later"), short.clone(), expect).at(NOW + later)
    };
    let ended = || bad_token("token_expired");
    let mut cases: Vec<_> =
        [cached(299, admitted()), cached(304, admitted()), cached(305, ended()), cached(9999, ended())]
            .map(|case| case.after(NOW, call.clone(), admitted()))
            .into();
    cases.extend([short_case(1, admitted()), short_case(6, admitted()), short_case(7, ended())]);
    for (name, revoked, issued_before, expect) in [
        ("this token", json!({"token": {"issuer": ISSUER, "id": "t-1"}}), None, bad_token("revoked")),
        ("its client", json!({"client": {"issuer": ISSUER, "id": SHOP}}), Some(NOW + 1), bad_token("revoked")),
        ("its client up to now", json!({"client": {"issuer": ISSUER, "id": SHOP}}), Some(NOW), admitted()),
        ("another token", json!({"token": {"issuer": ISSUER, "id": "t-2"}}), None, admitted()),
        (
            "a token of another issuer",
            json!({"token": {"issuer": "https://other.example", "id": "t-1"}}),
            None,
            admitted(),
        ),
    ] {
        let mut revocation = json!({"revoked": revoked, "expires": NOW + 300});
        if let Some(time) = issued_before {
            revocation["issuedBefore"] = json!(time);
        }
        let case = Case::new(format!("cached, then {name} is revoked"), call.clone(), expect).at(NOW + 1);
        cases.push(case.after(NOW, call.clone(), admitted()).revoked(revocation));
    }
    file(
        "n50_ended_tokens",
        "A token that has ended or was revoked is served from a cache, or by a leeway longer than its life.",
        cases,
    )
}
