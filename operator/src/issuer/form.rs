//! The parameters of a request, read strictly (RFC 6749 section 3.2 and appendix B).

use super::error::TokenError;

/// No honest request has more.
const MAX_PARAMETERS: usize = 32;

/// What was asked for. Parameters without a value count as left out; unknown ones are ignored.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Form {
    pub(super) grant_type: Option<String>,
    pub(super) client_id: Option<String>,
    pub(super) scope: Option<String>,
    pub(super) authorization_details: Option<String>,
    /// RFC 8707 lets this one be repeated.
    pub(super) resources: Vec<String>,
    pub(super) assertion: Option<String>,
    pub(super) assertion_type: Option<String>,
    /// Whether there is a client secret; no client has one.
    pub(super) secret: bool,
    /// The token that a revocation or an introspection is about.
    pub(super) token: Option<String>,
    /// The token that is exchanged (RFC 8693 section 2.1).
    pub(super) subject_token: Option<String>,
    pub(super) subject_token_type: Option<String>,
    pub(super) requested_token_type: Option<String>,
    /// Whether an actor is named; the client is the actor.
    pub(super) actor: bool,
    /// Whether a target is named by `audience`; it is named by `resource`.
    pub(super) audience: bool,
}

impl Form {
    /// Reads the body of a form.
    pub(super) fn parse(body: &[u8]) -> Result<Self, TokenError> {
        let body = std::str::from_utf8(body).map_err(|_| TokenError::Malformed)?;
        let mut form = Self::default();
        let mut seen = Vec::new();
        for pair in body.split('&').filter(|pair| !pair.is_empty()) {
            let (name, value) = pair.split_once('=').unwrap_or((pair, ""));
            let (name, value) = (decode(name)?, decode(value)?);
            if seen.len() == MAX_PARAMETERS {
                return Err(TokenError::Malformed);
            }
            if name != "resource" && seen.contains(&name) {
                return Err(TokenError::Repeated);
            }
            form.take(&name, value);
            seen.push(name);
        }
        Ok(form)
    }

    fn take(&mut self, name: &str, value: String) {
        if value.is_empty() {
            return;
        }
        match name {
            "grant_type" => self.grant_type = Some(value),
            "client_id" => self.client_id = Some(value),
            "scope" => self.scope = Some(value),
            "authorization_details" => self.authorization_details = Some(value),
            "resource" => self.resources.push(value),
            "client_assertion" => self.assertion = Some(value),
            "client_assertion_type" => self.assertion_type = Some(value),
            "client_secret" => self.secret = true,
            "token" => self.token = Some(value),
            "subject_token" => self.subject_token = Some(value),
            "subject_token_type" => self.subject_token_type = Some(value),
            "requested_token_type" => self.requested_token_type = Some(value),
            "actor_token" | "actor_token_type" => self.actor = true,
            "audience" => self.audience = true,
            _ => {}
        }
    }
}

/// Undoes `application/x-www-form-urlencoded`; a bad escape or text that is not UTF-8 is refused.
fn decode(text: &str) -> Result<String, TokenError> {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.bytes();
    while let Some(byte) = rest.next() {
        bytes.push(match byte {
            b'+' => b' ',
            b'%' => hex(rest.next())? << 4 | hex(rest.next())?,
            other => other,
        });
    }
    String::from_utf8(bytes).map_err(|_| TokenError::Malformed)
}

fn hex(digit: Option<u8>) -> Result<u8, TokenError> {
    match digit {
        Some(digit @ b'0'..=b'9') => Ok(digit - b'0'),
        Some(digit @ b'a'..=b'f') => Ok(digit - b'a' + 10),
        Some(digit @ b'A'..=b'F') => Ok(digit - b'A' + 10),
        _ => Err(TokenError::Malformed),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(body: &str) -> Result<Form, TokenError> {
        Form::parse(body.as_bytes())
    }

    #[test]
    fn reads_what_it_knows() {
        let form =
            parse("grant_type=client_credentials&client_id=spiffe%3A%2F%2Ftd%2fns/a/sa/b&scope=a+b%20c&x=y").unwrap();
        assert_eq!(form.grant_type.as_deref(), Some("client_credentials"));
        assert_eq!(form.client_id.as_deref(), Some("spiffe://td/ns/a/sa/b"));
        assert_eq!(form.scope.as_deref(), Some("a b c"));
        assert!(!form.secret);
    }

    #[test]
    fn empty_values_count_as_left_out() {
        assert_eq!(parse("scope=&resource=&grant_type").unwrap(), Form::default());
        assert_eq!(parse("").unwrap(), Form::default());
    }

    #[test]
    fn nothing_is_given_twice() {
        for body in ["scope=a&scope=b", "scope=&scope=b", "x=1&x=1", "sc%6fpe=a&scope=b"] {
            assert!(matches!(parse(body), Err(TokenError::Repeated)), "{body}");
        }
        assert_eq!(parse("resource=a&resource=b").unwrap().resources, ["a", "b"]);
    }

    #[test]
    fn bad_escapes_and_floods_are_refused() {
        let flood = (0..40).map(|n| format!("p{n}=1")).collect::<Vec<_>>().join("&");
        for body in ["scope=%", "scope=%4", "scope=%zz", "scope=%ff", "scope=%+1", &flood] {
            assert!(matches!(parse(body), Err(TokenError::Malformed)), "{body}");
        }
        assert!(matches!(Form::parse(b"scope=\xff"), Err(TokenError::Malformed)));
    }

    #[test]
    fn what_authenticates_is_read() {
        let form = parse("client_assertion=a.b.c&client_assertion_type=urn%3Ax&client_secret=s&token=t").unwrap();
        assert_eq!((form.assertion.as_deref(), form.assertion_type.as_deref()), (Some("a.b.c"), Some("urn:x")));
        assert!(form.secret);
        assert_eq!(form.token.as_deref(), Some("t"));
    }
}
