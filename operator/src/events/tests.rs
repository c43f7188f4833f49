//! Events as an API server gets them.
#![allow(clippy::unwrap_used, reason = "a failed step fails the test")]

use std::collections::BTreeMap;
use std::time::Duration;

use serde_json::json;
use tokio::sync::watch;

use super::*;
use crate::source::{Desired, Fault, Kind, ObjectId};
use crate::testing::NOW;
use crate::testing::cluster::Cluster;
use crate::testing::mesh::SOON;

const EVENTS: &str = "/apis/events.k8s.io/v1/namespaces/bank/events";

/// A cluster, and an operator that tells it things.
struct Bench {
    cluster: Cluster,
    clock: Clock,
    events: Events,
    shutdown: watch::Sender<bool>,
}

impl Bench {
    fn new() -> Self {
        let (cluster, clock) = (Cluster::default(), Clock::manual(NOW));
        let (events, scribe) = Events::open(cluster.client(), clock.clone());
        let shutdown = watch::Sender::new(false);
        tokio::spawn(scribe.run(shutdown.subscribe()));
        Self { cluster, clock, events, shutdown }
    }

    /// Another operator of the same cluster.
    fn with(cluster: &Cluster) -> Self {
        let bench = Self::new();
        let (events, scribe) = Events::open(cluster.client(), bench.clock.clone());
        tokio::spawn(scribe.run(bench.shutdown.subscribe()));
        Self { cluster: cluster.clone(), events, ..bench }
    }

    /// Waits until so many requests were answered, one way or the other.
    async fn answered(&self, requests: u64) {
        let answered = async {
            while { self.events.fates() }.written + { self.events.fates() }.failed < requests {
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
        };
        tokio::time::timeout(SOON, answered).await.unwrap();
    }
}

fn job() -> About {
    About {
        api_version: "batch/v1".to_owned(),
        kind: "Job".to_owned(),
        namespace: "bank".to_owned(),
        name: "batch".to_owned(),
        uid: "u-1".to_owned(),
    }
}

/// The path of what was written last.
fn last(writes: &[String]) -> String {
    writes.last().unwrap().split_once(' ').unwrap().1.to_owned()
}

#[tokio::test]
async fn an_event_stands_on_its_object_and_counts_what_follows() {
    let bench = Bench::new();
    let refused =
        |name: &str| bench.events.tell(About { name: name.to_owned(), ..job() }, Reason::InjectionRefused, "no");
    refused("batch");
    bench.answered(1).await;
    assert_eq!(bench.cluster.writes(), [format!("POST {EVENTS}")]);
    for _ in 0..4 {
        refused("batch");
    }
    bench.clock.advance(Duration::from_secs(60));
    // The clock of the test moves no timer; something new is looked at at once.
    refused("other");
    bench.answered(3).await;
    let writes = bench.cluster.writes();
    let path = last(&writes);
    assert!(path.starts_with(&format!("{EVENTS}/batch.")), "{path}");
    assert_eq!(writes, [format!("POST {EVENTS}"), format!("PATCH {path}")]);
    let event = bench.cluster.object(&path).unwrap();
    let regarding =
        json!({"apiVersion": "batch/v1", "kind": "Job", "namespace": "bank", "name": "batch", "uid": "u-1"});
    assert_eq!(event["regarding"], regarding);
    let said = ["type", "reason", "action", "note", "reportingController"].map(|field| event[field].clone());
    assert_eq!(json!(said), json!(["Warning", "InjectionRefused", "Inject", "no", "fapi-mesh.dev/operator"]));
    assert_eq!(event["series"]["count"], 5);

    // The API server forgets it after an hour, and it goes on.
    bench.cluster.remove(&path);
    refused("batch");
    bench.clock.advance(Duration::from_secs(60));
    refused("another");
    bench.answered(5).await;
    let [new, lost, again] = bench.cluster.writes().try_into().unwrap();
    assert_eq!([new, lost, again], [format!("POST {EVENTS}"), format!("PATCH {path}"), format!("POST {EVENTS}")]);
    bench.shutdown.send_replace(true);
}

#[tokio::test]
async fn what_is_told_once_is_told_once_by_all_operators() {
    let one = Bench::new();
    let other = Bench::with(&one.cluster);
    one.events.tell(job(), Reason::Injected, "a sidecar");
    one.answered(1).await;
    one.events.tell(job(), Reason::Injected, "a sidecar");
    other.events.tell(job(), Reason::Injected, "a sidecar");
    other.answered(1).await;
    let posts = [format!("POST {EVENTS}"), format!("POST {EVENTS}")];
    assert_eq!(one.cluster.writes(), posts, "the second one finds what the first one has written");
    assert_eq!((one.events.fates().failed, other.events.fates().failed), (0, 0));
}

#[tokio::test]
async fn a_cluster_that_takes_none_costs_nobody_anything() {
    let bench = Bench::new();
    bench.cluster.answers(false);
    bench.events.tell(job(), Reason::Injected, "a sidecar");
    bench.answered(1).await;
    assert_eq!(bench.events.fates(), Fates { written: 0, failed: 1, dropped: 0 });
    bench.cluster.answers(true);
    bench.events.tell(job(), Reason::Injected, "a sidecar");
    bench.answered(2).await;
    assert_eq!(bench.events.fates(), Fates { written: 1, failed: 1, dropped: 0 });
    Events::none().tell(job(), Reason::Injected, "a sidecar");
    assert_eq!(Events::none().fates(), Fates::default());
}

#[tokio::test]
async fn objects_that_come_to_be_out_of_force_are_told_of_once() {
    let bench = Bench::new();
    let desired = watch::Sender::new(Arc::new(Desired::default()));
    tokio::spawn(watch_documents(bench.events.clone(), desired.subscribe(), bench.shutdown.subscribe()));
    let faulty = |text: &str| {
        let id = ObjectId::new(Kind::FapiIssuer, None, "bank-as").unwrap();
        let fault = Fault { uid: "u-2".to_owned(), text: text.into() };
        Arc::new(Desired { faults: BTreeMap::from([(id, fault)]), ..Desired::default() })
    };
    desired.send_replace(faulty("spec.issuer: no"));
    bench.answered(1).await;
    // Something else changes, and then the fault itself.
    desired.send_replace(faulty("spec.issuer: no"));
    desired.send_replace(faulty("spec.allow: no"));
    bench.answered(2).await;
    let default = EVENTS.replace("bank", "default");
    assert_eq!(bench.cluster.writes(), [format!("POST {default}"), format!("POST {default}")]);
}
