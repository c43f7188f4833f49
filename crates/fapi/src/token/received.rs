use http::{
    HeaderMap, HeaderName, HeaderValue,
    header::{AUTHORIZATION, GetAll},
};

use crate::{challenge::Scheme, path::decoded, rejection::Rejection};

/// The one token of a request, with the scheme it was sent under and the proof beside it. Nothing is proven by it.
#[derive(Clone, Copy)]
pub(crate) struct ReceivedToken<'a> {
    bytes: &'a [u8],
    scheme: Scheme,
    proof: Option<&'a HeaderValue>,
}

impl<'a> ReceivedToken<'a> {
    /// Finds the token (RFC 6750 section 2.1, RFC 9449 section 7.1): in exactly one `Authorization` header and nowhere else,
    /// beside at most one `DPoP` header.
    pub(crate) fn find(headers: &'a HeaderMap, query: Option<&str>) -> Result<Self, Rejection> {
        if query.is_some_and(names_a_token) {
            return Err(Rejection::RequestMalformed);
        }
        let proof = at_most_one(&headers.get_all(DPOP))?;
        let authorization = at_most_one(&headers.get_all(AUTHORIZATION))?.ok_or(Rejection::TokenMissing)?;
        let (scheme, bytes) = split_at_space(authorization.as_bytes());
        let scheme = match scheme {
            name if name.eq_ignore_ascii_case(b"Bearer") => Scheme::Bearer,
            name if name.eq_ignore_ascii_case(b"DPoP") => Scheme::Dpop,
            _ => return Err(Rejection::TokenMissing),
        };
        if bytes.is_empty() { Err(Rejection::TokenMissing) } else { Ok(Self { bytes, scheme, proof }) }
    }

    /// The token as sent, not looked at yet.
    pub(crate) const fn bytes(&self) -> &'a [u8] {
        self.bytes
    }

    /// The token as text. What looks like several credentials in one header is refused as such.
    pub(crate) fn text(&self) -> Result<&'a str, Rejection> {
        if self.bytes.iter().any(|byte| matches!(byte, b' ' | b'\t' | b',')) {
            return Err(Rejection::RequestMalformed);
        }
        std::str::from_utf8(self.bytes).map_err(|_| Rejection::TokenMalformed)
    }

    pub(crate) const fn scheme(&self) -> Scheme {
        self.scheme
    }

    /// The value of the `DPoP` header.
    pub(crate) const fn proof(&self) -> Option<&'a HeaderValue> {
        self.proof
    }
}

/// The scheme, and what follows it after one space or more (RFC 9110 section 11.4; no other white space parts them).
fn split_at_space(value: &[u8]) -> (&[u8], &[u8]) {
    let (scheme, rest) = value.split_at(value.iter().position(|byte| *byte == b' ').unwrap_or(value.len()));
    let spaces = rest.iter().take_while(|byte| **byte == b' ').count();
    (scheme, rest.get(spaces..).unwrap_or_default())
}

/// The only value of a header; two of them are an attempt to be understood in two ways.
pub(crate) fn at_most_one<'a>(values: &GetAll<'a, HeaderValue>) -> Result<Option<&'a HeaderValue>, Rejection> {
    let mut values = values.iter();
    match (values.next(), values.next()) {
        (value, None) => Ok(value),
        _ => Err(Rejection::RequestMalformed),
    }
}

/// The header of a proof.
pub(crate) const DPOP: HeaderName = HeaderName::from_static("dpop");

/// Whether a query has a parameter `access_token`, however it is spelled (RFC 6750 section 2.3, never accepted).
fn names_a_token(query: &str) -> bool {
    query.split(['&', ';']).any(|pair| {
        let name = pair.split('=').next().unwrap_or_default();
        decoded(name, |_| true).eq("access_token".bytes())
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_token_in_the_query_is_seen_in_every_spelling() {
        for query in
            ["access_token=x", "a=b&access_token=x", "access_token", "%61ccess%5ftoken=x", "a=b;access_token=x"]
        {
            assert!(names_a_token(query), "{query}");
        }
        for query in [
            "",
            "token=access_token",
            "my_access_token=x",
            "access_tokens=1",
            "%=access_token",
            "access_toke%6",
            "access_token%6z=1",
            "access_token%z6=1",
        ] {
            assert!(!names_a_token(query), "{query}");
        }
    }
}
