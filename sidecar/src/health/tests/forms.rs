//! The same answers in every form in which apps give them: what ends a connection is none of a probe's business.

use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::TcpStream,
};

use super::*;

/// What an app does once it has answered.
#[derive(Clone, Copy)]
pub(super) enum Then {
    Closes,
    Holds,
    Resets,
}
pub(super) use Then::{Closes, Holds, Resets};

/// An app that says this, whatever it is asked. A question ends so.
pub(super) async fn app(question_ends: &'static [u8], says: Vec<u8>, then: Then) -> u16 {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    tokio::task::spawn_local(async move {
        loop {
            let (stream, _) = listener.accept().await.unwrap();
            tokio::task::spawn_local(answer(stream, question_ends, says.clone(), then));
        }
    });
    port
}

async fn answer(mut stream: TcpStream, question_ends: &[u8], says: Vec<u8>, then: Then) {
    let mut request = Vec::new();
    loop {
        assert_ne!(stream.read_buf(&mut request).await.unwrap(), 0);
        if request.ends_with(question_ends) {
            break;
        }
    }
    // Whoever has what he wants may go while there is more.
    let _ = stream.write_all(&says).await;
    match then {
        Closes => drop(stream.shutdown().await),
        Holds => {}
        Resets => return stream.set_zero_linger().unwrap(),
    }
    let _ = stream.read_to_end(&mut request).await;
}

/// What comes in one moment comes in any order: once is no proof.
const TIMES: usize = 20;

#[tokio::test]
async fn an_answer_counts_however_its_connection_ends() {
    let large = format!("HTTP/1.1 200 OK\r\nconnection: close\r\n\r\n{}", "x".repeat(1 << 20));
    local(async {
        for (says, then, expected) in [
            ("HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok", Holds, 200),
            ("HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok", Closes, 200),
            ("HTTP/1.1 200 OK\r\ncontent-length: 0\r\nconnection: close\r\n\r\n", Closes, 200),
            ("HTTP/1.1 200 OK\r\ncontent-length: 2\r\nconnection: close\r\n\r\nok", Closes, 200),
            ("HTTP/1.1 200 OK\r\nconnection: keep-alive\r\ncontent-length: 2\r\n\r\nok", Closes, 200),
            (
                "HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\nconnection: close\r\n\r\n2\r\nok\r\n0\r\n\r\n",
                Closes,
                200,
            ),
            ("HTTP/1.1 204 No Content\r\nconnection: close\r\n\r\n", Closes, 200),
            ("HTTP/1.1 200 OK\r\n\r\nuntil the end", Closes, 200),
            ("HTTP/1.0 200 OK\r\n\r\nok", Closes, 200),
            ("HTTP/1.0 200 OK\r\ncontent-length: 2\r\n\r\nok", Closes, 200),
            ("HTTP/1.0 200 OK\r\ncontent-length: 2\r\nconnection: keep-alive\r\n\r\nok", Closes, 200),
            ("HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 200 OK\r\nconnection: close\r\n\r\n", Closes, 200),
            ("HTTP/1.1 103 Early Hints\r\nlink: </a>\r\n\r\nHTTP/1.1 200 OK\r\nconnection: close\r\n\r\n", Closes, 200),
            ("HTTP/1.1 200 OK\r\ncontent-length: 5\r\n\r\n", Closes, 200),
            (&large, Closes, 200),
            ("HTTP/1.1 500 Internal Server Error\r\nconnection: close\r\ncontent-length: 2\r\n\r\nno", Closes, 503),
            ("HTTP/1.0 404 Not Found\r\n\r\n", Closes, 503),
            ("HTTP/1.1 100 Continue\r\n\r\n", Closes, 503),
            ("HTTP/1.1 200", Closes, 503),
            ("", Closes, 503),
            ("", Resets, 503),
            ("SSH-2.0-x\r\n", Closes, 503),
        ] {
            let (pod, _source) = pod(Probe::Http(http(app(b"\r\n\r\n", says.into(), then).await, "/"))).await;
            for _ in 0..TIMES {
                assert_eq!(status(pod).await, expected, "{:?}", &says[..says.len().min(80)]);
            }
        }
    })
    .await;
}

/// The last frame of the question for the server as a whole: an empty message, and the end of the stream.
const QUESTION: [u8; 14] = [0, 0, 5, 0, 1, 0, 0, 0, 1, 0, 0, 0, 0, 0];

/// A frame of HTTP/2 (RFC 9113 section 4.1).
fn frame(kind: u8, flags: u8, stream: u8, payload: &[u8]) -> Vec<u8> {
    let length = u8::try_from(payload.len()).unwrap();
    [&[0, 0, length, kind, flags, 0, 0, 0, stream], payload].concat()
}

#[tokio::test]
async fn a_grpc_answer_counts_however_its_connection_ends() {
    let [data, headers, settings, goaway] = [0, 1, 4, 7];
    let [ack, end_headers, end] = [1, 4, 5];
    let serving = [
        frame(settings, 0, 0, &[]),
        frame(settings, ack, 0, &[]),
        frame(headers, end_headers, 1, &[0x88]),
        frame(data, 0, 1, &[0, 0, 0, 0, 2, 8, 1]),
        frame(headers, end, 1, b"\0\x0bgrpc-status\x010"),
    ]
    .concat();
    let farewell = frame(goaway, 0, 0, &[0, 0, 0, 1, 0, 0, 0, 0]);
    local(async {
        for (says, then, expected) in [
            (serving.clone(), Holds, 200),
            (serving.clone(), Closes, 200),
            ([&serving[..], &farewell].concat(), Holds, 200),
            ([&serving[..], &farewell].concat(), Closes, 200),
            (farewell, Closes, 503),
            (vec![], Closes, 503),
            (vec![], Resets, 503),
        ] {
            let probe =
                GrpcProbe { port: app(&QUESTION, says.clone(), then).await, service: String::new(), timeout: PATIENCE };
            let (pod, _source) = pod(Probe::Grpc(probe)).await;
            for _ in 0..TIMES {
                assert_eq!(status(pod).await, expected, "{says:?}");
            }
        }
    })
    .await;
}
