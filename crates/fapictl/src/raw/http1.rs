//! HTTP/1.1 as bytes: a request is written as it was composed, an answer is read as it comes.

use std::fmt::Write as _;
use std::io::{self, ErrorKind};

use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _};

/// More than any answer of ours has; a bound all the same.
const MOST: usize = 1 << 20;

/// A request, as its parts. Nothing is checked: an attacker says what it likes.
#[derive(Clone, Debug)]
pub(crate) struct Ask {
    pub(crate) method: String,
    /// The request target as it stands in the first line.
    pub(crate) target: String,
    pub(crate) host: String,
    pub(crate) headers: Vec<(String, String)>,
    pub(crate) body: Vec<u8>,
}

impl Ask {
    /// A request without headers or body.
    pub(crate) fn new(method: &str, host: &str, target: &str) -> Self {
        Self {
            method: method.to_owned(),
            target: target.to_owned(),
            host: host.to_owned(),
            headers: Vec::new(),
            body: Vec::new(),
        }
    }

    /// The same with one more header line.
    pub(crate) fn header(mut self, name: &str, value: impl Into<String>) -> Self {
        self.headers.push((name.to_owned(), value.into()));
        self
    }

    /// The same with a body.
    pub(crate) fn body(mut self, body: impl Into<Vec<u8>>) -> Self {
        self.body = body.into();
        self
    }

    /// What goes over the wire.
    pub(crate) fn bytes(&self) -> Vec<u8> {
        let mut head = format!("{} {} HTTP/1.1\r\nhost: {}\r\n", self.method, self.target, self.host);
        for (name, value) in &self.headers {
            // Writing to a String cannot fail.
            let _ = write!(head, "{name}: {value}\r\n");
        }
        let _ = write!(head, "content-length: {}\r\n\r\n", self.body.len());
        [head.into_bytes(), self.body.clone()].concat()
    }
}

/// An answer.
#[derive(Debug)]
pub(crate) struct Reply {
    pub(crate) status: u16,
    pub(crate) headers: Vec<(String, String)>,
    pub(crate) body: Vec<u8>,
}

impl Reply {
    /// The first header of this name (written in lower case).
    pub(crate) fn header(&self, name: &str) -> Option<&str> {
        let found = self.headers.iter().find(|(header, _)| header == name);
        found.map(|(_, value)| value.as_str())
    }

    /// The body as JSON; `Null` when it is none.
    pub(crate) fn json(&self) -> serde_json::Value {
        serde_json::from_slice(&self.body).unwrap_or_default()
    }
}

/// Writes `request`, reads one whole answer. The caller sets the deadline.
pub(crate) async fn exchange<S>(stream: &mut S, request: &[u8]) -> io::Result<Reply>
where
    S: AsyncRead + AsyncWrite + Unpin,
{
    stream.write_all(request).await?;
    stream.flush().await?;
    let mut reader = Reader { stream, buffer: Vec::new() };
    let (status, headers) = reader.head().await?;
    let mut reply = Reply { status, headers, body: Vec::new() };
    let bodyless = request.starts_with(b"HEAD ") || status < 200 || status == 204 || status == 304;
    if !bodyless {
        reply.body = reader.body(&reply).await?;
    }
    Ok(reply)
}

struct Reader<'a, S> {
    stream: &'a mut S,
    buffer: Vec<u8>,
}

impl<S: AsyncRead + Unpin> Reader<'_, S> {
    async fn head(&mut self) -> io::Result<(u16, Vec<(String, String)>)> {
        let head = self.up_to(b"\r\n\r\n").await?;
        let head = String::from_utf8_lossy(&head).into_owned();
        let mut lines = head.split("\r\n");
        let first = lines.next().unwrap_or_default();
        let status = first.split(' ').nth(1).and_then(|status| status.parse().ok());
        let headers = lines
            .filter_map(|line| line.split_once(':'))
            .map(|(name, value)| (name.to_ascii_lowercase(), value.trim().to_owned()))
            .collect();
        Ok((status.ok_or_else(|| broken("no status line"))?, headers))
    }

    async fn body(&mut self, reply: &Reply) -> io::Result<Vec<u8>> {
        let chunked = reply.header("transfer-encoding").is_some_and(|value| value.contains("chunked"));
        if chunked {
            return self.chunks().await;
        }
        match reply.header("content-length").map(str::parse) {
            Some(Ok(length)) => self.exactly(length).await,
            Some(Err(_)) => Err(broken("a content-length that is no number")),
            None => self.rest().await,
        }
    }

    async fn chunks(&mut self) -> io::Result<Vec<u8>> {
        let mut body = Vec::new();
        loop {
            let line = self.up_to(b"\r\n").await?;
            let line = String::from_utf8_lossy(&line).into_owned();
            let size = line.split(';').next().unwrap_or_default().trim();
            let size = usize::from_str_radix(size, 16).map_err(|_| broken("a chunk without size"))?;
            if size == 0 {
                while !self.up_to(b"\r\n").await?.is_empty() {}
                return Ok(body);
            }
            body.extend(self.exactly(size).await?);
            self.up_to(b"\r\n").await?;
        }
    }

    /// Everything before `mark`; the mark itself is taken off.
    async fn up_to(&mut self, mark: &[u8]) -> io::Result<Vec<u8>> {
        loop {
            if let Some(at) = self.buffer.windows(mark.len()).position(|part| part == mark) {
                let rest = self.buffer.split_off(at + mark.len());
                let mut found = std::mem::replace(&mut self.buffer, rest);
                found.truncate(at);
                return Ok(found);
            }
            self.more().await?;
        }
    }

    async fn exactly(&mut self, length: usize) -> io::Result<Vec<u8>> {
        if length > MOST {
            return Err(broken("an answer too large for this client"));
        }
        while self.buffer.len() < length {
            self.more().await?;
        }
        let rest = self.buffer.split_off(length);
        Ok(std::mem::replace(&mut self.buffer, rest))
    }

    async fn rest(&mut self) -> io::Result<Vec<u8>> {
        loop {
            match self.more().await {
                Ok(()) => {}
                Err(error) if error.kind() == ErrorKind::UnexpectedEof => {
                    return Ok(std::mem::take(&mut self.buffer));
                }
                Err(error) => return Err(error),
            }
        }
    }

    async fn more(&mut self) -> io::Result<()> {
        if self.buffer.len() > MOST {
            return Err(broken("an answer too large for this client"));
        }
        match self.stream.read_buf(&mut self.buffer).await? {
            0 => Err(ErrorKind::UnexpectedEof.into()),
            _ => Ok(()),
        }
    }
}

fn broken(what: &str) -> io::Error {
    io::Error::new(ErrorKind::InvalidData, what)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a failed test may panic")]

    use super::*;

    async fn answered(answer: &'static [u8]) -> io::Result<Reply> {
        let (mut near, mut far) = tokio::io::duplex(4096);
        tokio::spawn(async move {
            far.write_all(answer).await.unwrap();
        });
        exchange(&mut near, &Ask::new("GET", "a", "/").bytes()).await
    }

    #[tokio::test]
    async fn reads_the_three_kinds_of_body() {
        let counted = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nhi";
        let chunked = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n1\r\nh\r\n1\r\ni\r\n0\r\n\r\n";
        let closed = b"HTTP/1.1 200 OK\r\n\r\nhi";
        for answer in [&counted[..], &chunked[..], &closed[..]] {
            let reply = answered(answer).await.unwrap();
            assert_eq!((reply.status, reply.body), (200, b"hi".to_vec()));
        }
    }

    #[tokio::test]
    async fn a_connection_that_ends_early_is_an_error() {
        for answer in [&b""[..], b"HTTP/1.1 200", b"HTTP/1.1 200 OK\r\ncontent-length: 9\r\n\r\nhi"] {
            let error = answered(answer).await.unwrap_err();
            assert_eq!(error.kind(), ErrorKind::UnexpectedEof);
        }
    }

    #[test]
    fn writes_exactly_what_it_was_told() {
        let ask = Ask::new("POST", "payments.bank", "/x").header("X_Odd", "1").body("ab");
        let bytes = b"POST /x HTTP/1.1\r\nhost: payments.bank\r\nX_Odd: 1\r\ncontent-length: 2\r\n\r\nab";
        assert_eq!(ask.bytes(), bytes);
    }
}
