//! A server that answers by bytes, whatever it is asked.

use std::net::SocketAddr;

use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::TcpListener,
};

/// A server that says this when it has read a head, and then ends the connection. One that says nothing waits for the other's end.
pub(crate) async fn answers(said: &'static [u8]) -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::task::spawn_local(async move {
        loop {
            let (mut stream, _) = listener.accept().await.unwrap();
            tokio::task::spawn_local(async move {
                let (mut seen, mut buffer) = (Vec::new(), [0; 4096]);
                while said.is_empty() || !seen.windows(4).any(|end| end == b"\r\n\r\n") {
                    match stream.read(&mut buffer).await {
                        Ok(0) | Err(_) => return,
                        Ok(read) => seen.extend_from_slice(&buffer[..read]),
                    }
                }
                let _ = stream.write_all(said).await;
            });
        }
    });
    address
}
