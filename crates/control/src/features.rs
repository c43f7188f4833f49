//! What a sidecar can enforce. A snapshot lists what it needs; a sidecar that lacks one refuses it.

/// Rules by method, path, caller and scope; tokens of the mesh issuer bound by certificate or DPoP.
pub const RULES: &str = "rules/1";

/// Tokens of issuers outside the mesh, whose keys the sidecar fetches.
pub const EXTERNAL_ISSUERS: &str = "external-issuers/1";

/// Everything that this build enforces.
pub const SUPPORTED: &[&str] = &[RULES, EXTERNAL_ISSUERS];

/// The first of `required` that this build cannot enforce.
pub fn missing(required: &[String]) -> Option<&str> {
    required.iter().map(String::as_str).find(|feature| !SUPPORTED.contains(feature))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_unknown_feature_is_named() {
        assert_eq!(missing(&[RULES.to_owned()]), None);
        assert_eq!(missing(&[RULES.to_owned(), "tcp/1".to_owned()]), Some("tcp/1"));
    }
}
