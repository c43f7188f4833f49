//! The one form of a path that rules are matched on and that is forwarded.
//!
//! A path that two parsers could read differently is refused, not repaired: what was matched must be what the app sees.

use std::borrow::Cow;

use crate::rejection::Rejection;

/// Gives the path back if it can be read in one way only (RFC 3986 section 6.2).
///
/// Refused are: a path that does not start with `/`; empty, `.` and `..` segments; `;` and all that no path may hold (RFC 3986
/// section 3.3: spaces, quotes, brackets, `\ ^ |`, backticks, control characters, anything beyond ASCII); broken percent-encodings, and
/// those of letters, digits and `- . _ ~ / \ % ;` or of control characters; encoded bytes that are no UTF-8, which lenient decoders
/// take for dots and slashes. One slash at the end is fine.
///
/// # Errors
/// [`Rejection::RequestMalformed`].
pub fn normal_path(raw: &str) -> Result<&str, Rejection> {
    if is_normal(raw) { Ok(raw) } else { Err(Rejection::RequestMalformed) }
}

fn is_normal(raw: &str) -> bool {
    let Some(rest) = raw.strip_prefix('/') else { return false };
    let mut segments = rest.split('/').peekable();
    while let Some(segment) = segments.next() {
        let is_end = segments.peek().is_none();
        if (segment.is_empty() && !is_end) || segment == "." || segment == ".." {
            return false;
        }
    }
    let mut bytes = rest.bytes();
    while let Some(byte) = bytes.next() {
        let good = match byte {
            b'%' => encodes_safely(bytes.next(), bytes.next()),
            b'/' => true,
            byte => is_plain(byte),
        };
        if !good {
            return false;
        }
    }
    is_text(rest)
}

/// Whether what is encoded reads as UTF-8.
fn is_text(path: &str) -> bool {
    !path.contains('%') || String::from_utf8(decoded(path, |_| true).collect()).is_ok()
}

/// A path that has one reading, as rules spell it: what may stand plain is plain. For apps `%3A` is `:`, so it is for rules.
pub(crate) fn as_ruled(path: &str) -> Cow<'_, str> {
    if !path.contains('%') {
        return Cow::Borrowed(path);
    }
    // No encoding of a slash or a dot has got so far.
    String::from_utf8(decoded(path, is_plain).collect()).map_or(Cow::Borrowed(path), Cow::Owned)
}

/// The bytes of a text, the encodings of these decoded. What is no encoding is left as it is.
pub(crate) fn decoded(text: &str, which: impl Fn(u8) -> bool) -> impl Iterator<Item = u8> {
    let mut rest = text.as_bytes();
    std::iter::from_fn(move || {
        let (&first, after) = rest.split_first()?;
        let encoded = match (first, after) {
            (b'%', [high, low, behind @ ..]) => {
                octet(*high, *low).filter(|byte| which(*byte)).map(|byte| (byte, behind))
            }
            _ => None,
        };
        let (byte, behind) = encoded.unwrap_or((first, after));
        rest = behind;
        Some(byte)
    })
}

/// What a segment may hold unencoded (RFC 3986 section 3.3, `pchar`), but for `;`, behind which some parsers see parameters.
const fn is_plain(byte: u8) -> bool {
    let is_sub_delim = matches!(byte, b'!' | b'$' | b'&' | b'\'' | b'(' | b')' | b'*' | b'+' | b',' | b'=');
    is_unreserved(byte) || is_sub_delim || matches!(byte, b':' | b'@')
}

/// Whether `%` and these digits stand for a byte that has no plain spelling and no meaning of its own.
fn encodes_safely(high: Option<u8>, low: Option<u8>) -> bool {
    let Some(byte) = high.zip(low).and_then(|(high, low)| octet(high, low)) else { return false };
    !(is_unreserved(byte) || byte.is_ascii_control() || matches!(byte, b'/' | b'\\' | b'%' | b';'))
}

/// The byte of two hex digits.
pub(crate) fn octet(high: u8, low: u8) -> Option<u8> {
    Some(hex(high)? << 4 | hex(low)?)
}

/// RFC 3986 section 2.3.
pub(crate) const fn is_unreserved(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'.' | b'_' | b'~')
}

/// The value of a hex digit.
const fn hex(digit: u8) -> Option<u8> {
    match digit {
        b'0'..=b'9' => Some(digit - b'0'),
        b'a'..=b'f' => Some(digit - b'a' + 10),
        b'A'..=b'F' => Some(digit - b'A' + 10),
        _ => None,
    }
}

/// The path without the slash at its end, which is no segment: `/a/` is `/a`, and `/` is the empty text.
pub(crate) fn without_end_slash(path: &str) -> &str {
    path.strip_suffix('/').unwrap_or(path)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn plain_paths_are_given_back() {
        for path in ["/", "/a", "/a/", "/a/b.c/~d_e-f", "/a:b@c!$&'()*+,=", "/%C3%A9/%20x", "/%c3%a9", "/...", "/a..b"]
        {
            assert_eq!(normal_path(path), Ok(path));
        }
    }

    #[test]
    fn rules_see_what_may_stand_plain_as_plain() {
        for (path, ruled) in [
            ("/", "/"),
            ("/v1/accounts%3Atransfer", "/v1/accounts:transfer"),
            ("/v1/accounts%3atransfer/", "/v1/accounts:transfer/"),
            ("/%40me%21%24%26%27%28%29%2a%2B%2c%3D", "/@me!$&'()*+,="),
            ("/caf%C3%A9/a%20b%3A", "/caf%C3%A9/a%20b:"),
        ] {
            assert_eq!(normal_path(path), Ok(path));
            assert_eq!(as_ruled(path), ruled);
        }
    }

    #[test]
    fn what_could_be_read_twice_is_refused() {
        for path in [
            "",
            "a",
            "*",
            "//",
            "//a",
            "/a//b",
            "/a//",
            "/.",
            "/..",
            "/./a",
            "/a/../b",
            "/a/..",
            "/a;b",
            "/a;",
            "/a\\b",
            "/a b",
            "/a\u{7f}",
            "/a\0",
            "/\u{e9}",
            "/a?b",
            "/a#b",
            "/{a}",
            "/[a]",
            "/<a>",
            "/a\"b",
            "/a^b",
            "/a|b",
            "/a`b",
            "/%",
            "/%2",
            "/%zz",
            "/%+1",
            "/%41",
            "/%61",
            "/%7e",
            "/%2e",
            "/%2E%2e/a",
            "/a%2fb",
            "/a%5cb",
            "/%25",
            "/%252e",
            "/%3b",
            "/%00",
            "/%0a",
            "/%7F",
            "/%c0%ae%c0%ae/a",
            "/%C3",
            "/%a9%C3",
            "/%ed%a0%80",
            "/%ff",
            "https://payments.bank/a",
        ] {
            assert_eq!(normal_path(path), Err(Rejection::RequestMalformed), "{path:?}");
        }
    }
}
