//! Whoever reaches the port can ask: slowly, much, and about what never was.

use std::net::SocketAddr;
use std::rc::Rc;
use std::task::{Context, Poll};

use hyper::body::Frame;
use hyper::client::conn::http2::SendRequest;
use hyper_util::rt::TokioExecutor;
use tokio::net::TcpSocket;
use tokio::task::JoinSet;

use super::*;

/// A body of which nothing ever comes.
struct Never;

impl hyper::body::Body for Never {
    type Data = Bytes;
    type Error = std::convert::Infallible;

    fn poll_frame(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Self::Error>>> {
        Poll::Pending
    }
}

impl Server {
    /// A connection from an address of this machine.
    async fn from(&self, last: u8) -> TcpStream {
        let socket = TcpSocket::new_v4().unwrap();
        socket.bind(SocketAddr::from(([127, 0, 0, last], 0))).unwrap();
        socket.connect(self.address).await.unwrap()
    }

    async fn http2<B>(&self, last: u8) -> SendRequest<B>
    where
        B: hyper::body::Body<Data = Bytes, Error = std::convert::Infallible> + Send + Unpin + 'static,
    {
        let tls = self.tls(self.from(last).await, b"h2").await;
        let handshake = hyper::client::conn::http2::handshake(TokioExecutor::new(), TokioIo::new(tls));
        let (sender, connection) = handshake.await.unwrap();
        tokio::spawn(connection);
        sender
    }
}

fn request<B>(body: B) -> Request<B> {
    Request::builder().method(Method::POST).uri("https://fapi-operator.fapi-mesh.svc/inject").body(body).unwrap()
}

fn create(namespace: &str, pod: Json) -> Json {
    json!({"namespace": namespace, "operation": "CREATE", "object": pod})
}

fn review() -> Full<Bytes> {
    let mut request = create("bank", pod(json!({})));
    request["uid"] = "u-1".into();
    let review = json!({"apiVersion": "admission.k8s.io/v1", "kind": "AdmissionReview", "request": request});
    Full::new(review.to_string().into())
}

#[tokio::test]
async fn slow_bodies_on_many_streams_keep_no_review_from_its_answer() {
    let server = Server::start().await;
    let mut slow = JoinSet::new();
    for last in [2, 3, 4] {
        let mut sender = server.http2(last).await;
        for _ in 0..REVIEWS {
            sender.ready().await.unwrap();
            let answer = sender.send_request(request(Never));
            slow.spawn(async move { answer.await.unwrap().status() });
        }
    }
    let answer = server.review("/inject", create("bank", pod(json!({})))).await;
    assert_eq!(answer["allowed"], true, "{answer}");
    let answers = slow.join_all().await;
    assert_eq!(answers, vec![StatusCode::REQUEST_TIMEOUT; 3 * REVIEWS]);
}

#[tokio::test]
async fn connections_that_are_held_keep_no_review_from_its_answer() {
    let server = Server::start().await;
    let mut api_server = server.http2::<Full<Bytes>>(2).await;
    assert_eq!(api_server.send_request(request(review())).await.unwrap().status(), StatusCode::OK);
    let mut held = Vec::new();
    // From one address, and from many.
    for last in [3; 100].into_iter().chain([4, 5, 6, 7].repeat(16)) {
        held.push(server.from(last).await);
    }
    let answer = server.review("/inject", create("bank", pod(json!({})))).await;
    assert_eq!(answer["allowed"], true, "{answer}");
    // Whoever has but one keeps it.
    assert_eq!(api_server.send_request(request(review())).await.unwrap().status(), StatusCode::OK);
    drop(held);
}

/// An API server asks by HTTP/1.1, each review on a connection of its own.
#[tokio::test]
async fn a_rollout_asks_for_many_pods_at_once() {
    let (local, mut reviews) = (tokio::task::LocalSet::new(), JoinSet::new());
    let server = Rc::new(Server::start().await);
    for _ in 0..100 {
        let server = server.clone();
        let review = async move { server.review("/inject", create("bank", pod(json!({})))).await };
        reviews.spawn_local_on(review, &local);
    }
    let answers = local.run_until(reviews.join_all()).await;
    assert!(answers.iter().all(|answer| answer["allowed"] == true), "{answers:?}");
}

#[tokio::test]
async fn large_reviews_leave_turns_for_small_ones() {
    let server = Server::start().await;
    let webhook = &server.webhook;
    let large = http::turns(webhook, http::MAX_BODY).await.unwrap();
    tokio::select! {
        biased;
        _ = http::turns(webhook, http::MAX_BODY) => panic!("one at a time"),
        () = std::future::ready(()) => {}
    }
    let answer = server.review("/inject", create("bank", pod(json!({})))).await;
    assert_eq!(answer["allowed"], true, "{answer}");
    drop(large);
}

#[tokio::test]
async fn an_invented_review_tells_nothing_of_what_nobody_knows() {
    let server = Server::start().await;
    let mut invented = replica(json!({}));
    invented["metadata"]["labels"] = json!({"fapi-mesh.dev/inject": "enabled"});
    let answer = server.review("/inject", create("web", invented.clone())).await;
    assert!(answer["patch"].is_string(), "{answer}");
    assert_eq!((server.told)(), Vec::<[String; 3]>::new(), "nobody asked for the namespace");

    // There are pods of the mesh.
    let opted_in = [Arc::from("web")].into();
    server.desired.send_replace(Arc::new(Desired { opted_in, ..Desired::default() }));
    for number in 0..100 {
        invented["metadata"]["ownerReferences"][1]["name"] = format!("shop-{number}").into();
        server.review("/inject", create("web", invented.clone())).await;
    }
    assert_eq!((server.told)().len(), 60, "so many in a minute");
}
