//! `fapi-sidecar ready`: asks the sidecar of this pod whether it serves. For a container that is to end, well or not, by that: there
//! is nothing else in the image to ask with.

use std::{
    io::{self, Read, Write},
    net::{Ipv4Addr, SocketAddr, TcpStream},
    thread,
    time::{Duration, Instant},
};

use clap::Parser;
use control::pod::HEALTH_PORT;

/// More than any answer has.
const MAX_ANSWER: u64 = 4096;
const AGAIN_AFTER: Duration = Duration::from_millis(200);

/// Asks the sidecar of this pod whether it has its certificate and its policy; fails if it has not, or if there is none.
#[derive(Debug, Parser)]
#[command(name = "fapi-sidecar ready", version)]
pub struct ReadyArgs {
    /// Seconds in which it has to become so.
    #[arg(long, env = "FAPI_READY_SECONDS", default_value_t = 10, value_parser = clap::value_parser!(u64).range(1..=600))]
    pub seconds: u64,
}

/// Why no sidecar serves here.
#[derive(Debug, thiserror::Error)]
pub enum ReadyError {
    /// Nobody answers.
    #[error(
        "no sidecar answers at {0}: {1}; the pod was not injected: have it or its namespace say fapi-mesh.dev/inject: enabled, and \
         look whether the webhook inject.fapi-mesh.dev is there and the namespace is not one that it leaves out"
    )]
    Absent(SocketAddr, #[source] io::Error),
    /// There is one, and it does not serve.
    #[error("the sidecar is not ready: {0}; its log says more: kubectl logs POD -c fapi-sidecar")]
    Unready(String),
}

/// Asks until the sidecar is ready or the time is over.
///
/// # Errors
/// It was not ready in time; the last answer says why.
pub fn ready(args: &ReadyArgs) -> Result<(), ReadyError> {
    let at = SocketAddr::from((Ipv4Addr::LOCALHOST, HEALTH_PORT));
    ready_at(at, Duration::from_secs(args.seconds))
}

#[expect(clippy::disallowed_methods, reason = "between two looks at a condition with a deadline")]
fn ready_at(at: SocketAddr, within: Duration) -> Result<(), ReadyError> {
    let began = Instant::now();
    loop {
        let left = within.saturating_sub(began.elapsed()).max(Duration::from_millis(1));
        let outcome = match ask(at, left) {
            Ok(answer) => judged(&answer),
            Err(error) => Err(ReadyError::Absent(at, error)),
        };
        if outcome.is_ok() || began.elapsed() + AGAIN_AFTER >= within {
            return outcome;
        }
        thread::sleep(AGAIN_AFTER);
    }
}

/// The answer as it comes, head and all.
fn ask(at: SocketAddr, within: Duration) -> io::Result<String> {
    let mut stream = TcpStream::connect_timeout(&at, within)?;
    stream.set_read_timeout(Some(within))?;
    stream.set_write_timeout(Some(within))?;
    stream.write_all(b"GET /readyz HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\n\r\n")?;
    let mut answer = String::new();
    stream.take(MAX_ANSWER).read_to_string(&mut answer)?;
    Ok(answer)
}

fn judged(answer: &str) -> Result<(), ReadyError> {
    let (head, body) = answer.split_once("\r\n\r\n").unwrap_or((answer, ""));
    let mut words = head.split_ascii_whitespace();
    let (protocol, status) = (words.next().unwrap_or_default(), words.next());
    match (protocol.starts_with("HTTP/1."), status) {
        (true, Some("200")) => Ok(()),
        (true, Some(_)) if !body.trim().is_empty() => Err(ReadyError::Unready(body.trim().to_owned())),
        _ => Err(ReadyError::Unready("what answers in its place is none".to_owned())),
    }
}

#[cfg(test)]
mod tests {
    use std::net::TcpListener;

    use clap::CommandFactory;

    use super::*;

    /// Gives these answers, one after the other, and ends.
    fn answering(answers: &'static [&'static str]) -> (SocketAddr, thread::JoinHandle<()>) {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let at = listener.local_addr().unwrap();
        let server = thread::spawn(move || {
            for answer in answers {
                let (mut stream, _) = listener.accept().unwrap();
                let mut request = [0; 64];
                let length = stream.read(&mut request).unwrap();
                assert!(request[..length].starts_with(b"GET /readyz HTTP/1.1\r\n"));
                stream.write_all(answer.as_bytes()).unwrap();
            }
        });
        (at, server)
    }

    #[test]
    fn the_command_line_is_sound() {
        ReadyArgs::command().debug_assert();
    }

    #[test]
    fn a_sidecar_that_becomes_ready_in_time_is() {
        let (at, server) = answering(&[
            "HTTP/1.1 503 Service Unavailable\r\ncontent-length: 15\r\n\r\nno certificate\n",
            "HTTP/1.1 200 OK\r\ncontent-length: 3\r\n\r\nok\n",
        ]);
        ready_at(at, Duration::from_secs(20)).unwrap();
        server.join().unwrap();
    }

    #[test]
    fn what_is_not_ready_or_no_sidecar_is_told() {
        for (answers, expected) in [
            (&["HTTP/1.1 503 Service Unavailable\r\n\r\nno policy\n"], "is not ready: no policy; its log"),
            (&["HTTP/1.1 404 Not Found\r\n\r\n"], "what answers in its place is none"),
            (&["SSH-2.0-OpenSSH\r\n"], "what answers in its place is none"),
        ] {
            let (at, server) = answering(answers);
            let error = ready_at(at, AGAIN_AFTER).unwrap_err().to_string();
            assert!(error.contains(expected), "{error}");
            server.join().unwrap();
        }
        let free = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
        let error = ready_at(free, AGAIN_AFTER).unwrap_err().to_string();
        assert!(error.contains("the pod was not injected"), "{error}");
    }
}
