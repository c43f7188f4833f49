//! Plain HTTP/1.1 for those who ask about the sidecar: a kubelet, a scraper, a person. Served by the control thread.

use std::{cell::Cell, net::SocketAddr, rc::Rc, time::Duration};

use bytes::Bytes;
use control::{OpenConnections, pod::probes::LONGEST};
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
/// The longest that a connection may take: hooks and probes of a slow app take so long, and the rest is little.
const CONNECTION_WITHIN: Duration = Duration::from_secs(LONGEST as u64 + 60);
const PAUSE: Duration = Duration::from_millis(50);

const TEXT: HeaderValue = HeaderValue::from_static("text/plain; charset=utf-8");

/// What is asked, and both ends of the connection.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Asked<'a> {
    /// `GET` or `HEAD`.
    pub(crate) method: &'a Method,
    pub(crate) path: &'a str,
    pub(crate) from: SocketAddr,
    pub(crate) at: SocketAddr,
}

/// There is no answer: the connection ends.
#[derive(Debug, thiserror::Error)]
#[error("no answer")]
pub(crate) struct Silence;

/// What a server answers to `GET` and `HEAD`; everything else is refused before it is asked.
pub(crate) trait Answers {
    fn answer(&self, asked: Asked<'_>) -> impl Future<Output = Result<Response<Full<Bytes>>, Silence>>;

    /// Whether only who is trusted can ask this: his connection goes last where others need room.
    fn is_trusted(&self, _: Asked<'_>) -> bool {
        false
    }
}

/// An open connection.
struct Open {
    task: AbortHandle,
    is_trusted: Rc<Cell<bool>>,
}

/// Serves until it is dropped.
pub(crate) async fn serve<A: Answers + 'static>(listener: TcpListener, answers: Rc<A>) {
    let mut open = OpenConnections::new(CONNECTIONS, CONNECTIONS_FROM_ONE);
    loop {
        match listener.accept().await {
            Ok((stream, from)) => {
                let (answers, is_trusted) = (Rc::clone(&answers), Rc::new(Cell::new(false)));
                let trusted = Rc::clone(&is_trusted);
                let task = spawn_local(async move { connection(stream, from, &*answers, &trusted).await });
                let new = Open { task: task.abort_handle(), is_trusted };
                let (is_over, is_busy) = (|open: &Open| open.task.is_finished(), |open: &Open| open.is_trusted.get());
                if let Some(gone) = open.take_in_sparing(from.ip(), new, is_over, is_busy) {
                    gone.task.abort();
                }
            }
            Err(error) => {
                tracing::warn!(%error, "cannot accept a connection; check the limit of open files");
                sleep(PAUSE).await;
            }
        }
    }
}

async fn connection<A: Answers>(stream: TcpStream, from: SocketAddr, answers: &A, is_trusted: &Cell<bool>) {
    let Ok(at) = stream.local_addr() else { return };
    let service = service_fn(|request: Request<Incoming>| async move {
        if ![Method::GET, Method::HEAD].contains(request.method()) {
            return Ok(not_allowed("GET, HEAD"));
        }
        let asked = Asked { method: request.method(), path: request.uri().path(), from, at };
        is_trusted.set(answers.is_trusted(asked));
        answers.answer(asked).await
    });
    let mut builder = http1::Builder::new();
    // One question each: a connection that nothing is asked on is worth nothing to anybody else.
    builder.timer(TokioTimer::new()).header_read_timeout(HEAD_WITHIN).max_headers(64).keep_alive(false);
    // A peer that goes away is no event.
    let _ = timeout(CONNECTION_WITHIN, builder.serve_connection(TokioIo::new(stream), service)).await;
}

/// The refusal of a method where these would do.
pub(crate) fn not_allowed(allowed: &'static str) -> Response<Full<Bytes>> {
    let mut refused = text(StatusCode::METHOD_NOT_ALLOWED, "use GET\n");
    refused.headers_mut().insert(ALLOW, HeaderValue::from_static(allowed));
    refused
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
        async fn answer(&self, asked: Asked<'_>) -> Result<Response<Full<Bytes>>, Silence> {
            if ["/slow", "/trusted"].contains(&asked.path) {
                self.asked.set(self.asked.get() + 1);
                self.go.notified().await;
            }
            Ok(text(StatusCode::OK, "ok\n"))
        }

        fn is_trusted(&self, asked: Asked<'_>) -> bool {
            asked.path == "/trusted"
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

    #[tokio::test]
    async fn nobody_ends_what_only_who_is_trusted_asks() {
        local(async {
            let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
            let (address, answers) = (listener.local_addr().unwrap(), Rc::<Slow>::default());
            spawn_local(serve(listener, Rc::clone(&answers)));
            let hook = ask(address, 2, "/trusted").await;
            until("the hook has come", || answers.asked.get() == 1).await;
            let mut held = Vec::new();
            // From where the hook comes, as calls by a port of the node do, and from many places.
            for at in 0..2 * CONNECTIONS {
                held.push(ask(address, [2, 10 + (at % 40) as u8][at % 2], "/slow").await);
            }
            assert!(read(ask(address, 3, "/readyz").await).await.ends_with("ok\n"));
            answers.go.notify_waiters();
            assert!(read(hook).await.ends_with("ok\n"));
        })
        .await;
    }
}
