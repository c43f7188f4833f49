//! The form of a token request (RFC 6749 section 4.4.2, RFC 8693 section 2.1, RFC 8705 section 2, RFC 8707 section 2, RFC 9396
//! section 6).

use super::TokenKey;

/// The one type of token that is exchanged (RFC 8693 section 3).
pub(super) const ACCESS_TOKEN: &str = "urn:ietf:params:oauth:token-type:access_token";

/// `client_credentials`, or the exchange of `subject`, with `tls_client_auth`: the client is named in the form and proven by
/// the certificate.
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
    fn an_exchange_names_what_is_exchanged() {
        let key = TokenKey {
            endpoint: "https://127.0.0.1:1/token".into(),
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
            endpoint: "https://127.0.0.1:1/token".into(),
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
    }
}
