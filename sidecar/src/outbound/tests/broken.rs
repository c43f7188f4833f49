//! Messages that are not what they should be, from servers and from the app.

use std::net::SocketAddr;

use control::DestinationKind;
use http::header;
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::TcpListener,
};

use crate::{
    outbound::Between,
    testing::{
        app::{read, request},
        bytes::answers,
        counted, local,
        mesh::Mesh,
    },
};

#[tokio::test]
async fn an_answer_from_outside_says_nothing_that_only_sidecars_say() {
    local(async {
        let mesh = Mesh::start(Between::H1).await;
        let said = b"HTTP/1.1 200 OK\r\nX-Fapi-Caller: me\r\nx_fapi_context: c\r\nX-Fapi-Interaction-Id: 1\r\n\
            Content-Length: 1\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nok\r\n0\r\n\r\n";
        let addresses = vec![answers(said).await];
        mesh.operator.set_destination("old.example", DestinationKind::Unmeshed { addresses });
        let answer = mesh.app.get("http://old.example/a").await;
        assert_eq!((answer.status.as_u16(), answer.text.as_str()), (200, "ok"));
        for name in ["x-fapi-caller", "x_fapi_context", header::CONTENT_LENGTH.as_str()] {
            assert_eq!(answer.header(name), None, "{name}");
        }
        assert!(answer.header("x-fapi-interaction-id").is_some_and(|id| id.len() == 36));
    })
    .await;
}

/// An HTTP/2 server that answers the first request with a GOAWAY without error, before any stream.
async fn leaving() -> SocketAddr {
    const SETTINGS: &[u8] = b"\0\0\0\x04\0\0\0\0\0";
    const GOAWAY: &[u8] = b"\0\0\x08\x07\0\0\0\0\0\0\0\0\0\0\0\0\0";
    const HEADERS: u8 = 1;
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::task::spawn_local(async move {
        loop {
            let (mut stream, _) = listener.accept().await.unwrap();
            stream.read_exact(&mut [0; 24]).await.unwrap();
            stream.write_all(SETTINGS).await.unwrap();
            let mut head = [0; 9];
            while head[3] != HEADERS {
                stream.read_exact(&mut head).await.unwrap();
                let length = u32::from_be_bytes([0, head[0], head[1], head[2]]);
                let mut frame = vec![0; length.try_into().unwrap()];
                stream.read_exact(&mut frame).await.unwrap();
            }
            stream.write_all(GOAWAY).await.unwrap();
            tokio::task::spawn_local(async move { stream.read_to_end(&mut Vec::new()).await });
        }
    });
    address
}

#[tokio::test]
async fn of_a_request_that_its_server_did_not_process_nothing_else_is_said() {
    local(async {
        let mesh = Mesh::start(Between::H1).await;
        let listener = mesh.outside().await;
        tokio::task::spawn_local(async move {
            loop {
                let (stream, _) = listener.accept().await.unwrap();
                tokio::task::spawn_local(async move {
                    let mut connection = h2::server::handshake(stream).await.unwrap();
                    while let Some(Ok((_request, mut response))) = connection.accept().await {
                        response.send_reset(h2::Reason::REFUSED_STREAM);
                    }
                });
            }
        });
        let kind = DestinationKind::Unmeshed { addresses: vec![leaving().await] };
        mesh.operator.set_destination("leaving.example", kind);
        for (host, body) in [("old", ""), ("old", "money"), ("leaving", ""), ("leaving", "money")] {
            let asked = request("POST", &format!("http://{host}.example/a"), body);
            let answer = read(mesh.app.http2().await.send_request(asked).await.unwrap()).await;
            assert_eq!((answer.status.as_u16(), answer.error().as_str()), (503, "request_not_processed"));
            assert!(!answer.text.contains("may have been"), "{}", answer.text);
        }
    })
    .await;
}

#[tokio::test]
async fn a_head_of_the_app_that_cannot_be_read_is_told_as_any_other_refusal() {
    local(async {
        let mesh = Mesh::start(Between::H1).await;
        let fields: String = (0..120).map(|at| format!("x-{at}: 1\r\n")).collect();
        for (reason, rest) in [("header_too_large", fields.as_str()), ("request_malformed", "X: a\r\n b\r\n")] {
            let mut stream = mesh.app.connect().await;
            let head = format!("GET http://payments.bank/a HTTP/1.1\r\nHost: payments.bank\r\n{rest}\r\n");
            stream.write_all(head.as_bytes()).await.unwrap();
            let mut answer = String::new();
            stream.read_to_string(&mut answer).await.unwrap();
            assert!(answer.starts_with("HTTP/1.1 4"), "{answer}");
            let line =
                format!("fapi_requests_total{{direction=\"outbound\",outcome=\"refused\",reason=\"{reason}\"}} 1");
            counted(&mesh.shared, &line).await;
        }
    })
    .await;
}
