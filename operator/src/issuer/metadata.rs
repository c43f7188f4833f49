//! What the issuer says about itself (RFC 8414 section 2).

use bytes::Bytes;
use control::MeshIssuer;
use serde_json::json;

use super::exchange::TOKEN_EXCHANGE;
use super::http;

/// The metadata document. It names only what exists.
pub(super) fn document(names: &MeshIssuer) -> Bytes {
    let issuer = &names.issuer;
    let (revocation, introspection) = (format!("{issuer}{}", http::REVOKE), format!("{issuer}{}", http::INTROSPECT));
    let document = json!({
        "issuer": issuer,
        "token_endpoint": names.token_endpoint,
        "jwks_uri": format!("{issuer}{}", http::JWKS),
        "revocation_endpoint": revocation,
        "introspection_endpoint": introspection,
        // RFC 8705 section 5. A certificate is asked for everywhere and needed nowhere, so they are the same.
        "mtls_endpoint_aliases": {
            "token_endpoint": names.token_endpoint,
            "revocation_endpoint": revocation,
            "introspection_endpoint": introspection,
        },
        "grant_types_supported": ["client_credentials", TOKEN_EXCHANGE],
        // Required by RFC 8414, and there is no authorization endpoint.
        "response_types_supported": [],
        "token_endpoint_auth_methods_supported": METHODS,
        "token_endpoint_auth_signing_alg_values_supported": ALGS,
        "revocation_endpoint_auth_methods_supported": METHODS,
        "revocation_endpoint_auth_signing_alg_values_supported": ALGS,
        "introspection_endpoint_auth_methods_supported": METHODS,
        "introspection_endpoint_auth_signing_alg_values_supported": ALGS,
        // RFC 9701 section 7.
        "introspection_signing_alg_values_supported": ["ES256"],
        "tls_client_certificate_bound_access_tokens": true,
        "dpop_signing_alg_values_supported": ALGS,
    });
    document.to_string().into()
}

const METHODS: [&str; 2] = ["tls_client_auth", "private_key_jwt"];
const ALGS: [&str; 4] = ["ES256", "PS256", "EdDSA", "Ed25519"];
