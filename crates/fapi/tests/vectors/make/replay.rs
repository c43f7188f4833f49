//! Proofs that come again, and nonces.

use super::*;
use crate::mint::{dpop_token, nonce, other_signature, proof};

pub(super) fn files() -> Vec<(&'static str, VectorFile)> {
    vec![windows(), burning(), full(), malleable(), nonces()]
}

fn windows() -> (&'static str, VectorFile) {
    let token = dpop_token().sign();
    let ahead = Asked::dpop(&token, &proof(&token).claim("iat", NOW + 10).sign());
    let again = |later: u64, expect| {
        let case = Case::new(format!("made 10 s ahead, again after {later} s"), ahead.clone(), expect);
        case.at(NOW + later).after(NOW, ahead.clone(), admitted())
    };
    let mut cases: Vec<_> =
        [0, 1, 30, 59, 60, 61, 69, 70].into_iter().map(|later| again(later, bad_proof("proof_replayed"))).collect();
    cases.push(again(71, bad_proof("proof_stale")));
    cases.push(again(150, bad_proof("proof_stale")));
    file("n9_replay_in_the_window", "The memory of a proof dies before the proof does.", cases)
}

fn burning() -> (&'static str, VectorFile) {
    let token = dpop_token().sign();
    let narrow = dpop_token().claim("scope", "accounts:read").sign();
    let good = Asked::dpop(&token, &proof(&token).sign());
    let scope = r#"DPoP error="insufficient_scope", scope="transfers:write", algs="ES256 PS256 EdDSA""#;
    let mut cases = Vec::new();
    for (name, bad, expect) in [
        ("bad_signature", proof(&token).with_signature(&[1; 64]), bad_proof("proof_malformed")),
        ("bad_ath", proof(&token).claim("ath", "x").sign(), bad_proof("proof_ath")),
        ("bad_url", proof(&token).claim("htu", "https://evil.example/").sign(), bad_proof("proof_htu")),
        ("no_nonce", proof(&token).without("nonce").sign(), wants_nonce("proof_nonce_required")),
    ] {
        let bad = Asked::dpop(&token, &bad);
        cases.push(Case::new(format!("{name}_burns_nothing"), good.clone(), admitted()).after(NOW, bad, expect));
    }
    let refused_by_rule = Asked::dpop(&narrow, &proof(&narrow).sign());
    let expect = refused("scope_insufficient", 403, Some(scope));
    cases.push(Case::new("a_refusing_rule_burns_nothing", good.clone(), admitted()).after(
        NOW,
        refused_by_rule,
        expect,
    ));
    for (name, length, good) in [("1", 1, true), ("256", 256, true), ("257", 257, false), ("2000", 2000, false)] {
        let expect = if good { admitted() } else { bad_proof("proof_malformed") };
        cases.push(Case::new(
            format!("jti_of_{name}_bytes"),
            bent(|proof| proof.claim("jti", "j".repeat(length))),
            expect,
        ));
    }
    cases.push(Case::new("jti_empty", bent(|proof| proof.claim("jti", "")), bad_proof("proof_malformed")));
    cases.push(Case::new("jti_left_out", bent(|proof| proof.without("jti")), bad_proof("proof_malformed")));
    file("n10_burnt_jti", "A jti is recorded before the proof is checked, or whatever its length.", cases)
}

fn full() -> (&'static str, VectorFile) {
    let full = || refused("replay_store_full", 503, None);
    let cases = vec![
        Case::new("no_room", bent(|proof| proof), full()).world("replayCapacity", 0),
        Case::new("no_room_and_no_proof_needed", bearer(&mint::token()), admitted()).world("replayCapacity", 0),
        Case::new("room", bent(|proof| proof), admitted()),
    ];
    file("n11_replay_memory_full", "The check for replay is off, or passes when its store fails.", cases)
}

fn malleable() -> (&'static str, VectorFile) {
    let token = dpop_token().sign();
    let first = proof(&token).sign();
    let second = other_signature(&first);
    let (first, second) = (Asked::dpop(&token, &first), Asked::dpop(&token, &second));
    let replayed = || bad_proof("proof_replayed");
    let claimed = Asked::dpop(&token, &proof(&token).claim("more", 1).sign());
    let next = Asked::dpop(&token, &proof(&token).claim("jti", "p-2").sign());
    let cases = vec![
        Case::new("the_other_signature", second.clone(), replayed()).after(NOW, first.clone(), admitted()),
        Case::new("the_other_signature_first", first.clone(), replayed()).after(NOW, second, admitted()),
        Case::new("another_text_with_the_jti", claimed, replayed()).after(NOW, first.clone(), admitted()),
        Case::new("another_jti", next, admitted()).after(NOW, first, admitted()),
    ];
    file("n17_two_signatures", "An ECDSA signature has a twin, which a memory of texts does not know.", cases)
}

fn nonces() -> (&'static str, VectorFile) {
    let of_another = fapi::NonceMinter::new([8; 32]).mint(fapi::UnixTime::from_secs(NOW));
    let with = |nonce: &str| bent(|proof| proof.claim("nonce", nonce));
    let stale = || wants_nonce("proof_nonce_stale");
    let without = || bent(|proof| proof.without("nonce").claim("jti", "p-0"));
    let required = || wants_nonce("proof_nonce_required");
    let good = || bent(|proof| proof);
    let cases = vec![
        Case::new("none", without(), required()),
        Case::new("none_after_a_good_one", without(), required()).after(NOW, good(), admitted()),
        Case::new("a_good_one_after_none", good(), admitted()).after(NOW, without(), required()),
        Case::new("of_another_process", with(&of_another), stale()),
        Case::new("empty", with(""), stale()),
        Case::new("a_word", with("nonce"), stale()),
        Case::new("zeros", with(&"A".repeat(32)), stale()),
        Case::new("300_s_old", with(&nonce(NOW - 300)), admitted()),
        Case::new("301_s_old", with(&nonce(NOW - 301)), stale()),
        Case::new("from_the_future", with(&nonce(NOW + 1)), stale()),
    ];
    file("n41_nonce_downgrade", "A proof without nonce is accepted after nonces were asked for.", cases)
}
