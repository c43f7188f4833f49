#![allow(clippy::unwrap_used, reason = "a failed test may panic")]

use std::net::SocketAddr;

use serde_json::Value;
use tokio::net::TcpStream;

use super::*;
use crate::raw::{Ask, Reply, exchange};

/// Two apps, one of which calls the other, or takes it for its proxy: an absolute URL is a URL all the same.
async fn pair(by_proxy: bool) -> SocketAddr {
    let (front, back) = (free(), free());
    let app = |name: &str, listen, calls: Option<&str>, proxy: Option<String>| AppArgs {
        name: name.to_owned(),
        listen: Some(listen),
        calls: calls.map(ToOwned::to_owned),
        once: None,
        http_proxy: proxy,
    };
    tokio::spawn(run(app("back", back, None, None)));
    let (service, proxy) = if by_proxy {
        ("http://back.bank".to_owned(), Some(format!("http://{back}/")))
    } else {
        (format!("http://{back}"), None)
    };
    tokio::spawn(run(app("front", front, Some(&service), proxy)));
    for address in [front, back] {
        let up = crate::wait::until(std::time::Duration::from_secs(5), async || TcpStream::connect(address).await.ok());
        up.await.unwrap();
    }
    front
}

fn free() -> SocketAddr {
    std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap()
}

async fn ask(address: SocketAddr, ask: &Ask) -> Reply {
    let mut stream = TcpStream::connect(address).await.unwrap();
    exchange(&mut stream, &ask.bytes()).await.unwrap()
}

#[tokio::test]
async fn every_way_to_call_works_between_plain_programs() {
    for by_proxy in [true, false] {
        let front = pair(by_proxy).await;
        for (way, status) in [("http1", 200), ("http2", 200), ("grpc", 200), ("websocket", 101)] {
            let said = ask(front, &Ask::new("GET", "front", &format!("/call/{way}"))).await.json();
            assert_eq!(said["status"], status, "{way}: {said}");
            match way {
                "http1" => assert_eq!(said["answer"]["version"], "HTTP/1.1"),
                "http2" => assert_eq!(said["answer"]["version"], "HTTP/2.0"),
                _ => assert_eq!(said["answer"]["same"], true, "{said}"),
            }
        }
    }
}

#[tokio::test]
async fn an_app_says_what_it_was_told_and_what_others_tried() {
    let front = pair(true).await;
    let lie = Ask::new("POST", "front", "/balance").header("x-fapi-caller", "me").header("X_Fapi_Caller", "me too");
    let said = ask(front, &lie).await.json();
    assert_eq!(said["told"]["caller"], "me");
    assert_eq!(said["told"]["telling"].as_array().map(Vec::len), Some(2), "{said}");
    let chained = ask(front, &Ask::new("POST", "front", "/transfers")).await.json();
    assert_eq!(chained["next"]["app"], "back");
    assert_eq!(chained["next"]["told"]["caller"], Value::Null);
    let call = Ask::new("GET", "front", "/call/http1").header("authorization", "Bearer stolen");
    let passed = ask(front, &call).await.json();
    assert_eq!(passed["answer"]["told"]["telling"], serde_json::json!([["authorization", "Bearer stolen"]]));
}

#[tokio::test]
async fn an_app_calls_once_or_goes_deaf() {
    let front = pair(false).await;
    let once = async |path: &str| {
        let args = AppArgs {
            name: "job".to_owned(),
            listen: None,
            calls: Some(format!("http://{front}")),
            once: Some(path.to_owned()),
            http_proxy: None,
        };
        run(args).await.unwrap()
    };
    assert_eq!(once("http1").await, ExitCode::SUCCESS);
    ask(front, &Ask::new("GET", "front", "/deaf")).await;
    let gone = async || TcpStream::connect(front).await.is_err().then_some(());
    crate::wait::until(std::time::Duration::from_secs(5), gone).await.unwrap();
    assert_eq!(once("http1").await, ExitCode::FAILURE);
}
