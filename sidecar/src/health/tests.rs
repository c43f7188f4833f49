#![allow(clippy::unwrap_used, clippy::panic, reason = "a test fails by panicking")]

mod forms;
mod hooks;
mod told;

use std::{cell::RefCell, net::SocketAddr, rc::Rc};

use control::pod::probes::{GrpcProbe, HttpProbe, Probe, ProbeHeader, Scheme, TcpProbe};
use http::{HeaderMap, HeaderValue, Request};
use http_body_util::{BodyExt as _, StreamBody};
use hyper::{
    body::{Frame, Incoming},
    server::conn::{http1, http2},
    service::service_fn,
};
use hyper_util::rt::TokioIo;
use tokio::net::TcpListener;
use tokio_rustls::TlsAcceptor;

use super::*;
use crate::{
    local::LocalExecutor,
    small_http,
    stop::StopSource,
    testing::{
        app::{App, get},
        authority::{Authority, trust_domain, workload},
        local,
        mesh::LONG,
    },
};

/// Seconds, as much as a busy machine needs.
const PATIENCE: u32 = 20;
const LIVENESS: &str = "/probes/app/liveness";
const PRE_STOP: &str = "/probes/app/prestop/0123456789abcdef0123456789abcdef";

/// The health port of a pod with this probe.
async fn pod(probe: Probe) -> (App, StopSource) {
    pod_with(LIVENESS, probe).await
}

async fn pod_with(path: &str, probe: Probe) -> (App, StopSource) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let app = App::new(listener.local_addr().unwrap());
    let (source, stop) = StopSource::new();
    let health = Health {
        shared: Shared::new(trust_domain(), Interception::Redirect).unwrap().0,
        stop,
        questions: [(TokenHash::of(path), Question::new(path, &probe).unwrap())].into(),
        interception: Interception::Redirect,
    };
    tokio::task::spawn_local(small_http::serve(listener, Rc::new(health)));
    (app, source)
}

/// The status of the probe, which is all that there is to see.
async fn status(pod: App) -> u16 {
    let answer = pod.call(get(LIVENESS)).await;
    assert!(answer.text == "ok\n" || answer.text == "the probe failed\n", "{}", answer.text);
    assert!(answer.header("x-secret").is_none());
    answer.status.as_u16()
}

fn http(port: u16, path: &str) -> HttpProbe {
    HttpProbe { port, path: path.to_owned(), scheme: Scheme::Http, headers: vec![], timeout: PATIENCE }
}

type Seen = Rc<RefCell<Vec<(String, HeaderMap)>>>;

/// An app whose status is in the path that is asked for.
async fn http_app(tls: Option<TlsAcceptor>) -> (SocketAddr, Seen) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let (address, seen) = (listener.local_addr().unwrap(), Seen::default());
    let kept = Rc::clone(&seen);
    tokio::task::spawn_local(async move {
        loop {
            let (stream, _) = listener.accept().await.unwrap();
            let seen = Rc::clone(&kept);
            let service = service_fn(move |request: Request<Incoming>| {
                let target = request.uri().to_string();
                let status: u16 = request.uri().path().trim_start_matches('/').parse().unwrap();
                seen.borrow_mut().push((target, request.headers().clone()));
                let mut response = text(status.try_into().unwrap(), "secret");
                response.headers_mut().insert("x-secret", HeaderValue::from_static("yes"));
                // Where it leads if it is a redirection.
                let location = HeaderValue::from_str(request.uri().query().unwrap_or_default()).unwrap();
                response.headers_mut().insert("location", location);
                async move { Ok::<_, std::convert::Infallible>(response) }
            });
            match &tls {
                None => drop(http1::Builder::new().serve_connection(TokioIo::new(stream), service).await),
                Some(tls) => {
                    let stream = TokioIo::new(tls.accept(stream).await.unwrap());
                    drop(http1::Builder::new().serve_connection(stream, service).await);
                }
            }
        }
    });
    (address, seen)
}

#[tokio::test]
async fn an_http_probe_tells_the_status_and_nothing_else() {
    local(async {
        let (address, seen) = http_app(None).await;
        for (path, expected) in [("/200", 200), ("302", 200), ("/404", 503), ("/500", 503)] {
            let (pod, _source) = pod(Probe::Http(http(address.port(), path))).await;
            assert_eq!(status(pod).await, expected, "{path}");
        }
        assert_eq!(seen.borrow().len(), 4, "a redirection that leads nowhere is good");
        let header = |name: &str, value: &str| ProbeHeader { name: name.to_owned(), value: value.to_owned() };
        let headers = vec![header("Host", "app.example"), header("X-Ask", "1"), header("x-ask", "2")];
        let (pod, _source) = pod(Probe::Http(HttpProbe { headers, ..http(address.port(), "/200?full=1 2") })).await;
        assert_eq!(status(pod).await, 200);
        let (target, headers) = seen.borrow_mut().pop().unwrap();
        assert_eq!(target, "/200?full=1%202");
        assert_eq!(headers["host"], "app.example");
        assert!(headers["user-agent"].to_str().unwrap().starts_with("kube-probe/"));
        assert_eq!(headers["connection"], "close");
        assert_eq!(headers.get_all("x-ask").iter().collect::<Vec<_>>(), ["1", "2"]);
        assert!(seen.borrow()[0].1["host"].to_str().unwrap().starts_with("127.0.0.1:"));
    })
    .await;
}

#[tokio::test]
async fn a_redirection_within_the_app_is_followed_as_a_kubelet_does() {
    local(async {
        let (address, seen) = http_app(None).await;
        let here = |path: &str| format!("http://{address}{path}");
        for (path, expected, requests) in [
            ("/302?/200".to_owned(), 200, 2),
            ("/307?/500".to_owned(), 503, 2),
            ("/301?404".to_owned(), 503, 2),
            (format!("/308?{}", here("/500#there")), 503, 2),
            (format!("/303?//{address}/404"), 503, 2),
            (format!("/302?/302?{}", here("/200")), 200, 3),
            ("/302?http://elsewhere.example/500".to_owned(), 200, 1),
            ("/304?/500".to_owned(), 200, 1),
            ("/302?ftp://elsewhere.example/".to_owned(), 503, 1),
        ] {
            seen.borrow_mut().clear();
            let host = vec![ProbeHeader { name: "Host".to_owned(), value: "app.example".to_owned() }];
            let (pod, _source) = pod(Probe::Http(HttpProbe { headers: host, ..http(address.port(), &path) })).await;
            assert_eq!((status(pod).await, seen.borrow().len()), (expected, requests), "{path}");
            let last = seen.borrow().last().unwrap().1["host"].clone();
            let leads_by_address = path.contains(&address.to_string());
            assert_eq!(last == "app.example", !leads_by_address, "{path}");
        }
        let round = b"HTTP/1.1 302 Found\r\nlocation: /\r\nconnection: close\r\n\r\n";
        let (pod, _source) =
            pod(Probe::Http(http(forms::app(b"\r\n\r\n", round.into(), forms::Closes).await, "/"))).await;
        assert_eq!(status(pod).await, 503, "round and round");
    })
    .await;
}

#[tokio::test]
async fn an_app_with_tls_is_asked_whoever_it_says_it_is() {
    local(async {
        let authority = Authority::new();
        let identity = authority.identity(&workload("payments"), LONG);
        let optional = control::tls::ClientAuth::Optional;
        let config = control::tls::server_config(&authority.bundle(), &identity, optional, &[b"http/1.1"]).unwrap();
        let (address, _seen) = http_app(Some(TlsAcceptor::from(Arc::new(config)))).await;
        let https = |path| Probe::Http(HttpProbe { scheme: Scheme::Https, ..http(address.port(), path) });
        let (good, _source) = pod(https("/200")).await;
        assert_eq!(status(good).await, 200);
        let (bad, _source) = pod(https("/503")).await;
        assert_eq!(status(bad).await, 503);
    })
    .await;
}

#[tokio::test]
async fn a_tcp_probe_is_a_connection() {
    local(async {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let port = listener.local_addr().unwrap().port();
        let (pod, _source) = pod(Probe::Tcp(TcpProbe { port, timeout: 1 })).await;
        assert_eq!(status(pod).await, 200);
        drop(listener);
        assert_eq!(status(pod).await, 503, "a dead app");
    })
    .await;
}

/// A server of the health protocol that says this status, and this at the end.
async fn grpc_app(says: u8, code: &'static str) -> (u16, Rc<RefCell<Bytes>>) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let (port, asked) = (listener.local_addr().unwrap().port(), Rc::new(RefCell::new(Bytes::new())));
    let kept = Rc::clone(&asked);
    tokio::task::spawn_local(async move {
        loop {
            let (stream, _) = listener.accept().await.unwrap();
            let asked = Rc::clone(&kept);
            let service = service_fn(move |request: Request<Incoming>| {
                let asked = Rc::clone(&asked);
                async move {
                    assert_eq!(request.uri().path(), "/grpc.health.v1.Health/Check");
                    *asked.borrow_mut() = request.into_body().collect().await.unwrap().to_bytes();
                    let message = Bytes::from(vec![0, 0, 0, 0, 2, 8, says]);
                    let trailers =
                        HeaderMap::from_iter([("grpc-status".parse().unwrap(), HeaderValue::from_static(code))]);
                    let frames =
                        [Ok::<_, std::convert::Infallible>(Frame::data(message)), Ok(Frame::trailers(trailers))];
                    let body = StreamBody::new(tokio_stream::iter(frames));
                    Ok::<_, std::convert::Infallible>(Response::new(body))
                }
            });
            let _ = http2::Builder::new(LocalExecutor).serve_connection(TokioIo::new(stream), service).await;
        }
    });
    (port, asked)
}

#[tokio::test]
async fn a_grpc_probe_asks_for_the_health_of_a_service() {
    local(async {
        for (says, code, expected) in [(1, "0", 200), (2, "0", 503), (1, "5", 503)] {
            let (port, asked) = grpc_app(says, code).await;
            let probe = GrpcProbe { port, service: "ledger".to_owned(), timeout: 1 };
            let (pod, _source) = pod(Probe::Grpc(probe)).await;
            assert_eq!(status(pod).await, expected);
            assert_eq!(asked.borrow().as_ref(), b"\0\0\0\0\x08\x0a\x06ledger");
        }
    })
    .await;
}

#[tokio::test]
async fn an_app_that_does_not_answer_is_dead_after_its_timeout() {
    local(async {
        let silent = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let port = silent.local_addr().unwrap().port();
        let grpc = GrpcProbe { port, service: String::new(), timeout: 1 };
        let http = HttpProbe { timeout: 1, ..http(port, "/200") };
        for probe in [Probe::Http(http), Probe::Grpc(grpc)] {
            let (pod, _source) = pod(probe).await;
            assert_eq!(status(pod).await, 503);
        }
    })
    .await;
}

#[tokio::test]
async fn nobody_can_ask_for_anything_else() {
    local(async {
        let (address, seen) = http_app(None).await;
        let (pod, source) = pod(Probe::Http(http(address.port(), "/200"))).await;
        for path in
            ["/", "/config", "/livez", "/200", "/probes/app/readiness", "/probes/app/liveness/", "/probes/app/../x"]
        {
            assert_eq!(pod.call(get(path)).await.status, 404, "{path}");
        }
        let mut post = get(LIVENESS);
        *post.method_mut() = Method::POST;
        assert_eq!(pod.call(post).await.status, 405);
        assert_eq!(seen.borrow().len(), 0);
        let answer = pod.call(get("/readyz")).await;
        assert_eq!((answer.status.as_u16(), answer.text.contains("no certificate")), (503, true));
        source.stop();
        assert_eq!(pod.call(get("/readyz")).await.text, "ending\n");
        assert!(pod.call(get("/metrics")).await.text.contains("fapi_requests_total"));
    })
    .await;
}

#[test]
fn what_cannot_be_asked_is_told_at_the_start() {
    let of = |path: &str, probe: HttpProbe| Question::new(path, &Probe::Http(probe));
    assert!(of(LIVENESS, http(80, "/a b")).is_ok(), "it is encoded");
    let headers = vec![ProbeHeader { name: "x".to_owned(), value: "a\nb".to_owned() }];
    assert!(matches!(of(LIVENESS, HttpProbe { headers, ..http(80, "/") }), Err(InvalidProbe::Request(_))));
    assert!(of(PRE_STOP, http(80, "/")).is_ok());
    for path in ["/probes/app/prestop", "/probes/app/prestop/01", "/readyz", "/probes/app/liveness/x", ""] {
        assert!(matches!(of(path, http(80, "/")), Err(InvalidProbe::Path)), "{path}");
    }
}
