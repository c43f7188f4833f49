//! The form that the issuer gets: no parameter is read in two ways.
#![no_main]

use libfuzzer_sys::fuzz_target;

mod error {
    /// As far as a form can be wrong.
    #[derive(Debug, PartialEq)]
    pub enum TokenError {
        Malformed,
        Repeated,
    }
}
#[path = "../../operator/src/issuer/form.rs"]
mod form;

use form::Form;

fuzz_target!(|body: &[u8]| {
    let Ok(read) = Form::parse(body) else { return };
    let pairs = pairs(body).expect("UTF-8, whole escapes");
    let given = |name: &'static str| pairs.iter().filter(move |(known, value)| known == name && !value.is_empty());
    for (name, found) in [
        ("grant_type", &read.grant_type),
        ("client_id", &read.client_id),
        ("scope", &read.scope),
        ("authorization_details", &read.authorization_details),
        ("client_assertion", &read.assertion),
        ("client_assertion_type", &read.assertion_type),
        ("token", &read.token),
        ("subject_token", &read.subject_token),
        ("subject_token_type", &read.subject_token_type),
        ("requested_token_type", &read.requested_token_type),
    ] {
        assert!(pairs.iter().filter(|(known, _)| known == name).count() <= 1, "{name} twice");
        assert_eq!(given(name).next().map(|(_, value)| value), found.as_ref(), "{name}");
    }
    assert!(given("resource").map(|(_, value)| value).eq(&read.resources));
    assert_eq!(given("client_secret").count() == 1, read.secret);
    assert_eq!(given("audience").count() == 1, read.audience);
    assert_eq!(given("actor_token").chain(given("actor_token_type")).count() > 0, read.actor);
    // Every byte escaped, it is the same form.
    let escaped: Vec<String> =
        pairs.iter().map(|(name, value)| format!("{}={}", escape(name), escape(value))).collect();
    assert_eq!(Form::parse(escaped.join("&").as_bytes()).as_ref(), Ok(&read));
});

/// Names and values, by small steps.
fn pairs(body: &[u8]) -> Option<Vec<(String, String)>> {
    let parts = body.split(|byte| *byte == b'&').filter(|part| !part.is_empty());
    let pair = |part: &[u8]| {
        let at = part.iter().position(|byte| *byte == b'=').unwrap_or(part.len());
        Some((unescape(&part[..at])?, unescape(part.get(at + 1..).unwrap_or_default())?))
    };
    parts.map(pair).collect()
}

fn unescape(text: &[u8]) -> Option<String> {
    let (mut bytes, mut at) = (Vec::new(), 0);
    while let Some(&byte) = text.get(at) {
        let length = if byte == b'%' { 3 } else { 1 };
        bytes.push(match byte {
            b'%' => {
                let digits = text.get(at + 1..at + 3)?;
                if !digits.iter().all(u8::is_ascii_hexdigit) {
                    return None;
                }
                u8::from_str_radix(std::str::from_utf8(digits).ok()?, 16).ok()?
            }
            b'+' => b' ',
            other => other,
        });
        at += length;
    }
    String::from_utf8(bytes).ok()
}

fn escape(text: &str) -> String {
    text.bytes().map(|byte| format!("%{byte:02x}")).collect()
}
