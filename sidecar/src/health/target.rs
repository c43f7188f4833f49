//! What is asked for at a path that anybody may have written: what a kubelet makes of it (`url.Parse` and `URL.RequestURI` of Go).

/// Path and query, with everything encoded that has to be.
pub(super) fn target(given: &str) -> String {
    let (path, query) = read(given).unwrap_or_else(|| (escaped(given.as_bytes()), None));
    let slash = if path.starts_with('/') { "" } else { "/" };
    // Go sends a query as it is; what cannot stand in a request would make it none.
    let query = query.map_or_else(String::new, |query| format!("?{}", encoded(query.as_bytes(), is_in_query)));
    [slash, &path, &query].concat()
}

/// The parts of a URL, or of what of one is given; `None` if it is none, and then all of it is path.
fn read(given: &str) -> Option<(String, Option<&str>)> {
    if given.bytes().any(|byte| byte.is_ascii_control()) {
        return None;
    }
    let (given, fragment) = given.split_once('#').unwrap_or((given, ""));
    unescaped(fragment)?;
    let given = without_scheme(given);
    let (path, query) = given.split_once('?').map_or((given, None), |(path, query)| (path, Some(query)));
    if path.split('/').next().is_some_and(|first| first.contains(':')) {
        return None;
    }
    // The host is the pod whatever it says.
    let path = match path.strip_prefix("//") {
        Some(rest) if !rest.starts_with('/') => rest.find('/').map_or("", |at| rest.get(at..).unwrap_or_default()),
        _ => path,
    };
    let plain = unescaped(path)?;
    Some((if path.bytes().all(is_in_path) { path.to_owned() } else { escaped(&plain) }, query))
}

/// Without the scheme of a whole URL.
fn without_scheme(given: &str) -> &str {
    scheme(given).map_or(given, |scheme| given.get(scheme.len() + 1..).unwrap_or_default())
}

/// The scheme of a whole URL; `None` of what is only a part of one.
pub(super) fn scheme(given: &str) -> Option<&str> {
    let (scheme, _) = given.split_once("://")?;
    let is_one = scheme.starts_with(|first: char| first.is_ascii_alphabetic())
        && scheme.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"+-.".contains(&byte));
    is_one.then_some(scheme)
}

/// `None` if a `%` encodes nothing.
fn unescaped(text: &str) -> Option<Vec<u8>> {
    let mut bytes = text.bytes();
    let mut plain = Vec::new();
    while let Some(byte) = bytes.next() {
        plain.push(if byte == b'%' { digit(bytes.next()?)? << 4 | digit(bytes.next()?)? } else { byte });
    }
    Some(plain)
}

fn digit(byte: u8) -> Option<u8> {
    char::from(byte).to_digit(16).and_then(|digit| u8::try_from(digit).ok())
}

/// A path as Go writes one of which only the meaning is known.
fn escaped(path: &[u8]) -> String {
    encoded(path, |byte| byte.is_ascii_alphanumeric() || b"-_.~$&+,/:;=@".contains(&byte))
}

/// What may stand in a path as it is.
fn is_in_path(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || b"-_.~$&+,/:;=@!'()*[]%".contains(&byte)
}

fn is_in_query(byte: u8) -> bool {
    byte.is_ascii_graphic() && !b"\"<>".contains(&byte)
}

fn encoded(bytes: &[u8], stays: impl Fn(u8) -> bool) -> String {
    bytes.iter().fold(String::new(), |text, byte| match stays(*byte) {
        true => text + char::from(*byte).encode_utf8(&mut [0; 4]),
        false => text + &format!("%{byte:02X}"),
    })
}

#[cfg(test)]
mod tests {
    use http::Uri;

    use super::*;

    /// What Go 1.26 sends for the URL that a kubelet makes of a path, but for what it leaves in a query.
    #[test]
    fn a_path_is_sent_as_a_kubelet_sends_it() {
        for (given, sent) in [
            ("/", "/"),
            ("", "/"),
            ("/healthz", "/healthz"),
            ("healthz", "/healthz"),
            ("/healthz?full=1", "/healthz?full=1"),
            ("?full=1", "/?full=1"),
            ("healthz?full=1", "/healthz?full=1"),
            ("/healthz?", "/healthz?"),
            ("/a?b?c", "/a?b?c"),
            ("/he alth", "/he%20alth"),
            ("/he alth?a b", "/he%20alth?a%20b"),
            ("/a%20b", "/a%20b"),
            ("/a%2Fb", "/a%2Fb"),
            ("/a%2Fb c", "/a/b%20c"),
            ("/a%2fb", "/a%2fb"),
            ("/café", "/caf%C3%A9"),
            ("/caf%C3%A9", "/caf%C3%A9"),
            ("/a?café=é", "/a?caf%C3%A9=%C3%A9"),
            ("/a#b", "/a"),
            ("/a#", "/a"),
            ("/a#%zz", "/a%23%25zz"),
            ("/a%zz", "/a%25zz"),
            ("/a%zz?x=1", "/a%25zz%3Fx=1"),
            ("/a%", "/a%25"),
            ("/a%2", "/a%252"),
            ("/!$&'()*+,;=:@[]-._~", "/!$&'()*+,;=:@[]-._~"),
            ("/{a}", "/%7Ba%7D"),
            ("/{a}!", "/%7Ba%7D%21"),
            ("/a|b^c`d\\e\"f<g>", "/a%7Cb%5Ec%60d%5Ce%22f%3Cg%3E"),
            ("//healthz", "/"),
            ("//healthz/a", "/a"),
            ("///healthz", "///healthz"),
            ("http://other/health?x=1", "/health?x=1"),
            ("http://other", "/"),
            ("https://other:1/a b", "/a%20b"),
            ("1a:b", "/1a:b"),
            ("/a:b", "/a:b"),
            (":a", "/:a"),
            ("a/b:c", "/a/b:c"),
            ("/a\tb", "/a%09b"),
            ("/a\u{7f}b?c", "/a%7Fb%3Fc"),
            ("*", "/*"),
            ("/*", "/*"),
            ("/..", "/.."),
            ("/a/../b", "/a/../b"),
            ("/a?x=<y>", "/a?x=%3Cy%3E"),
            ("/a?%zz", "/a?%zz"),
            ("/a;b?c;d", "/a;b?c;d"),
            ("/a+b", "/a+b"),
        ] {
            assert_eq!(target(given), sent, "{given:?}");
        }
    }

    #[test]
    fn whatever_is_given_can_be_sent() {
        let all: String = (0..=0x2ff).filter_map(char::from_u32).collect();
        for given in
            all.chars().flat_map(|one| ["/", "?", "/%", "//", "", "/#"].map(|before| format!("{before}{one}a")))
        {
            Uri::try_from(target(&given)).unwrap();
        }
        Uri::try_from(target(&all)).unwrap();
    }
}
