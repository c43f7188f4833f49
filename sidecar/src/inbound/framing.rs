//! A second, stricter reader of HTTP/1.1 framing, over the bytes that go to hyper.
//!
//! hyper resolves ambiguous framing as RFC 9112 section 6.3 allows: of `Content-Length` and `Transfer-Encoding` it keeps
//! one, equal lengths it folds, bare line feeds it takes. An app behind us might resolve it differently, and there a
//! smuggled request begins. So such a message is found before hyper cleans it up, and refused. This reader decides
//! nothing else: hyper still parses, and what hyper rejects stays rejected.

use memchr::memchr;

/// Longer lines are hyper's to refuse; nothing more of them is read here.
const LONGEST_LINE: usize = 64 * 1024;
/// So much of a line says what it is. No more of one is ever kept: connections that wait would hold it for long.
const KEPT: usize = 256;
/// A chunk size of more digits would overflow.
const LONGEST_SIZE: usize = 16;

/// Follows one connection.
#[derive(Debug, Default)]
pub(crate) struct Framing {
    at: At,
    head: Head,
    /// The first [`KEPT`] bytes of a line whose end has not come yet, and then its latest one, which tells how it ends.
    carry: Vec<u8>,
    /// How much of that line has come.
    length: usize,
}

/// Why a message is not to be taken. All that follows it on its connection is suspect.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Flaw {
    /// It can be read in two ways.
    Ambiguous,
    /// A line of its head is too long.
    TooLong,
}

use Flaw::{Ambiguous, TooLong};

#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
enum At {
    #[default]
    Head,
    Body(u64),
    ChunkSize,
    ChunkData(u64),
    ChunkEnd,
    Trailers,
}

/// What the lines of a head said so far.
#[derive(Debug, Default, Clone, Copy)]
struct Head {
    begun: bool,
    lengths: usize,
    length: u64,
    chunked: usize,
}

impl Framing {
    /// Whether a head has begun and not ended.
    pub(crate) fn in_head(&self) -> bool {
        self.at == At::Head && (self.head.begun || !self.carry.is_empty())
    }

    /// Reads on.
    ///
    /// # Errors
    /// The first [`Flaw`]; feed nothing more then.
    pub(crate) fn feed(&mut self, mut bytes: &[u8]) -> Result<(), Flaw> {
        while !bytes.is_empty() {
            bytes = match self.at {
                At::Body(left) => self.skip(bytes, left, At::Head, At::Body),
                At::ChunkData(left) => self.skip(bytes, left, At::ChunkEnd, At::ChunkData),
                At::Head | At::ChunkSize | At::ChunkEnd | At::Trailers => self.line(bytes)?,
            };
        }
        Ok(())
    }

    fn skip<'a>(&mut self, bytes: &'a [u8], left: u64, then: At, more: fn(u64) -> At) -> &'a [u8] {
        let here = usize::try_from(left).map_or(bytes.len(), |left| left.min(bytes.len()));
        let left = left - here as u64;
        self.at = if left == 0 { then } else { more(left) };
        &bytes[here..]
    }

    /// Takes one line, or keeps its beginning.
    fn line<'a>(&mut self, bytes: &'a [u8]) -> Result<&'a [u8], Flaw> {
        let Some(end) = memchr(b'\n', bytes) else {
            self.keep(bytes)?;
            return Ok(&[]);
        };
        let (line, rest) = (&bytes[..end], &bytes[end + 1..]);
        if self.carry.is_empty() {
            self.whole_line(line)?;
        } else {
            self.keep(line)?;
            self.length = 0;
            let mut whole = std::mem::take(&mut self.carry);
            self.whole_line(&whole)?;
            whole.clear();
            self.carry = whole;
        }
        Ok(rest)
    }

    fn keep(&mut self, bytes: &[u8]) -> Result<(), Flaw> {
        self.length += bytes.len();
        if self.length > LONGEST_LINE {
            return Err(if self.at == At::Head { TooLong } else { Ambiguous });
        }
        let Some(last) = bytes.last() else { return Ok(()) };
        self.carry.truncate(KEPT);
        let room = KEPT - self.carry.len();
        self.carry.extend(bytes.iter().take(room));
        if bytes.len() > room {
            self.carry.push(*last);
        }
        Ok(())
    }

    fn whole_line(&mut self, line: &[u8]) -> Result<(), Flaw> {
        // A line feed alone ends a line for some and not for others.
        let line = line.strip_suffix(b"\r").ok_or(Ambiguous)?;
        self.at = match self.at {
            At::Head if line.is_empty() && !self.head.begun => At::Head,
            At::Head if line.is_empty() => std::mem::take(&mut self.head).end()?,
            At::Head => {
                self.head.line(line)?;
                At::Head
            }
            At::ChunkSize => match chunk_size(line)? {
                0 => At::Trailers,
                size => At::ChunkData(size),
            },
            At::ChunkEnd if line.is_empty() => At::ChunkSize,
            At::ChunkEnd => return Err(Ambiguous),
            At::Trailers if line.is_empty() => At::Head,
            other => other,
        };
        Ok(())
    }
}

impl Head {
    fn line(&mut self, line: &[u8]) -> Result<(), Flaw> {
        if !std::mem::replace(&mut self.begun, true) {
            return Ok(());
        }
        // A line that goes on with the one before it (RFC 9112 section 5.2).
        if matches!(line, [b' ' | b'\t', ..]) {
            return Err(Ambiguous);
        }
        // Only two names matter, and both begin so.
        if !matches!(line, [b'c' | b'C' | b't' | b'T', ..]) {
            return Ok(());
        }
        // Names and values of the two are short, and more may not have been kept.
        let is_cut = line.len() >= KEPT;
        let line = &line[..line.len().min(KEPT)];
        let colon = memchr(b':', line).ok_or(Ambiguous)?;
        let (name, value) = (&line[..colon], line[colon + 1..].trim_ascii());
        // Some take `Name :` for the name; none of them agree with those who do not.
        if name.ends_with(b" ") || name.ends_with(b"\t") {
            return Err(Ambiguous);
        }
        let (is_length, is_encoding) =
            (name.eq_ignore_ascii_case(b"content-length"), name.eq_ignore_ascii_case(b"transfer-encoding"));
        if is_cut && (is_length || is_encoding) {
            return Err(Ambiguous);
        }
        if is_length {
            self.lengths += 1;
            self.length = decimal(value)?;
        } else if is_encoding {
            self.chunked += 1;
            if !value.eq_ignore_ascii_case(b"chunked") {
                return Err(Ambiguous);
            }
        }
        Ok(())
    }

    fn end(self) -> Result<At, Flaw> {
        match (self.lengths, self.chunked) {
            (0, 0) => Ok(At::Head),
            (1, 0) if self.length == 0 => Ok(At::Head),
            (1, 0) => Ok(At::Body(self.length)),
            (0, 1) => Ok(At::ChunkSize),
            _ => Err(Ambiguous),
        }
    }
}

fn decimal(value: &[u8]) -> Result<u64, Flaw> {
    if !value.iter().all(u8::is_ascii_digit) {
        return Err(Ambiguous);
    }
    std::str::from_utf8(value).ok().and_then(|text| text.parse().ok()).ok_or(Ambiguous)
}

fn chunk_size(line: &[u8]) -> Result<u64, Flaw> {
    let end = line.iter().position(|byte| !byte.is_ascii_hexdigit()).unwrap_or(line.len());
    let (digits, rest) = line.split_at(end);
    if digits.is_empty() || digits.len() > LONGEST_SIZE || !matches!(rest, [] | [b';' | b' ' | b'\t', ..]) {
        return Err(Ambiguous);
    }
    std::str::from_utf8(digits).ok().and_then(|text| u64::from_str_radix(text, 16).ok()).ok_or(Ambiguous)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The verdict must not depend on how the bytes are cut.
    fn read(text: &str) -> Result<Framing, Flaw> {
        let mut whole = Framing::default();
        let outcome = whole.feed(text.as_bytes());
        for size in [1, 2, 3, 7] {
            let mut cut = Framing::default();
            assert_eq!(text.as_bytes().chunks(size).try_for_each(|part| cut.feed(part)), outcome, "{size}: {text:?}");
        }
        outcome.map(|()| whole)
    }

    #[test]
    fn ordinary_messages_pass_and_the_next_head_is_found() {
        for text in [
            "GET / HTTP/1.1\r\nHost: a\r\n\r\n",
            "\r\nGET / HTTP/1.1\r\nHost: a\r\n\r\n",
            "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\n\r\nhello",
            "POST / HTTP/1.1\r\nHost: a\r\ncontent-length:0\r\n\r\n",
            "POST / HTTP/1.1\r\nTransfer-Encoding: Chunked\r\n\r\n5;x=y\r\nhello\r\nA\r\n0123456789\r\n0\r\nX: y\r\n\r\n",
            "POST / HTTP/1.1\r\nContent-Length: 31\r\n\r\nContent-Length: 1\nTransfer-Enco",
        ] {
            let mut framing = read(text).unwrap();
            assert!(framing.at == At::Head && !framing.in_head(), "{text:?}");
            assert_eq!(framing.feed(b"GET / HTTP/1.1\r\nA: b\r\n"), Ok(()));
            assert!(framing.in_head());
            let smuggled = b"Content-Length: 1\r\nTransfer-Encoding: chunked\r\n\r\n";
            assert_eq!(framing.feed(smuggled), Err(Ambiguous), "{text:?}");
        }
    }

    #[test]
    fn what_can_be_read_in_two_ways_is_found() {
        for lines in [
            "Content-Length: 5\r\nTransfer-Encoding: chunked\r\n",
            "Transfer-Encoding: chunked\r\nContent-Length: 5\r\n",
            "TRANSFER-ENCODING: chunked\r\nA: b\r\ncOnTeNt-LeNgTh: 5\r\n",
            "Content-Length: 5\r\nContent-Length: 5\r\n",
            "Content-Length: 5\r\nContent-Length: 6\r\n",
            "Content-Length: 5, 5\r\n",
            "Content-Length: +5\r\n",
            "Content-Length: 0x5\r\n",
            "Content-Length: \r\n",
            "Content-Length : 5\r\n",
            "Transfer-Encoding : chunked\r\n",
            "Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n",
            "Transfer-Encoding: gzip, chunked\r\n",
            "Transfer-Encoding: xchunked\r\n",
            "Transfer-Encoding: identity\r\n",
            "Transfer-Encoding:\x0bchunked\r\n",
            "A: b\r\n Transfer-Encoding: chunked\r\n",
            "A: b\nContent-Length: 5\r\n",
        ] {
            assert_eq!(read(&format!("POST / HTTP/1.1\r\nHost: a\r\n{lines}\r\n")).err(), Some(Ambiguous), "{lines:?}");
        }
    }

    #[test]
    fn chunks_are_strict() {
        for chunks in
            ["5\nhello\r\n0\r\n\r\n", "5\r\nhelloX\r\n", "x\r\n", "\r\n", "-1\r\n", "00000000000000005\r\n", "5,\r\n"]
        {
            let text = format!("POST / HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n{chunks}");
            assert_eq!(read(&text).err(), Some(Ambiguous), "{chunks:?}");
        }
    }

    #[test]
    fn a_line_without_end_is_not_kept() {
        let mut framing = Framing::default();
        assert_eq!(framing.feed(&vec![b'a'; LONGEST_LINE + 1]), Err(TooLong));
        assert!(framing.carry.is_empty());
        let chunked = format!("POST / HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n5;{}", "x".repeat(LONGEST_LINE));
        assert_eq!(Framing::default().feed(chunked.as_bytes()), Err(Ambiguous), "that is no header");
    }

    #[test]
    fn of_a_long_line_little_is_kept_and_nothing_else_changes() {
        let long = "x".repeat(60_000);
        for line in [format!("Cookie: {long}"), format!("X-{long}: a"), format!("A: {long}")] {
            let mut framing = Framing::default();
            for part in format!("GET /{long} HTTP/1.1\r\n{line}").as_bytes().chunks(999) {
                framing.feed(part).unwrap();
                assert!(framing.carry.capacity() <= 4 * KEPT && framing.in_head());
            }
            framing.feed(b"\r\n\r\n").unwrap();
            assert!(framing.carry.capacity() <= 4 * KEPT && !framing.in_head());
            read(&format!("GET / HTTP/1.1\r\n{line}\r\n\r\n")).unwrap();
            assert_eq!(read(&format!("GET / HTTP/1.1\r\n{line}\n\r\n")).err(), Some(Ambiguous), "a bare line feed");
        }
        for length in KEPT - 40..KEPT + 40 {
            let fill = "x".repeat(length);
            read(&format!("GET / HTTP/1.1\r\nCookie: {fill}\r\n\r\n")).unwrap();
        }
        for pad in [" ", "0"].map(|pad| pad.repeat(KEPT)) {
            let text = format!("POST / HTTP/1.1\r\nContent-Length:{pad}5\r\n\r\nhello");
            assert_eq!(read(&text).err(), Some(Ambiguous), "the length may not have been kept");
        }
    }
}
