//! The form of a token request (RFC 6749 section 4.4.2, RFC 8693 section 2.1, RFC 8705 section 2, RFC 8707 section 2, RFC 9396
//! section 6).

use fapi::CLIENT_ASSERTION_TYPE;

use super::TokenKey;

/// The one type of token that is exchanged (RFC 8693 section 3).
pub(super) const ACCESS_TOKEN: &str = "urn:ietf:params:oauth:token-type:access_token";

/// `client_credentials`, or the exchange of `subject`. The client is named in the form and proven by the certificate, or by
/// what is added.
pub(super) fn form(client_id: &str, key: &TokenKey, subject: Option<&str>) -> String {
    let subject_len = subject.map_or(0, |subject| 160 + subject.len());
    let mut form = String::with_capacity(160 + client_id.len() + key.audience.len() + key.scope.len() + subject_len);
    match subject {
        None => form.push_str("grant_type=client_credentials"),
        Some(subject) => {
            form.push_str("grant_type=urn%3Aietf%3Aparams%3Aoauth%3Agrant-type%3Atoken-exchange");
            field(&mut form, "subject_token", subject);
            field(&mut form, "subject_token_type", ACCESS_TOKEN);
        }
    }
    field(&mut form, "client_id", client_id);
    field(&mut form, "resource", &key.audience);
    if !key.scope.is_empty() {
        field(&mut form, "scope", &key.scope);
    }
    if let Some(details) = &key.details {
        field(&mut form, "authorization_details", details);
    }
    form
}

/// Proves the client by an assertion (RFC 7523 section 2.2).
pub(super) fn add_assertion(form: &mut String, assertion: &str) {
    field(form, "client_assertion_type", CLIENT_ASSERTION_TYPE);
    field(form, "client_assertion", assertion);
}

/// A form of these fields.
pub(crate) fn form_of(fields: &[(&str, &str)]) -> String {
    let mut form = String::new();
    for (name, value) in fields {
        field(&mut form, name, value);
    }
    form.split_off(form.len().min(1))
}

fn field(form: &mut String, name: &str, value: &str) {
    form.push('&');
    form.push_str(name);
    form.push('=');
    for byte in value.bytes() {
        match byte {
            b'A'..=b'Z' | b'a'..=b'z' | b'0'..=b'9' | b'-' | b'.' | b'_' | b'*' => form.push(char::from(byte)),
            b' ' => form.push('+'),
            _ => {
                form.push('%');
                form.push(hex(byte >> 4));
                form.push(hex(byte & 0xf));
            }
        }
    }
}

fn hex(digit: u8) -> char {
    char::from_digit(u32::from(digit), 16).unwrap_or('0').to_ascii_uppercase()
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;
    use crate::tokens::{AuthorizationServer, Constraint, Place};

    fn mesh() -> Arc<AuthorizationServer> {
        let (issuer, token_endpoint) = ("https://127.0.0.1:1".into(), "https://127.0.0.1:1/token".into());
        let place = Place::Mesh { issuer, token_endpoint };
        Arc::new(AuthorizationServer { place, authentication: Default::default() })
    }

    #[test]
    fn an_exchange_names_what_is_exchanged() {
        let key = TokenKey {
            server: mesh(),
            audience: "https://ledger.bank".into(),
            scope: "a".to_owned(),
            details: None,
            constraint: Constraint::Certificate,
        };
        assert_eq!(
            form("c", &key, Some("h.p_-.s")),
            "grant_type=urn%3Aietf%3Aparams%3Aoauth%3Agrant-type%3Atoken-exchange&subject_token=h.p_-.s\
             &subject_token_type=urn%3Aietf%3Aparams%3Aoauth%3Atoken-type%3Aaccess_token\
             &client_id=c&resource=https%3A%2F%2Fledger.bank&scope=a"
        );
    }

    #[test]
    fn values_are_form_encoded_and_an_empty_scope_is_left_out() {
        let mut key = TokenKey {
            server: mesh(),
            audience: "https://payments.bank".into(),
            scope: String::new(),
            details: None,
            constraint: Constraint::Certificate,
        };
        let client = "spiffe://bank.example/ns/bank/sa/shop";
        assert_eq!(
            form(client, &key, None),
            "grant_type=client_credentials&client_id=spiffe%3A%2F%2Fbank.example%2Fns%2Fbank%2Fsa%2Fshop&resource=https%3A%2F%2Fpayments.bank"
        );
        key.scope = "accounts:read transfers:write".into();
        assert!(form(client, &key, None).ends_with("&scope=accounts%3Aread+transfers%3Awrite"));
        key.details = Some(r#"[{"type":"t"}]"#.to_owned());
        assert!(form(client, &key, None).ends_with("write&authorization_details=%5B%7B%22type%22%3A%22t%22%7D%5D"));
        let mut form = form(client, &key, None);
        add_assertion(&mut form, "a.b.c");
        assert!(form.ends_with("client-assertion-type%3Ajwt-bearer&client_assertion=a.b.c"));
    }
}
