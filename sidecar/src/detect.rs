//! Which protocol the first bytes of a connection speak.

use std::{
    cell::Cell,
    io,
    pin::Pin,
    rc::Rc,
    task::{Context, Poll, ready},
    time::Duration,
};

use tokio::{
    io::{AsyncRead, AsyncWrite, ReadBuf},
    net::TcpStream,
    time::sleep,
};

/// The preface of HTTP/2 (RFC 9113 section 3.4).
const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";

/// How often a connection is looked at that has sent too little to tell.
const PEEK_EVERY: Duration = Duration::from_millis(10);

/// What a connection begins with.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Begins {
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
    pub(crate) const ENOUGH: usize = 32;
}

/// Looks at the first bytes of a connection. Methods are spelled in capitals, with hyphens in a few; a longer word than any
/// method is none.
pub(crate) fn begins(bytes: &[u8]) -> Begins {
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

/// What a connection begins with, for as long as that takes; nothing of it is read. `None` when it ended before.
pub(crate) async fn peeked(stream: &TcpStream) -> Option<Begins> {
    let mut first = [0; Begins::ENOUGH];
    loop {
        let count = stream.peek(&mut first).await.ok().filter(|count| *count > 0)?;
        match begins(first.get(..count)?) {
            // Peeking does not wait for more than the first byte.
            Begins::Unsure => sleep(PEEK_EVERY).await,
            sure => return Some(sure),
        }
    }
}

/// Whether a connection speaks HTTP, as far as its first bytes tell; `None`: more are needed. Other protocols begin with a word
/// in capitals too, so their first line is read to its end. Servers skip empty lines before a request (RFC 9112 section 2.2),
/// so they tell nothing.
fn is_http(bytes: &[u8]) -> Option<bool> {
    let is_too_long = bytes.len() >= LONGEST_LINE;
    let begin = bytes.iter().position(|byte| !matches!(byte, b'\r' | b'\n')).unwrap_or(bytes.len());
    let bytes = bytes.get(begin..).unwrap_or_default();
    match begins(bytes) {
        Begins::Http2 => Some(true),
        Begins::Other => Some(false),
        Begins::Unsure => is_too_long.then_some(true),
        Begins::Http1 => match bytes.iter().position(|byte| *byte == b'\n') {
            Some(end) => Some(is_request_line(bytes.get(..end).unwrap_or_default())),
            // No other protocol has such a line.
            None => is_too_long.then_some(true),
        },
    }
}

/// A request line (RFC 9112 section 3), also of HTTP/0.9.
fn is_request_line(line: &[u8]) -> bool {
    let words: Vec<&[u8]> = line.trim_ascii().split(|byte| *byte == b' ').collect();
    match words.as_slice() {
        [.., version] if version.starts_with(b"HTTP/") => true,
        [b"GET", _] => true,
        _ => false,
    }
}

const LONGEST_LINE: usize = 8192;

/// A stream whose first bytes are looked at before anybody gets them: it breaks when they are HTTP.
pub(crate) struct NotHttp<S> {
    stream: S,
    /// Bytes that were read and not given yet.
    held: Vec<u8>,
    given: usize,
    sure: bool,
    found: Rc<Cell<bool>>,
}

impl<S> NotHttp<S> {
    /// The second value tells, later, whether it was HTTP.
    pub(crate) fn new(stream: S) -> (Self, Rc<Cell<bool>>) {
        let found = Rc::new(Cell::new(false));
        let held = Vec::new();
        (Self { stream, held, given: 0, sure: false, found: Rc::clone(&found) }, found)
    }
}

impl<S: AsyncRead + Unpin> NotHttp<S> {
    /// Ready when the first bytes are something else than HTTP, or the stream has ended before that was sure.
    fn poll_sure(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        while !self.sure {
            let mut piece = [0; 1024];
            let mut read = ReadBuf::new(&mut piece);
            ready!(Pin::new(&mut self.stream).poll_read(cx, &mut read))?;
            self.held.extend_from_slice(read.filled());
            match is_http(&self.held) {
                Some(true) => {
                    self.found.set(true);
                    return Poll::Ready(Err(io::ErrorKind::InvalidData.into()));
                }
                Some(false) => self.sure = true,
                None => self.sure = read.filled().is_empty(),
            }
        }
        Poll::Ready(Ok(()))
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for NotHttp<S> {
    fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, into: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        ready!(this.poll_sure(cx))?;
        let left = this.held.get(this.given..).unwrap_or_default();
        if left.is_empty() {
            this.held = Vec::new();
            return Pin::new(&mut this.stream).poll_read(cx, into);
        }
        let piece = left.get(..left.len().min(into.remaining())).unwrap_or_default();
        into.put_slice(piece);
        this.given += piece.len();
        Poll::Ready(Ok(()))
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for NotHttp<S> {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.get_mut().stream).poll_write(cx, bytes)
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.get_mut().stream).poll_flush(cx)
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.get_mut().stream).poll_shutdown(cx)
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
    fn other_protocols_with_words_in_capitals_are_not_http() {
        for (bytes, found) in [
            (&b"GET / HTTP/1.1\r\n"[..], Some(true)),
            (b"BREW /pot HTTP/1.0\n", Some(true)),
            (b"GET /\r\n", Some(true)),
            (PREFACE, Some(true)),
            (b"EHLO shop.bank\r\n", Some(false)),
            (b"OPTIONS rtsp://camera RTSP/1.0\r\n", Some(false)),
            (b"SET a b\r\n", Some(false)),
            (b"\x16\x03\x01", Some(false)),
            (b"\r\nGET /transfers HTTP/1.1\r\n", Some(true)),
            (b"\n\r\n\nPOST /transfers HTTP/1.1\n", Some(true)),
            (&[b"\r\n", PREFACE].concat(), Some(true)),
            (b"\r\nEHLO shop.bank\r\n", Some(false)),
            (b"\r\n\x16\x03\x01", Some(false)),
            (&[b'\n'; LONGEST_LINE], Some(true)),
            (b"GET /transfers", None),
            (b"\r\nGET /transfers", None),
            (b"\r\n", None),
            (b"", None),
        ] {
            assert_eq!(is_http(bytes), found, "{}", String::from_utf8_lossy(bytes));
        }
        assert_eq!(is_http(&[b"GET /".as_slice(), &[b'a'; LONGEST_LINE]].concat()), Some(true));
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
