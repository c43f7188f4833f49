//! What a proof must say, and which URL it is for.

use serde_json::json;

use super::*;
use crate::mint::{base64url, dpop_token, proof};

pub(super) fn files() -> Vec<(&'static str, VectorFile)> {
    vec![queries(), hosts(), broken_urls(), hashes(), private_keys()]
}

fn queries() -> (&'static str, VectorFile) {
    let mut cases = Vec::new();
    for (name, htu, good) in [
        ("query_cut_off", "https://payments.bank/transfers", true),
        ("query_kept", "https://payments.bank/transfers?x=1", true),
        ("another_query", "https://payments.bank/transfers?y=2", true),
        ("fragment", "https://payments.bank/transfers#top", true),
        ("query_and_fragment", "https://payments.bank/transfers?x=1#top", true),
        ("capitals", "HTTPS://Payments.BANK/transfers", true),
        ("default_port", "https://payments.bank:443/transfers", true),
        ("needless_encoding", "https://payments.bank/%74ransfers", true),
        ("the_other_origin", "https://api.bank.example/transfers", true),
        ("another_port", "https://payments.bank:8443/transfers", false),
        ("plain_http", "http://payments.bank/transfers", false),
        ("another_path", "https://payments.bank/accounts", false),
        ("path_in_capitals", "https://payments.bank/Transfers", false),
        ("path_behind_a_fragment", "https://payments.bank/#/transfers", false),
        ("path_in_the_query", "https://payments.bank/?/transfers", false),
    ] {
        let expect = if good { admitted() } else { bad_proof("proof_htu") };
        let asked = bent(|proof| proof.claim("htu", htu));
        cases.push(Case::new(format!("{name}_with_query"), asked.clone().query("x=1"), expect.clone()));
        cases.push(Case::new(name, asked, expect));
    }
    file("n1_htu_and_query", "htu is compared with its query, or a query in it is refused.", cases)
}

fn hosts() -> (&'static str, VectorFile) {
    let evil = || bent(|proof| proof.claim("htu", "https://evil.example/transfers"));
    let mut cases = Vec::new();
    for (name, value) in [
        ("host", "evil.example"),
        ("x-forwarded-host", "evil.example"),
        ("forwarded", "host=evil.example;proto=https"),
        ("x-forwarded-server", "evil.example"),
        ("x-original-host", "evil.example"),
    ] {
        cases.push(Case::new(name, evil().header(name, value), bad_proof("proof_htu")));
        let good = bent(|proof| proof).header(name, value);
        cases.push(Case::new(format!("{name}_does_not_decide"), good, admitted()));
    }
    for (name, value) in
        [("x-forwarded-prefix", "/api"), ("x-original-url", "/api/transfers"), ("x-rewrite-url", "/api/transfers")]
    {
        let other = bent(|proof| proof.claim("htu", "https://payments.bank/api/transfers"));
        cases.push(Case::new(name, other.header(name, value), bad_proof("proof_htu")));
    }
    let slash = bent(|proof| proof.claim("htu", "https://payments.bank/transfers/"));
    cases.push(Case::new("a_slash_more", slash, bad_proof("proof_htu")));
    file("n2_htu_from_headers", "The URL is built from Host, forwarded headers or the path of a backend.", cases)
}

fn broken_urls() -> (&'static str, VectorFile) {
    let mut cases = Vec::new();
    for htu in [
        "",
        "x",
        "https",
        "https:",
        "https://",
        "https:///transfers",
        "https://[::1/transfers",
        "https://]/transfers",
        "https://payments.bank:99999/transfers",
        "https://payments.bank:-1/transfers",
        "https://payments.bank:x/transfers",
        "https://user@payments.bank/transfers",
        "https://payments.bank\\@evil/transfers",
        "https://payments.bank/transfers%",
        "https://payments.bank/transfers%2",
        "https://payments.bank/\u{e9}",
        "https://\u{fc}/transfers",
        "//payments.bank/transfers",
        "https://payments.bank /transfers",
    ] {
        cases.push(Case::new(format!("htu {htu:?}"), bent(|proof| proof.claim("htu", htu)), bad_proof("proof_htu")));
    }
    for host in ["", "[::1", "a b", "payments.bank:x", "%", "payments.bank, evil.example"] {
        let asked = bent(|proof| proof).header("host", host);
        let case = Case::new(format!("host {host:?} is not read"), asked, admitted());
        cases.push(case.connected(Connected::Decided(bad_request())));
    }
    file("n3_malformed_host_or_url", "A malformed Host or URL makes the validator crash.", cases)
}

fn hashes() -> (&'static str, VectorFile) {
    let bad = || bad_proof("proof_ath");
    let token = dpop_token().sign();
    let right = fapi::TokenHash::of(&token).ath();
    let with = |ath: Value| Asked::dpop(&token, &proof(&token).claim("ath", ath).sign());
    let cases = vec![
        Case::new("no_ath", bent(|proof| proof.without("ath")), bad()),
        Case::new("empty", with(json!("")), bad()),
        Case::new("of_another_token", with(json!(fapi::TokenHash::of("another").ath())), bad()),
        Case::new("padded", with(json!(format!("{right}="))), bad()),
        Case::new("hex", with(json!("3c".repeat(32))), bad()),
        Case::new("the_token_itself", with(json!(token)), bad()),
        Case::new("half_of_it", with(json!(right[..21])), bad()),
        Case::new("number", with(json!(1)), bad_proof("proof_malformed")),
        Case::new("null", with(Value::Null), bad_proof("proof_malformed")),
        Case::new("right", with(json!(right)), admitted()),
    ];
    file("n4_missing_ath", "A proof without the hash of the token is accepted.", cases)
}

fn private_keys() -> (&'static str, VectorFile) {
    let mut cases = Vec::new();
    for name in ["d", "p", "q", "dp", "dq", "qi", "k", "oth"] {
        for (how, value) in [("", json!(base64url([1; 32]))), ("_null", Value::Null)] {
            let mut jwk = Key::Proof.jwk();
            jwk[name] = value;
            let asked = bent(|proof| proof.head("jwk", jwk));
            cases.push(Case::new(format!("{name}{how}"), asked, bad_proof("proof_malformed")));
        }
    }
    let mut named = Key::Proof.jwk();
    named["kid"] = json!("k-1");
    cases.push(Case::new("a_public_member_more", bent(|proof| proof.head("jwk", named)), admitted()));
    file("n13_private_key_in_the_proof", "A proof that shows its private key is accepted.", cases)
}
