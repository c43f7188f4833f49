//! Plain HTTP/1.1 for those who ask about the sidecar: a kubelet, a scraper, a person. Served by the control thread.

use std::{convert::Infallible, net::SocketAddr, rc::Rc, time::Duration};

use bytes::Bytes;
use control::OpenConnections;
use http::{
    HeaderValue, Method, Request, Response, StatusCode,
    header::{ALLOW, CONTENT_TYPE},
};
use http_body_util::Full;
use hyper::{body::Incoming, server::conn::http1, service::service_fn};
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::{
    net::{TcpListener, TcpStream},
    task::{AbortHandle, spawn_local},
    time::{sleep, timeout},
};

const CONNECTIONS: usize = 64;
/// From one address. A kubelet probes all containers of a pod from one; who wants more loses its own oldest.
const CONNECTIONS_FROM_ONE: usize = 16;
const HEAD_WITHIN: Duration = Duration::from_secs(5);
/// The longest that an answer may take, probes of a slow app among them.
const CONNECTION_WITHIN: Duration = Duration::from_secs(300);
const PAUSE: Duration = Duration::from_millis(50);

const TEXT: HeaderValue = HeaderValue::from_static("text/plain; charset=utf-8");

/// Both ends of a connection.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Ends {
    pub(crate) from: SocketAddr,
    pub(crate) at: SocketAddr,
}

/// What a server answers to `GET` and `HEAD`; everything else is refused before it is asked.
pub(crate) trait Answers {
    fn answer(&self, path: &str, ends: Ends) -> impl Future<Output = Response<Full<Bytes>>>;
}

/// Serves until it is dropped.
pub(crate) async fn serve<A: Answers + 'static>(listener: TcpListener, answers: Rc<A>) {
    let mut open = OpenConnections::new(CONNECTIONS, CONNECTIONS_FROM_ONE);
    loop {
        match listener.accept().await {
            Ok((stream, from)) => {
                let answers = Rc::clone(&answers);
                let connection = spawn_local(async move { connection(stream, from, &*answers).await });
                if let Some(oldest) = open.take_in(from.ip(), connection.abort_handle(), AbortHandle::is_finished) {
                    oldest.abort();
                }
            }
            Err(error) => {
                tracing::warn!(%error, "cannot accept a connection; check the limit of open files");
                sleep(PAUSE).await;
            }
        }
    }
}

async fn connection<A: Answers>(stream: TcpStream, from: SocketAddr, answers: &A) {
    let Ok(at) = stream.local_addr() else { return };
    let service = service_fn(|request: Request<Incoming>| async move {
        let is_question = request.method() == Method::GET || request.method() == Method::HEAD;
        Ok::<_, Infallible>(if is_question {
            answers.answer(request.uri().path(), Ends { from, at }).await
        } else {
            let mut refused = text(StatusCode::METHOD_NOT_ALLOWED, "use GET\n");
            refused.headers_mut().insert(ALLOW, HeaderValue::from_static("GET, HEAD"));
            refused
        })
    });
    let mut builder = http1::Builder::new();
    // One question each: a connection that nothing is asked on is worth nothing to anybody else.
    builder.timer(TokioTimer::new()).header_read_timeout(HEAD_WITHIN).max_headers(64).keep_alive(false);
    // A peer that goes away is no event.
    let _ = timeout(CONNECTION_WITHIN, builder.serve_connection(TokioIo::new(stream), service)).await;
}

pub(crate) fn text(status: StatusCode, text: impl Into<Bytes>) -> Response<Full<Bytes>> {
    respond(status, TEXT, text)
}

pub(crate) fn respond(status: StatusCode, kind: HeaderValue, body: impl Into<Bytes>) -> Response<Full<Bytes>> {
    let mut response = Response::new(Full::new(body.into()));
    *response.status_mut() = status;
    response.headers_mut().insert(CONTENT_TYPE, kind);
    response
}

#[cfg(test)]
mod tests {
    use std::cell::Cell;

    use tokio::{
        io::{AsyncReadExt as _, AsyncWriteExt as _},
        net::TcpSocket,
        sync::Notify,
    };

    use super::*;
    use crate::testing::{local, until};

    /// Answers at once, but for `/slow`.
    #[derive(Default)]
    struct Slow {
        asked: Cell<usize>,
        go: Notify,
    }

    impl Answers for Slow {
        async fn answer(&self, path: &str, _: Ends) -> Response<Full<Bytes>> {
            if path == "/slow" {
                self.asked.set(self.asked.get() + 1);
                self.go.notified().await;
            }
            text(StatusCode::OK, "ok\n")
        }
    }

    /// A question from another address of this machine.
    async fn ask(server: SocketAddr, from: u8, path: &str) -> TcpStream {
        let socket = TcpSocket::new_v4().unwrap();
        socket.bind(([127, 0, 0, from], 0).into()).unwrap();
        let mut stream = socket.connect(server).await.unwrap();
        stream.write_all(format!("GET {path} HTTP/1.1\r\nHost: a\r\n\r\n").as_bytes()).await.unwrap();
        stream
    }

    /// All that comes: the server ends the connection.
    async fn read(mut stream: TcpStream) -> String {
        let mut all = String::new();
        stream.read_to_string(&mut all).await.unwrap();
        all
    }

    #[tokio::test]
    async fn who_holds_connections_keeps_nobody_from_being_answered() {
        local(async {
            let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
            let (address, answers) = (listener.local_addr().unwrap(), Rc::<Slow>::default());
            spawn_local(serve(listener, Rc::clone(&answers)));
            let kubelet = ask(address, 2, "/slow").await;
            until("the slow probe has come", || answers.asked.get() == 1).await;
            let mut held = Vec::new();
            for _ in 0..2 * CONNECTIONS {
                held.push(TcpStream::connect(address).await.unwrap());
            }
            assert!(read(ask(address, 2, "/readyz").await).await.ends_with("ok\n"), "another is answered");
            assert!(read(ask(address, 1, "/readyz").await).await.ends_with("ok\n"), "and so is who holds them");
            answers.go.notify_one();
            assert!(read(kubelet).await.ends_with("ok\n"), "a probe in progress stays");
        })
        .await;
    }

    #[tokio::test]
    async fn of_many_addresses_the_oldest_connection_goes() {
        local(async {
            let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
            let address = listener.local_addr().unwrap();
            spawn_local(serve(listener, Rc::<Slow>::default()));
            let mut held = Vec::new();
            for at in 0..2 * CONNECTIONS {
                held.push(ask(address, 10 + (at % 20) as u8, "/slow").await);
            }
            assert!(read(ask(address, 2, "/readyz").await).await.ends_with("ok\n"));
        })
        .await;
    }
}
