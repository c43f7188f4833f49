//! Which protocol the first bytes of a connection speak.

/// The preface of HTTP/2 (RFC 9113 section 3.4).
const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";

/// What a connection begins with.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Begins {
    /// A method and a space, as a request line does (RFC 9112 section 3).
    Http1,
    /// The preface of HTTP/2.
    Http2,
    /// Nothing that HTTP begins with.
    Other,
    /// More bytes are needed.
    Unsure,
}

impl Begins {
    /// So many bytes tell in any case.
    pub(super) const ENOUGH: usize = 32;
}

/// Looks at the first bytes of a connection. Methods are spelled in capitals, with hyphens in a few; a longer word than any
/// method is none.
pub(super) fn begins(bytes: &[u8]) -> Begins {
    if bytes.starts_with(PREFACE) {
        return Begins::Http2;
    }
    if PREFACE.starts_with(bytes) {
        return Begins::Unsure;
    }
    let word = bytes.iter().position(|byte| !byte.is_ascii_uppercase() && *byte != b'-');
    match word {
        Some(length) if length > 0 && bytes.get(length) == Some(&b' ') && !bytes.starts_with(b"PRI ") => Begins::Http1,
        Some(_) => Begins::Other,
        None if bytes.len() < Begins::ENOUGH => Begins::Unsure,
        None => Begins::Other,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn http_is_known_by_its_first_bytes() {
        for (bytes, found) in [
            (&b"GET / HTTP/1.1\r\n"[..], Begins::Http1),
            (b"VERSION-CONTROL /a HTTP/1.1\r\n", Begins::Http1),
            (PREFACE, Begins::Http2),
            (b"PRI * HTTP/2.1\r\n", Begins::Other),
            (b"\x16\x03\x01\x02\x00\x01", Begins::Other),
            (b"SSH-2.0-OpenSSH_9.2\r\n", Begins::Other),
            (b"PING\r\n", Begins::Other),
            (b"*1\r\n$4\r\nPING\r\n", Begins::Other),
            (b" GET / HTTP/1.1\r\n", Begins::Other),
            (b"get / HTTP/1.1\r\n", Begins::Other),
            (&[b'A'; Begins::ENOUGH], Begins::Other),
            (b"", Begins::Unsure),
            (b"P", Begins::Unsure),
            (b"POST", Begins::Unsure),
        ] {
            assert_eq!(begins(bytes), found, "{}", String::from_utf8_lossy(bytes));
        }
    }

    #[test]
    fn what_is_sure_stays_so_when_more_bytes_come() {
        for whole in [&b"POST /transfers HTTP/1.1\r\nhost: payments.bank\r\n"[..], PREFACE, &[0x16; 40], &[b'Z'; 40]] {
            let whole = &whole[..whole.len().min(Begins::ENOUGH)];
            let last = begins(whole);
            assert_ne!(last, Begins::Unsure);
            for end in 0..whole.len() {
                let found = begins(&whole[..end]);
                assert!(found == Begins::Unsure || found == last, "{end} bytes: {found:?}, and {last:?} in the end");
            }
        }
    }
}
