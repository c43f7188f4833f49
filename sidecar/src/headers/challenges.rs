//! The challenges of `WWW-Authenticate` (RFC 9110 section 11.6.1): a field may hold several, and a quoted text what looks like one.

use http::{
    HeaderMap, HeaderValue,
    header::{Entry, WWW_AUTHENTICATE},
};

/// One challenge.
pub(crate) struct Challenge<'a> {
    /// Its scheme, as it is spelled; empty for parameters that belong to none.
    pub(crate) scheme: &'a [u8],
    /// It, parted at its commas.
    items: Vec<&'a [u8]>,
}

impl Challenge<'_> {
    pub(crate) fn is(&self, scheme: &str) -> bool {
        self.scheme.eq_ignore_ascii_case(scheme.as_bytes())
    }

    /// Whether it has this parameter.
    pub(crate) fn says(&self, name: &str, value: &str) -> bool {
        let first = self.items.iter().take(1).filter_map(|item| item.get(self.scheme.len()..));
        let parameters = first.chain(self.items.iter().skip(1).copied());
        parameters.filter_map(|item| std::str::from_utf8(item).ok()?.split_once('=')).any(|(found, said)| {
            let said = said.trim();
            let unquoted = said.strip_prefix('"').and_then(|said| said.strip_suffix('"'));
            found.trim().eq_ignore_ascii_case(name) && unquoted.unwrap_or(said) == value
        })
    }
}

/// All challenges of an answer.
pub(crate) fn challenges(headers: &HeaderMap) -> impl Iterator<Item = Challenge<'_>> {
    headers.get_all(WWW_AUTHENTICATE).iter().flat_map(challenges_of)
}

/// Takes challenges out of an answer, and leaves the others of the same field.
pub(crate) fn drop_challenges(headers: &mut HeaderMap, is_dropped: impl Fn(&Challenge<'_>) -> bool) {
    let Entry::Occupied(found) = headers.entry(WWW_AUTHENTICATE) else { return };
    let (_, values) = found.remove_entry_mult();
    let kept: Vec<_> = values.filter_map(|value| without(value, &is_dropped)).collect();
    for value in kept {
        headers.append(WWW_AUTHENTICATE, value);
    }
}

/// What is left of a field; `None` for nothing.
fn without(value: HeaderValue, is_dropped: impl Fn(&Challenge<'_>) -> bool) -> Option<HeaderValue> {
    let (dropped, kept): (Vec<_>, Vec<_>) = challenges_of(&value).into_iter().partition(is_dropped);
    if dropped.is_empty() {
        return Some(value);
    }
    let kept: Vec<&[u8]> = kept.into_iter().flat_map(|challenge| challenge.items).collect();
    // Pieces of a value make a value again.
    (!kept.is_empty()).then(|| HeaderValue::from_bytes(&kept.join(&b", "[..])).ok()).flatten()
}

fn challenges_of(value: &HeaderValue) -> Vec<Challenge<'_>> {
    let mut found: Vec<Challenge<'_>> = Vec::new();
    for item in items(value.as_bytes()) {
        match (scheme(item), found.last_mut()) {
            (None, Some(last)) => last.items.push(item),
            (scheme, _) => found.push(Challenge { scheme: scheme.unwrap_or_default(), items: vec![item] }),
        }
    }
    found
}

/// The items of a list (RFC 9110 section 5.6.1). A comma in a quoted text parts nothing.
fn items(list: &[u8]) -> impl Iterator<Item = &[u8]> {
    let (mut quoted, mut escaped) = (false, false);
    let parted = list.split(move |&byte| {
        match byte {
            _ if escaped => escaped = false,
            b'\\' if quoted => escaped = true,
            b'"' => quoted = !quoted,
            _ => {}
        }
        byte == b',' && !quoted
    });
    parted.map(<[u8]>::trim_ascii).filter(|item| !item.is_empty())
}

/// The scheme that an item begins a challenge of; `None` for one more parameter of the challenge before.
fn scheme(item: &[u8]) -> Option<&[u8]> {
    let is_token = |byte: &u8| byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(byte);
    let (name, rest) = item.split_at(item.iter().position(|byte| !is_token(byte)).unwrap_or(item.len()));
    (!name.is_empty() && rest.trim_ascii_start().first() != Some(&b'=')).then_some(name)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

    use super::*;

    fn of(values: &[&'static str]) -> HeaderMap {
        values.iter().map(|value| (WWW_AUTHENTICATE, HeaderValue::from_static(value))).collect()
    }

    #[test]
    fn only_the_challenge_that_is_meant_goes() {
        for (value, left) in [
            ("DPoP", None),
            ("dpop algs=\"ES256\", error=\"use_dpop_nonce\"", None),
            ("Basic realm=\"x\", DPoP algs=\"ES256\", error=\"e\"", Some("Basic realm=\"x\"")),
            ("DPoP a=\"1\" , error = \"e\",, Digest realm=\"y\", qop=auth", Some("Digest realm=\"y\", qop=auth")),
            ("Negotiate abc==, DPoP", Some("Negotiate abc==")),
            ("Basic realm=\"a, dpop\"", Some("Basic realm=\"a, dpop\"")),
            ("Basic realm=\"a\\\", DPoP b\"", Some("Basic realm=\"a\\\", DPoP b\"")),
            ("Basic dpop=\"x\",DPoP=1", Some("Basic dpop=\"x\",DPoP=1")),
            ("DPoPs a=1", Some("DPoPs a=1")),
        ] {
            let mut headers = of(&[value]);
            drop_challenges(&mut headers, |challenge| challenge.is("DPoP"));
            assert_eq!(headers.get(WWW_AUTHENTICATE).map(|left| left.to_str().unwrap()), left, "{value}");
        }
    }

    #[test]
    fn a_parameter_belongs_to_its_scheme() {
        let says = |values: &[&'static str]| {
            challenges(&of(values)).any(|challenge| challenge.is("DPoP") && challenge.says("error", "use_dpop_nonce"))
        };
        assert!(says(&["DPoP error=\"use_dpop_nonce\""]));
        assert!(says(&["Basic realm=\"x\"", "Bearer, dpop algs=\"ES256 EdDSA\", Error = use_dpop_nonce"]));
        for other in [
            "X error=\"use_dpop_nonce\"",
            "DPoP algs=\"ES256\", Bearer error=\"use_dpop_nonce\"",
            "Basic realm=\"DPoP error=\\\"use_dpop_nonce\\\"\"",
            "DPoP realm=\"error=use_dpop_nonce\"",
            "DPoP error=\"invalid_dpop_proof\"",
            "error=\"use_dpop_nonce\"",
            "",
        ] {
            assert!(!says(&[other]), "{other}");
        }
    }
}
