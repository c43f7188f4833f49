//! The gRPC health protocol, `grpc.health.v1.Health/Check`: one short message each way.

use std::net::SocketAddr;

use bytes::Bytes;
use http::{HeaderValue, Method, Request, StatusCode, Version, header};
use http_body_util::{BodyExt as _, Full, Limited};
use hyper::client::conn::http2;
use hyper_util::rt::TokioIo;
use tokio::net::TcpStream;

use super::{http_get::PROBE, probe::Unanswered};
use crate::local::{LocalExecutor, answer_over};

const PATH: &str = "/grpc.health.v1.Health/Check";
/// An answer is a few bytes.
const ANSWER_BYTES: usize = 4096;
/// A message is not compressed and has its length before it.
const FRAME_HEAD: usize = 5;
/// `HealthCheckResponse.ServingStatus.SERVING`.
const SERVING: u64 = 1;

/// Asks for the health of a service.
pub(super) async fn check(stream: TcpStream, address: SocketAddr, service: &str) -> Result<(), Unanswered> {
    let (mut sender, connection) = http2::Builder::new(LocalExecutor).handshake(TokioIo::new(stream)).await?;
    let answer = async {
        let answer = sender.send_request(request(address, service)).await?;
        if answer.status() != StatusCode::OK {
            return Err(Unanswered::Status(answer.status()));
        }
        // Too long, or cut off: no answer of this protocol.
        let body =
            Limited::new(answer.into_body(), ANSWER_BYTES).collect().await.map_err(|_| Unanswered::NotServing)?;
        let is_ok = body.trailers().and_then(|trailers| trailers.get("grpc-status")).is_some_and(|code| code == "0");
        if is_ok && is_serving(&body.to_bytes()) { Ok(()) } else { Err(Unanswered::NotServing) }
    };
    answer_over(connection, answer).await
}

fn request(address: SocketAddr, service: &str) -> Request<Full<Bytes>> {
    let mut request = Request::new(Full::new(framed(service)));
    *request.method_mut() = Method::POST;
    *request.version_mut() = Version::HTTP_2;
    // An address and a constant are a URL.
    *request.uri_mut() = format!("http://{address}{PATH}").parse().unwrap_or_default();
    request.headers_mut().insert(header::CONTENT_TYPE, HeaderValue::from_static("application/grpc"));
    request.headers_mut().insert(header::USER_AGENT, PROBE);
    request.headers_mut().insert(header::TE, HeaderValue::from_static("trailers"));
    request
}

/// `HealthCheckRequest { service }`, with the head of a gRPC message.
fn framed(service: &str) -> Bytes {
    let mut message = Vec::new();
    if !service.is_empty() {
        // Field 1, of the kind that has a length.
        message.push(0x0a);
        push_varint(&mut message, service.len());
        message.extend(service.as_bytes());
    }
    let mut framed = vec![0];
    framed.extend(u32::try_from(message.len()).unwrap_or(u32::MAX).to_be_bytes());
    framed.extend(message);
    framed.into()
}

fn push_varint(bytes: &mut Vec<u8>, mut value: usize) {
    while value >= 0x80 {
        bytes.push((value & 0x7f) as u8 | 0x80);
        value >>= 7;
    }
    bytes.push(value as u8);
}

/// Whether the first field of a `HealthCheckResponse`, its only one, says so.
fn is_serving(framed: &[u8]) -> bool {
    let message =
        framed.split_first().filter(|(compressed, _)| **compressed == 0).and_then(|_| framed.get(FRAME_HEAD..));
    let Some([0x08, value @ ..]) = message else { return false };
    let mut found = 0_u64;
    for (at, byte) in value.iter().enumerate().take(9) {
        found |= u64::from(byte & 0x7f) << (7 * at);
        if byte & 0x80 == 0 {
            return found == SERVING;
        }
    }
    false
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_question_is_what_the_protocol_says() {
        assert_eq!(framed(""), &b"\0\0\0\0\0"[..]);
        assert_eq!(framed("ledger"), &b"\0\0\0\0\x08\x0a\x06ledger"[..]);
        let long = "l".repeat(300);
        assert_eq!(framed(&long)[5..8], [0x0a, 0xac, 0x02]);
    }

    #[test]
    fn only_serving_is_serving() {
        assert!(is_serving(b"\0\0\0\0\x02\x08\x01"));
        for other in [
            &b"\0\0\0\0\x02\x08\x02"[..],
            b"\0\0\0\0\0",
            b"",
            b"\x01\0\0\0\x02\x08\x01",
            b"\0\0\0\0\x02\x10\x01",
            b"\0\0\0\0\x01\x08",
        ] {
            assert!(!is_serving(other), "{other:?}");
        }
    }
}
