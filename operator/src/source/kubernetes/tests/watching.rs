//! A watch, against an API server that is told what to answer.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use kube::Client;
use serde_json::{Value as Json, json};
use tokio::sync::mpsc;
use tokio::time::Instant;

use super::super::objects::{Change, News};
use super::super::watch;
use super::super::watched::Watched;
use crate::behind::Behind;
use crate::testing::api::{self, Answer, failure};

/// Answers by a list, and notes what it was asked.
#[derive(Clone)]
struct Server(Arc<Mutex<Script>>);

struct Script {
    answers: VecDeque<Answer>,
    asked: Vec<String>,
}

impl Server {
    fn new(answers: Vec<Answer>) -> Self {
        Self(Arc::new(Mutex::new(Script { answers: answers.into(), asked: Vec::new() })))
    }

    fn client(&self) -> Client {
        let script = self.0.clone();
        api::client(move |asked| {
            let mut script = script.lock().unwrap();
            script.asked.push(asked.query);
            script.answers.pop_front().unwrap_or_else(|| failure(404))
        })
    }

    /// The queries.
    fn asked(&self) -> Vec<String> {
        self.0.lock().unwrap().asked.clone()
    }
}

fn namespace(name: &str, version: u64) -> Json {
    json!({"metadata": {"name": name, "resourceVersion": version.to_string()}})
}

fn list(names: &[&str], version: u64, more: &str) -> Answer {
    let items: Vec<Json> = names.iter().map(|name| namespace(name, 1)).collect();
    let metadata = json!({"resourceVersion": version.to_string(), "continue": more});
    (200, json!({"apiVersion": "v1", "kind": "NamespaceList", "metadata": metadata, "items": items}).to_string())
}

fn events(events: &[Json]) -> Answer {
    (200, events.iter().map(|event| format!("{event}\n")).collect())
}

fn event(kind: &str, object: Json) -> Json {
    json!({"type": kind, "object": object})
}

/// In short.
fn short(news: &News) -> String {
    let what = match &news.change {
        Change::Listed(all) => format!("listed {}", all.len()),
        Change::Put(key, _) => format!("put {}", key.name),
        Change::Gone(key) => format!("gone {}", key.name),
        Change::Nothing => "nothing".to_owned(),
    };
    format!("{what} at {}", news.version)
}

/// The first news that a server of these answers tells.
async fn told(server: &Server, count: usize) -> Vec<String> {
    let (tell, mut news) = mpsc::channel(16);
    let watching = tokio::spawn(watch::watch(server.client(), Watched::Namespace, tell, Behind::default()));
    let mut told = Vec::new();
    while told.len() < count {
        told.push(short(&tokio::time::timeout(Duration::from_secs(20), news.recv()).await.unwrap().unwrap()));
    }
    watching.abort();
    told
}

#[tokio::test]
async fn pages_become_one_list_and_a_watch_goes_on_where_it_was() {
    let server = Server::new(vec![
        list(&["a", "b"], 10, "more"),
        list(&["c"], 10, ""),
        events(&[event("ADDED", namespace("d", 12)), event("DELETED", namespace("a", 13))]),
        events(&[event(
            "BOOKMARK",
            json!({"apiVersion": "v1", "kind": "Namespace", "metadata": {"resourceVersion": "40"}}),
        )]),
        events(&[event("MODIFIED", namespace("b", 41))]),
    ]);
    let told = told(&server, 5).await;
    assert_eq!(told, ["listed 3 at 10", "put d at 12", "gone a at 13", "nothing at 40", "put b at 41"]);
    let asked = server.asked();
    assert!(asked[1].contains("continue=more"), "{asked:?}");
    for (position, version) in [(2, 10), (3, 13), (4, 40)] {
        assert!(asked[position].contains(&format!("resourceVersion={version}")), "{asked:?}");
    }
}

#[tokio::test]
async fn everything_is_listed_again_when_sidecars_know_more() {
    let server = Server::new(vec![
        list(&["a"], 10, ""),
        events(&[event("ADDED", namespace("b", 11))]),
        list(&["a", "b"], 90, ""),
    ]);
    let (tell, mut news) = mpsc::channel(1);
    let behind = Behind::default();
    let watching = tokio::spawn(watch::watch(server.client(), Watched::Namespace, tell, behind.clone()));
    let mut next = async || short(&tokio::time::timeout(Duration::from_secs(20), news.recv()).await.unwrap().unwrap());
    // There is room for one, so the watch is not over when it is told.
    assert_eq!(next().await, "listed 1 at 10");
    behind.tell();
    // What had come already may come first.
    let mut told = next().await;
    if told == "put b at 11" {
        told = next().await;
    }
    assert_eq!(told, "listed 2 at 90");
    watching.abort();
}

#[tokio::test]
async fn what_the_server_has_forgotten_is_listed_again() {
    let gone: Json = serde_json::from_str(&failure(410).1).unwrap();
    let server = Server::new(vec![
        list(&["a"], 10, ""),
        events(&[event("ADDED", namespace("b", 11)), event("ERROR", gone)]),
        list(&["b"], 90, ""),
        failure(410),
        list(&["c"], 95, ""),
    ]);
    assert_eq!(told(&server, 4).await, ["listed 1 at 10", "put b at 11", "listed 1 at 90", "listed 1 at 95"]);
}

#[tokio::test]
async fn failures_are_tried_again_and_lose_nothing() {
    let server = Server::new(vec![
        failure(403),
        list(&["a"], 10, ""),
        failure(500),
        events(&[event("ADDED", namespace("b", 11))]),
        // What is no object is not asked for twice.
        (200, "{\"type\":\"ADDED\",\"object\":7}\n".to_owned()),
        list(&["a", "b"], 12, ""),
    ]);
    assert_eq!(told(&server, 3).await, ["listed 1 at 10", "put b at 11", "listed 2 at 12"]);
    let asked = server.asked();
    assert!(asked[2].contains("resourceVersion=10") && asked[3].contains("resourceVersion=10"), "{asked:?}");
}

/// When a server of such watches is asked for a list in the first `seconds`, in seconds. `watch` says of a watch that begins in that
/// second how it is answered, and after what time.
async fn listed(seconds: u64, watch: impl Fn(u64) -> (Duration, Answer) + Send + Sync + 'static) -> Vec<f64> {
    let (began, lists) = (Instant::now(), Arc::new(Mutex::new(Vec::new())));
    let noted = lists.clone();
    let client = api::slow_client(move |asked| {
        let now = began.elapsed();
        if asked.query.contains("watch=true") {
            return watch(now.as_secs());
        }
        noted.lock().unwrap().push(now.as_secs_f64());
        (Duration::ZERO, list(&["a"], 10, ""))
    });
    let (tell, mut news) = mpsc::channel(16);
    let watching = watch::watch(client, Watched::Namespace, tell, Behind::default());
    let hears = async { while news.recv().await.is_some() {} };
    let all = async { tokio::join!(watching, hears) };
    assert!(tokio::time::timeout(Duration::from_secs(seconds), all).await.is_err());
    lists.lock().unwrap().clone()
}

#[tokio::test(start_paused = true)]
async fn a_server_that_comes_back_is_heard_of_within_seconds() {
    // It has forgotten what it told before, as API servers have.
    let lists = listed(600, |now| match now {
        0..60 => (Duration::ZERO, failure(500)),
        60..70 => (Duration::ZERO, failure(410)),
        _ => (Duration::from_secs(29), events(&[])),
    })
    .await;
    assert_eq!(lists[0], 0.0);
    assert!(lists.get(1).is_some_and(|at| (60.0..=65.6).contains(at)), "{lists:?}");
}

#[tokio::test(start_paused = true)]
async fn lists_are_asked_for_ever_less_while_watches_break_and_at_once_after_one_that_lived() {
    let lists = listed(600, |now| match now {
        0..300 => (Duration::ZERO, failure(410)),
        300..400 => (Duration::from_secs(11), events(&[])),
        _ => (Duration::ZERO, failure(410)),
    })
    .await;
    let (before, after): (Vec<f64>, Vec<f64>) = lists.iter().partition(|at| **at < 350.0);
    for lists in [before, after] {
        let rests: Vec<f64> = lists.windows(2).map(|two| two[1] - two[0]).collect();
        assert!(rests[0] <= 1.0 && rests[1] <= 2.0, "{rests:?}");
        let last = rests.last().unwrap();
        assert!((15.0..=30.1).contains(last) && lists.len() <= 26, "{rests:?}");
    }
}
