use super::*;

/// The stable ids, in the order of the design. An id that is missing here, or spelled otherwise, breaks users' dashboards.
const IDS: &str = "peer_certificate_missing peer_certificate_untrusted trust_domain_not_allowed token_missing \
    token_malformed token_expired token_not_yet_valid token_type token_too_old issuer_not_allowed audience_mismatch \
    alg_not_allowed key_not_found signature_invalid scope_insufficient binding_missing binding_unknown \
    binding_cert_mismatch binding_cert_absent bound_token_sent_as_bearer caller_mismatch proof_missing proof_malformed \
    proof_key_mismatch proof_htm proof_htu proof_ath proof_stale proof_replayed proof_nonce_required proof_nonce_stale \
    revoked token_inactive introspection_unavailable issuer_unavailable edge_source_untrusted caller_not_allowed rule_not_matched \
    request_malformed header_too_large opaque_not_allowed plaintext_not_allowed policy_missing policy_invalid \
    replay_store_full destination_unknown destination_ambiguous destination_unmeshed peer_identity_mismatch token_unavailable not_granted app_authorization_present";

#[test]
fn the_ids_are_the_stable_ones() {
    let ids: Vec<_> = Rejection::ALL.iter().map(|rejection| rejection.id()).collect();
    assert_eq!(ids, IDS.split_whitespace().collect::<Vec<_>>());
}

#[test]
fn every_rejection_has_a_source_a_hint_and_its_place() {
    for (place, rejection) in Rejection::ALL.iter().enumerate() {
        assert_eq!(rejection.index(), place);
        assert_eq!(Rejection::from_id(rejection.id()), Some(*rejection));
        assert_eq!(rejection.to_string(), rejection.id());
        assert!(
            ["RFC ", "FAPI 2.0 SP ", "SPIFFE "].iter().any(|start| rejection.source().starts_with(start)),
            "{rejection}"
        );
        assert!(rejection.hint().len() > 10, "{rejection}");
    }
}

#[test]
fn what_is_told_before_http_has_no_status() {
    for rejection in Rejection::ALL {
        assert_eq!(rejection.status().is_none(), rejection.tell() == Tell::Nothing, "{rejection}");
        let status = rejection.status().unwrap_or(401);
        assert!([400, 401, 403, 431, 503].contains(&status), "{rejection}");
    }
}

#[test]
fn audit_never_passes_what_cannot_be_judged() {
    for rejection in
        [Rejection::PolicyMissing, Rejection::PolicyInvalid, Rejection::RequestMalformed, Rejection::Revoked]
    {
        assert!(!rejection.waivable_in_audit(), "{rejection}");
    }
    assert!(Rejection::TokenMissing.waivable_in_audit());
}
