//! Plain HTTP/1.1 to processes on this machine.

use std::io::{self, Read as _, Write as _};
use std::net::{SocketAddr, TcpStream};
use std::time::Duration;

/// No local process needs longer.
const LIMIT: Duration = Duration::from_secs(10);

/// An answer, split into what tests look at.
#[derive(Debug)]
pub struct Answer {
    /// The status code.
    pub status: u16,
    /// Everything after the head.
    pub body: String,
}

/// `GET path`, on a connection of its own.
///
/// # Errors
/// If nobody answers with HTTP.
pub fn get(address: SocketAddr, path: &str) -> io::Result<Answer> {
    let mut stream = TcpStream::connect(address)?;
    exchange(&mut stream, &format!("GET {path} HTTP/1.1\r\nhost: test\r\nconnection: close\r\n\r\n"))
}

/// A number of a process's metrics, by its name and its labels as they stand there; nothing if nobody answers.
pub fn metric(address: SocketAddr, name: &str) -> Option<u64> {
    let metrics = get(address, "/metrics").ok()?.body;
    metrics.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(' '))?.trim().parse().ok()
}

/// Sends `request` and reads until the other side closes, so the request must ask for that.
///
/// # Errors
/// If nobody answers with HTTP.
pub fn exchange(stream: &mut TcpStream, request: &str) -> io::Result<Answer> {
    stream.set_read_timeout(Some(LIMIT))?;
    stream.write_all(request.as_bytes())?;
    let mut text = Vec::new();
    stream.read_to_end(&mut text)?;
    let text = String::from_utf8_lossy(&text);
    let (head, body) = text.split_once("\r\n\r\n").ok_or(io::ErrorKind::UnexpectedEof)?;
    let status = head.split(' ').nth(1).and_then(|status| status.parse().ok());
    Ok(Answer { status: status.ok_or(io::ErrorKind::InvalidData)?, body: body.to_owned() })
}
