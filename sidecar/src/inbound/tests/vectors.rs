//! The vectors of `crates/fapi/vectors` over real connections: the same requests, clocks and keys, and callers with the
//! certificates that the tokens are bound to. So the shell and the decision cannot disagree.

#[path = "../../../../crates/fapi/tests/vectors/format.rs"]
mod format;
#[path = "../../../../crates/fapi/tests/vectors/peers.rs"]
mod peers;
mod pod;

use pod::{a_header_is_no_certificate, folder, holds};

#[test]
fn every_file_is_sent() {
    let tests = include_str!("vectors.rs");
    let names = std::fs::read_dir(folder()).unwrap().map(|entry| entry.unwrap().file_name().into_string().unwrap());
    let names: Vec<_> = names.map(|name| name.strip_suffix(".json").unwrap().to_owned()).collect();
    assert!(names.len() > 30);
    for name in names {
        assert!(tests.contains(&format!("async fn {name}() {{\n    holds(\"{name}\").await;")), "{name}");
    }
}

#[tokio::test]
async fn n1_htu_and_query() {
    holds("n1_htu_and_query").await;
}

#[tokio::test]
async fn n2_htu_from_headers() {
    holds("n2_htu_from_headers").await;
}

#[tokio::test]
async fn n3_malformed_host_or_url() {
    holds("n3_malformed_host_or_url").await;
}

#[tokio::test]
async fn n4_missing_ath() {
    holds("n4_missing_ath").await;
}

#[tokio::test]
async fn n5_proof_key_not_compared() {
    holds("n5_proof_key_not_compared").await;
}

#[tokio::test]
async fn n6_bound_token_as_bearer() {
    holds("n6_bound_token_as_bearer").await;
}

#[tokio::test]
async fn n7_cross_downgrade() {
    holds("n7_cross_downgrade").await;
}

#[tokio::test]
async fn n8_no_binding() {
    holds("n8_no_binding").await;
}

#[tokio::test]
async fn n9_replay_in_the_window() {
    holds("n9_replay_in_the_window").await;
}

#[tokio::test]
async fn n10_burnt_jti() {
    holds("n10_burnt_jti").await;
}

#[tokio::test]
async fn n11_replay_memory_full() {
    holds("n11_replay_memory_full").await;
}

#[tokio::test]
async fn n12_several_headers() {
    holds("n12_several_headers").await;
}

#[tokio::test]
async fn n13_private_key_in_the_proof() {
    holds("n13_private_key_in_the_proof").await;
}

#[tokio::test]
async fn n14_alg_and_key_type() {
    holds("n14_alg_and_key_type").await;
}

#[tokio::test]
async fn n15_small_order_keys() {
    holds("n15_small_order_keys").await;
}

#[tokio::test]
async fn n16_psychic_signatures() {
    holds("n16_psychic_signatures").await;
}

#[tokio::test]
async fn n17_two_signatures() {
    holds("n17_two_signatures").await;
}

#[tokio::test]
async fn n18_algorithm_confusion() {
    holds("n18_algorithm_confusion").await;
}

#[tokio::test]
async fn n19_key_in_the_header() {
    holds("n19_key_in_the_header").await;
}

#[tokio::test]
async fn n20_critical_extensions() {
    holds("n20_critical_extensions").await;
}

#[tokio::test]
async fn n21_times_are_numbers() {
    holds("n21_times_are_numbers").await;
}

#[tokio::test]
async fn n22_claims_left_out() {
    holds("n22_claims_left_out").await;
}

#[tokio::test]
async fn n23_audience_per_service() {
    holds("n23_audience_per_service").await;
}

#[tokio::test]
async fn n24_keys_by_issuer() {
    holds("n24_keys_by_issuer").await;
}

#[tokio::test]
async fn n25_repeated_kid() {
    holds("n25_repeated_kid").await;
}

#[tokio::test]
async fn n26_unknown_kid() {
    holds("n26_unknown_kid").await;
}

#[tokio::test]
async fn n27_members_twice() {
    holds("n27_members_twice").await;
}

#[tokio::test]
async fn n28_other_jwts() {
    holds("n28_other_jwts").await;
}

#[tokio::test]
async fn n30_forwarded_certificate() {
    holds("n30_forwarded_certificate").await;
    a_header_is_no_certificate("n30_forwarded_certificate").await;
}

#[tokio::test]
async fn n31_thumbprint_spelling() {
    holds("n31_thumbprint_spelling").await;
}

#[tokio::test]
async fn n35_identity_as_a_whole() {
    holds("n35_identity_as_a_whole").await;
}

#[tokio::test]
async fn n41_nonce_downgrade() {
    holds("n41_nonce_downgrade").await;
}

#[tokio::test]
async fn n43_token_in_two_places() {
    holds("n43_token_in_two_places").await;
}

#[tokio::test]
async fn n44_empty_signature() {
    holds("n44_empty_signature").await;
}

#[tokio::test]
async fn n45_unhashed_body() {
    holds("n45_unhashed_body").await;
}

#[tokio::test]
async fn n46_no_token() {
    holds("n46_no_token").await;
}

#[tokio::test]
async fn n47_path_read_twice() {
    holds("n47_path_read_twice").await;
}

#[tokio::test]
async fn n48_challenges() {
    holds("n48_challenges").await;
}

#[tokio::test]
async fn n49_clocks_ahead() {
    holds("n49_clocks_ahead").await;
}

#[tokio::test]
async fn n50_ended_tokens() {
    holds("n50_ended_tokens").await;
}

#[tokio::test]
async fn second_opinion() {
    holds("second_opinion").await;
}
