use crate::{
    path::{is_unreserved, octet},
    value::{Origin, url::split_origin},
};

/// The target of a proof in normal form: query and fragment are cut off (RFC 9449 section 4.3, check 9).
#[derive(Debug)]
pub(super) struct Htu {
    origin: Origin,
    path: String,
}

impl Htu {
    /// Reads an absolute `https` URL; anything else is the target of no request here.
    pub(super) fn parse(text: &str) -> Option<Self> {
        let (origin, rest) = split_origin(text).ok()?;
        let path = rest.split(['?', '#']).next()?;
        Some(Self { origin, path: normal(path)? })
    }

    /// Whether the URL is this path under one of these origins.
    pub(super) fn is<'o>(&self, mut origins: impl Iterator<Item = &'o Origin>, path: &str) -> bool {
        origins.any(|origin| *origin == self.origin) && normal(path).is_some_and(|path| path == self.path)
    }

    pub(super) const fn origin(&self) -> &Origin {
        &self.origin
    }

    pub(super) fn path(&self) -> &str {
        &self.path
    }
}

/// RFC 3986 sections 6.2.2 and 6.2.3: digits of percent-encodings in capitals, unreserved bytes plain, dot segments gone,
/// an empty path is `/`. `None` for a broken percent-encoding.
fn normal(path: &str) -> Option<String> {
    let mut plain = String::with_capacity(path.len());
    let mut chars = path.chars();
    while let Some(char) = chars.next() {
        if char != '%' {
            plain.push(char);
            continue;
        }
        let mut digit = || chars.next().and_then(|digit| u8::try_from(digit).ok());
        let byte = octet(digit()?, digit()?)?;
        if is_unreserved(byte) {
            plain.push(char::from(byte));
        } else {
            plain.push_str(&format!("%{byte:02X}"));
        }
    }
    Some(without_dot_segments(&plain))
}

/// RFC 3986 section 5.2.4, for absolute paths.
fn without_dot_segments(path: &str) -> String {
    let mut segments: Vec<&str> = Vec::new();
    let mut ends_open = true;
    for segment in path.strip_prefix('/').unwrap_or(path).split('/') {
        ends_open = matches!(segment, "" | "." | "..");
        match segment {
            "." => {}
            ".." => {
                segments.pop();
            }
            segment => segments.push(segment),
        }
    }
    if ends_open && segments.last().is_some_and(|last| !last.is_empty()) {
        segments.push("");
    }
    format!("/{}", segments.join("/"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn is(htu: &str, path: &str) -> bool {
        let origins =
            [Origin::parse("https://payments.bank").unwrap(), Origin::parse("https://api.example:8443").unwrap()];
        Htu::parse(htu).is_some_and(|htu| htu.is(origins.iter(), path))
    }

    #[test]
    fn spellings_of_one_url_are_equal() {
        for htu in [
            "https://payments.bank/a/b",
            "https://payments.bank/a/b?x=1",
            "https://payments.bank/a/b#y",
            "https://payments.bank/a/b?x#y",
            "HTTPS://Payments.BANK/a/b",
            "https://payments.bank:443/a/b",
            "https://payments.bank:/a/b",
            "https://payments.bank/a/%62",
            "https://payments.bank/a/./c/../b",
            "https://api.example:8443/a/b",
        ] {
            assert!(is(htu, "/a/b"), "{htu}");
        }
        assert!(is("https://payments.bank", "/"));
        assert!(is("https://payments.bank?x", "/"));
        assert!(is("https://payments.bank/%c3%a9", "/%C3%A9"));
        assert!(is("https://payments.bank/%C3%A9/", "/%c3%a9/"));
        assert!(is("https://payments.bank/a/..", "/"));
        assert!(is("https://payments.bank/a/b/.", "/a/b/"));
    }

    #[test]
    fn other_urls_are_not() {
        for htu in [
            "http://payments.bank/a/b",
            "https://payments.bank/a/b/",
            "https://payments.bank/a",
            "https://payments.bank/A/b",
            "https://payments.bank:8443/a/b",
            "https://api.example/a/b",
            "https://evil.bank/a/b",
            "payments.bank/a/b",
            "/a/b",
            "",
            "https://user@payments.bank/a/b",
            "https://payments.bank.evil/a/b",
            "https://payments.bank//a/b",
            "https://payments.bank/a%2fb",
            "https://payments.bank/a/b%",
            "https://payments.bank/a/%zz",
            "https://payments.bank\\a/b",
        ] {
            assert!(!is(htu, "/a/b"), "{htu}");
        }
        assert!(!is("https://payments.bank/a%2Fb", "/a/b"));
    }
}
