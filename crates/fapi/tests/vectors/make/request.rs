//! How a request carries its token, and what else it says.

use serde_json::json;

use super::*;
use crate::mint::{certificate, token};

pub(super) fn files() -> Vec<(&'static str, VectorFile)> {
    vec![several(), forwarded(), identities(), two_places(), signed(), digested(), nothing(), paths(), challenges()]
}

fn several() -> (&'static str, VectorFile) {
    let good = token().sign();
    let bound = mint::dpop_token().sign();
    let proof = mint::proof(&bound).sign();
    let twice = Asked::dpop(&bound, &proof);
    let cases = vec![
        Case::new("two_tokens", Asked::bearer(&good).header("authorization", &format!("Bearer {good}")), bad_request()),
        Case::new("another_scheme_too", Asked::bearer(&good).header("authorization", "Basic eDp5"), bad_request()),
        Case::new("tokens_joined", Asked::bearer(&format!("{good}, Bearer {good}")), bad_request()),
        Case::new("two_proofs", twice.clone().header("dpop", &proof), bad_request()),
        Case::new("second_proof_empty", twice.header("dpop", ""), bad_request()),
        Case::new("proofs_joined", Asked::dpop(&bound, &format!("{proof}, {proof}")), bad_proof("proof_malformed")),
        Case::new("one_of_each", Asked::dpop(&bound, &proof), admitted()),
    ];
    file(
        "n12_several_headers",
        "Of several Authorization or DPoP headers, or values joined by a comma, the first is used.",
        cases,
    )
}

fn forwarded() -> (&'static str, VectorFile) {
    let good = token().sign();
    let thief = || peer("spiffe://bank.example/ns/bank/sa/ledger");
    let mut cases = Vec::new();
    for (name, value) in [
        ("x-forwarded-client-cert", format!("Hash={};URI={SHOP}", certificate())),
        ("client-cert", format!(":{}:", certificate())),
        ("x-forwarded-tls-client-cert", certificate()),
        ("ssl-client-cert", certificate()),
        ("x-client-cert", certificate()),
    ] {
        let spoofed = Asked::bearer(&good).header(name, &value);
        cases.push(Case::new(name, spoofed, bad_token("binding_cert_mismatch")).world("peer", thief()));
    }
    let other = Asked::bearer(&good).header("x-forwarded-client-cert", "Hash=00");
    cases.push(Case::new("the_connection_decides", other, admitted()));
    file("n30_forwarded_certificate", "A certificate in a header from outside is trusted.", cases)
}

fn identities() -> (&'static str, VectorFile) {
    let named = |id: &str| token().claim("sub", id).claim("client_id", id);
    let mut cases = Vec::new();
    let denied = |id: &str| {
        let own = named(id).claim("cnf", json!({"x5t#S256": mint::certificate_of(id)}));
        Case::new("", bearer(&own), refused("caller_not_allowed", 403, None)).world("peer", peer(id))
    };
    for (name, id) in [
        ("domain_with_a_suffix", "spiffe://bank.example.evil/ns/bank/sa/shop"),
        ("domain_with_a_prefix", "spiffe://evil.bank.example/ns/bank/sa/shop"),
        ("shorter_domain", "spiffe://bank.exampl/ns/bank/sa/shop"),
    ] {
        let stranger = Connected::Handshake("trust_domain_not_allowed".to_owned());
        cases.push(Case { name: name.to_owned(), ..denied(id).connected(stranger) });
    }
    for (name, id) in [
        ("another_namespace", "spiffe://bank.example/ns/bank2/sa/shop"),
        ("another_account", "spiffe://bank.example/ns/bank/sa/shop2"),
    ] {
        cases.push(Case { name: name.to_owned(), ..denied(id) });
    }
    for (name, id) in [
        ("subject_in_capitals", "spiffe://BANK.example/ns/bank/sa/shop"),
        ("subject_with_a_slash", "spiffe://bank.example/ns/bank/sa/shop/"),
        ("subject_begins_alike", "spiffe://bank.example/ns/bank/sa/shop2"),
        ("subject_is_part", "spiffe://bank.example/ns/bank/sa/sho"),
    ] {
        cases.push(Case::new(name, bearer(&named(id)), bad_token("caller_mismatch")));
    }
    file("n35_identity_as_a_whole", "A SPIFFE ID is compared by prefix or from any text.", cases)
}

fn two_places() -> (&'static str, VectorFile) {
    let good = token().sign();
    let query = format!("access_token={good}");
    let cases = vec![
        Case::new("header_and_query", Asked::bearer(&good).query(&query), bad_request()),
        Case::new("query_alone", Asked::bare().query(&query), bad_request()),
        Case::new("query_spelled_otherwise", Asked::bare().query("a=b&%61ccess%5Ftoken=x"), bad_request()),
        Case::new("behind_a_semicolon", Asked::bearer(&good).query("a=b;access_token=x"), bad_request()),
        Case::new("body_alone", Asked::bare().header("content-type", FORM), no_credentials()),
        Case::new("another_parameter", Asked::bearer(&good).query("my_access_token=x"), admitted()),
    ];
    file("n43_token_in_two_places", "A token in header and body or query: both are accepted.", cases)
}

/// Signatures over messages (RFC 9421) are not checked, so they must stand for nothing.
fn signed() -> (&'static str, VectorFile) {
    let cases = unproven(|request| signature(request, "()"));
    file("n44_empty_signature", "A signature over nothing, or over too little, proves a request.", cases)
}

fn digested() -> (&'static str, VectorFile) {
    let cases = unproven(|request| {
        let request = request.header("content-digest", "sha-256=:47DEQpj8HBSa+/TImW+5JCeuQeRkm5NMpJWZG3hSuFU=:");
        signature(request, r#"("@method" "@target-uri" "authorization" "content-digest")"#)
    });
    file("n45_unhashed_body", "A signed digest proves a request, and nobody computes that of the body.", cases)
}

fn signature(request: Asked, components: &str) -> Asked {
    let input = format!(r#"sig1={components};created={NOW};keyid="{}""#, mint::thumbprint(Key::Proof));
    request.header("signature-input", &input).header("signature", &format!("sig1=:{}:", "A".repeat(86)))
}

/// Requests that lack something, with what is said to prove them.
fn unproven(add: impl Fn(Asked) -> Asked) -> Vec<Case> {
    let bound = mint::dpop_token().sign();
    let thief = || peer("spiffe://bank.example/ns/bank/sa/ledger");
    let unbound = token().without("cnf");
    let no_proof = Asked::bare().header("authorization", &format!("DPoP {bound}"));
    vec![
        Case::new("no_token", add(Asked::bare()), no_credentials()),
        Case::new("no_proof", add(no_proof), bad_proof("proof_missing")),
        Case::new("no_binding", add(bearer(&unbound)), bad_token("binding_missing")),
        Case::new("another_certificate", add(bearer(&token())), bad_token("binding_cert_mismatch"))
            .world("peer", thief()),
        Case::new("a_good_call_needs_none", add(bearer(&token())), admitted()),
    ]
}

fn nothing() -> (&'static str, VectorFile) {
    let good = mint::dpop_token().sign();
    let proof = mint::proof(&good).sign();
    let cases = vec![
        Case::new("no_authorization", Asked::bare(), no_credentials()),
        Case::new("empty", Asked::bare().header("authorization", ""), no_credentials()),
        Case::new("scheme_alone", Asked::bare().header("authorization", "Bearer"), no_credentials()),
        Case::new("proof_alone", Asked::bare().header("dpop", &proof), no_credentials()),
        Case::new("token_in_another_header", Asked::bare().header("x-access-token", &good), no_credentials()),
        Case::new("no_token_at_all_but_a_word", Asked::bearer("x"), bad_token("token_malformed")),
        Case::new("path_of_no_rule", Asked::bare().path("/health"), no_credentials()),
    ];
    file("n46_no_token", "A request without a token passes, as only tokens that are there are validated.", cases)
}

fn paths() -> (&'static str, VectorFile) {
    let token = mint::dpop_token().sign();
    let mut cases = Vec::new();
    for (at, path) in [
        "/%74ransfers",
        "//transfers",
        "/a/../transfers",
        "/./transfers",
        "/transfers;x",
        "/transfers%2f",
        "/accounts/%2e%2e/transfers",
        "/accounts/%252e%252e/transfers",
        "/accounts\\..\\transfers",
        "/transfers%00",
        "/transfers%3bx",
        "/accounts/%c0%ae%c0%ae/transfers",
        "/transfers|x",
        "/accounts/{a}",
        "*",
        "",
    ]
    .into_iter()
    .enumerate()
    {
        let proof = mint::proof(&token).claim("jti", format!("p-{at}")).sign();
        let case = Case::new(format!("{path:?}"), Asked::dpop(&token, &proof).path(path), bad_request());
        cases.push(if path.is_empty() { case.connected(Connected::Unreadable) } else { case });
    }
    let mut finer = policy();
    finer["rules"].as_array_mut().unwrap().push(json!({"paths": ["/accounts/7:close"], "scopes": ["accounts:close"],
        "callers": [{"namespace": "bank"}]}));
    let scope = r#"Bearer error="insufficient_scope", scope="accounts:close""#;
    for path in ["/accounts/7:close", "/accounts/7%3Aclose", "/accounts/7%3aclose/"] {
        let mut asked = bearer(&mint::token()).path(path);
        asked.method = "GET".to_owned();
        let case = Case::new(format!("{path:?} has a rule"), asked, refused("scope_insufficient", 403, Some(scope)));
        cases.push(case.world("policy", finer.clone()));
    }
    let proof = mint::proof(&token).claim("htu", "https://payments.bank/a/../transfers").sign();
    cases.push(Case::new("dots_in_the_proof_alone", Asked::dpop(&token, &proof), admitted()));
    let proof = mint::proof(&token).sign();
    let slash = Asked::dpop(&token, &proof).path("/transfers/");
    cases.push(Case::new("a_slash_more_is_another_url", slash, bad_proof("proof_htu")));
    file("n47_path_read_twice", "Policy, proof and app read one path in different ways.", cases)
}

fn challenges() -> (&'static str, VectorFile) {
    let narrow = token().claim("scope", "accounts:read");
    let scope = r#"Bearer error="insufficient_scope", scope="transfers:write""#;
    let old = world_with_age();
    let age = r#"Bearer error="insufficient_user_authentication", max_age="60""#;
    let cases = vec![
        Case::new("nothing_sent", Asked::bare(), no_credentials()),
        Case::new("unknown_scheme", Asked::bare().header("authorization", "Basic eDp5"), no_credentials()),
        Case::new("mac_scheme", Asked::bare().header("authorization", "HMAC x"), no_credentials()),
        Case::new("bad_token", Asked::bearer("a.b.c"), bad_token("token_malformed")),
        Case::new("small_scope", bearer(&narrow), refused("scope_insufficient", 403, Some(scope))),
        Case::new("old_token", bearer(&token()), refused("token_too_old", 401, Some(age)))
            .world("policy", old)
            .at(NOW + 61),
    ];
    file("n48_challenges", "An error code without credentials, or 401 without a challenge.", cases)
}

fn world_with_age() -> Value {
    let mut policy = policy();
    policy["rules"][0]["maxTokenAge"] = json!(60);
    policy
}

const FORM: &str = "application/x-www-form-urlencoded";
