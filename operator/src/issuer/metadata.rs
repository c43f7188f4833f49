//! What the issuer says about itself (RFC 8414 section 2).

use bytes::Bytes;
use control::MeshIssuer;
use serde_json::json;

use super::http;

/// The metadata document. It names only what exists.
pub(super) fn document(names: &MeshIssuer) -> Bytes {
    let issuer = &names.issuer;
    let document = json!({
        "issuer": issuer,
        "token_endpoint": names.token_endpoint,
        "jwks_uri": format!("{issuer}{}", http::JWKS),
        "grant_types_supported": ["client_credentials"],
        // Required by RFC 8414, and there is no authorization endpoint.
        "response_types_supported": [],
        "token_endpoint_auth_methods_supported": ["tls_client_auth"],
        "tls_client_certificate_bound_access_tokens": true,
        "dpop_signing_alg_values_supported": ["ES256", "PS256", "EdDSA", "Ed25519"],
    });
    document.to_string().into()
}
