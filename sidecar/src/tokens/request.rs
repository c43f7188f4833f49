//! The form of a token request (RFC 6749 section 4.4.2, RFC 8705 section 2, RFC 8707 section 2, RFC 9396 section 6).

use super::TokenKey;

/// `client_credentials` with `tls_client_auth`: the client is named in the form and proven by the certificate.
pub(super) fn form(client_id: &str, key: &TokenKey) -> String {
    let mut form = String::with_capacity(160 + client_id.len() + key.audience.len() + key.scope.len());
    form.push_str("grant_type=client_credentials");
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
    use super::*;
    use crate::tokens::Constraint;

    #[test]
    fn values_are_form_encoded_and_an_empty_scope_is_left_out() {
        let mut key = TokenKey {
            endpoint: "https://127.0.0.1:1/token".into(),
            audience: "https://payments.bank".into(),
            scope: String::new(),
            details: None,
            constraint: Constraint::Certificate,
        };
        let client = "spiffe://bank.example/ns/bank/sa/shop";
        assert_eq!(
            form(client, &key),
            "grant_type=client_credentials&client_id=spiffe%3A%2F%2Fbank.example%2Fns%2Fbank%2Fsa%2Fshop&resource=https%3A%2F%2Fpayments.bank"
        );
        key.scope = "accounts:read transfers:write".into();
        assert!(form(client, &key).ends_with("&scope=accounts%3Aread+transfers%3Awrite"));
        key.details = Some(r#"[{"type":"t"}]"#.to_owned());
        assert!(form(client, &key).ends_with("write&authorization_details=%5B%7B%22type%22%3A%22t%22%7D%5D"));
    }
}
