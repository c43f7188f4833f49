//! The mistakes that other implementations made, N1 to N50 of the project's list, as far as a decision can make them: each
//! is a file of vectors in `crates/fapi/vectors`, and a test of the same name.
#![allow(clippy::unwrap_used, clippy::panic, reason = "a test fails by panicking")]

mod format;
mod make;
mod mint;
mod peers;
mod properties;
mod run;
mod stored;
mod world;

use run::holds;

#[test]
fn n1_htu_and_query() {
    holds("n1_htu_and_query");
}

#[test]
fn n2_htu_from_headers() {
    holds("n2_htu_from_headers");
}

#[test]
fn n3_malformed_host_or_url() {
    holds("n3_malformed_host_or_url");
}

#[test]
fn n4_missing_ath() {
    holds("n4_missing_ath");
}

#[test]
fn n5_proof_key_not_compared() {
    holds("n5_proof_key_not_compared");
}

#[test]
fn n6_bound_token_as_bearer() {
    holds("n6_bound_token_as_bearer");
}

#[test]
fn n7_cross_downgrade() {
    holds("n7_cross_downgrade");
}

#[test]
fn n8_no_binding() {
    holds("n8_no_binding");
}

#[test]
fn n9_replay_in_the_window() {
    holds("n9_replay_in_the_window");
}

#[test]
fn n10_burnt_jti() {
    holds("n10_burnt_jti");
}

#[test]
fn n11_replay_memory_full() {
    holds("n11_replay_memory_full");
}

#[test]
fn n12_several_headers() {
    holds("n12_several_headers");
}

#[test]
fn n13_private_key_in_the_proof() {
    holds("n13_private_key_in_the_proof");
}

#[test]
fn n14_alg_and_key_type() {
    holds("n14_alg_and_key_type");
}

#[test]
fn n15_small_order_keys() {
    holds("n15_small_order_keys");
}

#[test]
fn n16_psychic_signatures() {
    holds("n16_psychic_signatures");
}

#[test]
fn n17_two_signatures() {
    holds("n17_two_signatures");
}

#[test]
fn n18_algorithm_confusion() {
    holds("n18_algorithm_confusion");
}

#[test]
fn n19_key_in_the_header() {
    holds("n19_key_in_the_header");
}

#[test]
fn n20_critical_extensions() {
    holds("n20_critical_extensions");
}

#[test]
fn n21_times_are_numbers() {
    holds("n21_times_are_numbers");
}

#[test]
fn n22_claims_left_out() {
    holds("n22_claims_left_out");
}

#[test]
fn n23_audience_per_service() {
    holds("n23_audience_per_service");
}

#[test]
fn n24_keys_by_issuer() {
    holds("n24_keys_by_issuer");
}

#[test]
fn n25_repeated_kid() {
    holds("n25_repeated_kid");
}

#[test]
fn n26_unknown_kid() {
    holds("n26_unknown_kid");
}

#[test]
fn n27_members_twice() {
    holds("n27_members_twice");
}

#[test]
fn n28_other_jwts() {
    holds("n28_other_jwts");
}

#[test]
fn n30_forwarded_certificate() {
    holds("n30_forwarded_certificate");
}

#[test]
fn n31_thumbprint_spelling() {
    holds("n31_thumbprint_spelling");
}

#[test]
fn n35_identity_as_a_whole() {
    holds("n35_identity_as_a_whole");
}

#[test]
fn n41_nonce_downgrade() {
    holds("n41_nonce_downgrade");
}

#[test]
fn n43_token_in_two_places() {
    holds("n43_token_in_two_places");
}

#[test]
fn n44_empty_signature() {
    holds("n44_empty_signature");
}

#[test]
fn n45_unhashed_body() {
    holds("n45_unhashed_body");
}

#[test]
fn n46_no_token() {
    holds("n46_no_token");
}

#[test]
fn n47_path_read_twice() {
    holds("n47_path_read_twice");
}

#[test]
fn n48_challenges() {
    holds("n48_challenges");
}

#[test]
fn n49_clocks_ahead() {
    holds("n49_clocks_ahead");
}

#[test]
fn n50_ended_tokens() {
    holds("n50_ended_tokens");
}

#[test]
fn second_opinion() {
    holds("second_opinion");
}
