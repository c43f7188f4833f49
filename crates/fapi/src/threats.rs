//! Attack, the stage that stops it, and the test that shows it. Documentation only; a test compares it with the code.
//!
//! N numbers are those of the project's list of mistakes that other implementations made.
//!
//! | attack | stopped by | test |
//! |---|---|---|
//! | no token, or one in the query, twice, or two at once (N12, N43, N46, N48) | `ReceivedToken::find` | `more_than_one_token_is_malformed` |
//! | the query spells `access_token` otherwise | `ReceivedToken::find` | `a_token_in_the_query_is_seen_in_every_spelling` |
//! | a path that policy and app read differently (N47) | `normal_path` | `what_could_be_read_twice_is_refused` |
//! | members given twice, read differently by two layers (N27) | `ParsedToken::parse` | `a_member_given_twice_is_refused_at_every_level` |
//! | `crit` ignored, `b64: false`, a key in the header (N19, N20) | `ParsedToken::parse` | `extensions_and_keys_in_the_header_are_malformed` |
//! | times that are texts, fractions, negative or huge (N21) | `ParsedToken::parse` | `numbers_are_whole_and_in_range` |
//! | `exp`, `aud`, `iss` or another claim left out (N22) | `ParsedToken::parse` | `every_required_claim_is_required` |
//! | `alg` none, in odd case, RS256 (N18) | `SignedToken::verify` | `other_algorithms_are_not_allowed` |
//! | HS256 with the public key as secret (N18) | `SignedToken::verify` | `the_public_key_as_a_shared_secret_does_not_help` |
//! | `alg` that does not fit the key (N14) | `SignedToken::verify` | `keys_are_found_by_issuer_kid_and_algorithm` |
//! | one issuer signs in the name of another with its `kid` (N24) | `SignedToken::verify` | `a_key_of_another_issuer_does_not_count_even_with_the_same_kid` |
//! | a repeated `kid` hides the right key (N25) | `SignedToken::verify` | `a_kid_that_repeats_is_no_obstacle` |
//! | an Ed25519 key under which one signature fits all (N15) | `PublicKey::ed25519` | `keys_of_small_order_are_no_keys` |
//! | zero or DER-encoded ECDSA signatures (N16) | `PublicKey::verifies` | `psychic_der_and_foreign_signatures_do_not_verify` |
//! | a changed token | `SignedToken::verify` | `no_flipped_bit_of_a_token_is_ever_admitted` |
//! | an ID token or another JWT as access token (N28) | `CurrentToken::check` | `only_access_tokens_are_access_tokens` |
//! | an expired token, or one from the future (N49) | `CurrentToken::check` | `tokens_end_five_seconds_after_exp` |
//! | a token for another service (N23) | `CurrentToken::check` | `the_audience_is_this_service` |
//! | a revoked token served from a cache (N50) | `CurrentToken::check` | `a_revoked_token_is_refused_where_it_is_proven_already` |
//! | a revoked pod with a renewed certificate | `decide` | `a_renewed_certificate_does_not_escape_the_revocation_of_its_pod` |
//! | a bearer token (N8) | `BoundToken::prove` | `a_token_without_binding_is_no_token` |
//! | a confirmation method that nobody checks | `BoundToken::prove` | `what_is_not_understood_refuses_even_beside_what_is` |
//! | a stolen certificate-bound token on another connection | `BoundToken::prove` | `a_stolen_certificate_bound_token_is_useless` |
//! | a thumbprint in hex, padded, or of another certificate (N31) | `ParsedToken::parse` | `a_thumbprint_has_one_spelling` |
//! | a DPoP-bound token sent as Bearer, and the reverse (N6, N7) | `BoundToken::prove` | `the_scheme_must_be_that_of_the_binding` |
//! | a token with two bindings, one of them proven (N7) | `BoundToken::prove` | `both_members_are_proven_or_none_counts` |
//! | a stolen DPoP key together with its token | `BoundToken::prove` | `a_stolen_proof_key_does_not_help_on_another_connection` |
//! | an inner actor, or the subject, poses as the sender | `BoundToken::prove` | `the_current_actor_is_the_peer` |
//! | a call handed on for someone, or by someone, who is revoked since | `CurrentToken::check` | `whoever_stands_behind_the_caller_can_be_revoked` |
//! | an issuer outside the mesh names a workload of the mesh as client, subject or actor | `BoundToken::prove` | `a_token_from_outside_names_nobody_of_the_mesh` |
//! | a client of an external issuer calls from a workload that is not its own | `BoundToken::prove` | `a_mapped_client_calls_from_its_workload` |
//! | a token for the audience of another issuer | `CurrentToken::check` | `audiences_belong_to_their_issuer` |
//! | the same client id at another issuer | `AllowedCall::check` | `a_rule_may_name_the_client` |
//! | a proof without `ath`, or for another token (N4) | `CheckedProof::check` | `the_proof_is_for_this_token` |
//! | a stolen token with the thief's own proof key (N5) | `CheckedProof::check` | `a_proof_signed_by_another_key_than_it_shows_is_malformed` |
//! | a private key in the proof, or one of another kind (N13, N14) | `SignedProof::verify` | `a_key_in_a_proof_is_public_and_fits_the_algorithm` |
//! | `htu` with query, port or capitals (N1) | `Htu::is` | `spellings_of_one_url_are_equal` |
//! | `htu` steered by `Host` or forwarded headers (N2) | `CheckedProof::check` | `host_and_forwarded_headers_do_not_move_the_url` |
//! | the origin of one resource with the audience of another | `CheckedProof::check` | `origins_count_only_with_their_own_audience` |
//! | an old proof, or one made ahead | `CheckedProof::check` | `proofs_are_young` |
//! | no nonce after all, or one of another process (N41) | `CheckedProof::check` | `a_nonce_of_this_process_is_wanted` |
//! | a replayed proof, also with a changed signature (N17) | `ReplaySet::reserve` | `a_good_proof_is_admitted_once` |
//! | a replay after the memory of it died (N9) | `ReplaySet::reserve` | `a_proof_counts_once_for_as_long_as_it_could_be_accepted` |
//! | burning or flooding the memory of proofs (N10) | `AllowedCall::reserve` | `nothing_is_reserved_for_a_call_that_is_refused` |
//! | filling the memory so that it fails open (N11) | `ReplaySet::reserve` | `a_full_set_refuses_and_heals` |
//! | a broad rule opens a narrow path | `AllowedCall::check` | `the_most_specific_path_governs_alone` |
//! | authorization details that are only half of what the rule wants, or limited to something else | `AllowedCall::check` | `a_detail_of_the_rule_is_covered_by_one_of_the_token` |
//! | a token through too many hands, or too few | `AllowedCall::check` | `the_chain_of_actors_has_the_length_that_the_rule_takes` |
//! | an old token where the rule wants a young one | `AllowedCall::check` | `a_token_may_be_too_old_for_a_rule_before_it_ends` |
//! | a long call outlives the age that its rule takes | `decide_again` | `a_call_in_progress_ends_with_the_age_of_its_token` |
//! | a cached token outlives time, policy or binding (N50) | `CurrentToken::check` and on | `a_proven_token_is_judged_again_each_time` |
//! | a missing or broken policy fails open | `decide` | `without_a_policy_nothing_passes` |
//! | the answer tells an attacker the reason | `answer` | `every_rejection_has_an_answer_that_does_not_name_the_reason` |

#[cfg(test)]
mod tests {
    use std::{fs, path::Path};

    use crate::Rejection;

    /// All Rust text under a folder of this crate.
    fn sources(folder: &str) -> String {
        let mut text = String::new();
        let mut folders = vec![Path::new(env!("CARGO_MANIFEST_DIR")).join(folder)];
        while let Some(folder) = folders.pop() {
            for entry in fs::read_dir(folder).unwrap() {
                let path = entry.unwrap().path();
                if path.is_dir() {
                    folders.push(path);
                } else {
                    text += &fs::read_to_string(path).unwrap();
                }
            }
        }
        text
    }

    #[test]
    fn every_test_in_the_table_exists() {
        let (all, rows) = (sources("src"), include_str!("threats.rs"));
        let names = rows.lines().filter_map(|line| line.strip_prefix("//! | ")?.strip_suffix("` |")?.rsplit_once('`'));
        let mut count = 0;
        for (_, name) in names {
            count += 1;
            assert!(all.contains(&format!("fn {name}()")), "no test {name}");
        }
        assert!(count > 40, "{count}");
    }

    /// What another part refuses, or what enters with a later rule.
    const ELSEWHERE: [Rejection; 14] = [
        Rejection::PeerCertificateMissing,
        Rejection::PeerCertificateUntrusted,
        Rejection::TrustDomainNotAllowed,
        Rejection::BindingCertAbsent,
        Rejection::EdgeSourceUntrusted,
        Rejection::HeaderTooLarge,
        Rejection::PlaintextNotAllowed,
        Rejection::DestinationUnknown,
        Rejection::DestinationAmbiguous,
        Rejection::DestinationUnmeshed,
        Rejection::PeerIdentityMismatch,
        Rejection::TokenUnavailable,
        Rejection::NotGranted,
        Rejection::AppAuthorizationPresent,
    ];

    #[test]
    fn every_rejection_of_a_decision_has_a_test() {
        let tests = sources("src/decide/tests");
        for rejection in Rejection::ALL {
            let tested = tests.contains(&format!("Rejection::{rejection:?}"));
            assert_ne!(tested, ELSEWHERE.contains(rejection), "{rejection}");
        }
    }
}
