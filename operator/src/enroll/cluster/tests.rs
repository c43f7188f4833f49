#![allow(clippy::unwrap_used, reason = "a failed step fails the test")]

use std::sync::{Arc, Mutex};

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use http::Method;
use serde_json::{Value as Json, json};
use tokio::sync::watch;

use super::super::{EnrollRefusal, Enrolled, Enroller};
use super::*;
use crate::caller::Caller;
use crate::clock::Clock;
use crate::model::Model;
use crate::pki::identity_of;
use crate::revocations::Revocations;
use crate::shelf::Shelf;
use crate::testing::api::{self, failure};
use crate::testing::bank::view;
use crate::testing::told;
use crate::testing::{NOW, P256, TempDir, authority, capture_log, domain, greedy_csr};
use crate::view::View;

/// What an API server says of a token, and which pods it has.
#[derive(Clone)]
struct Server(Arc<Mutex<Says>>);

struct Says {
    review: Json,
    pod: Option<Json>,
    asked: Vec<Json>,
    gets: usize,
    down: bool,
}

/// A review of the token of the pod `shop-1`.
fn reviewed() -> Json {
    json!({
        "authenticated": true,
        "audiences": ["fapi-mesh.dev"],
        "user": {
            "username": "system:serviceaccount:bank:shop",
            "extra": {POD_NAME: ["shop-1"], POD_UID: ["uid-of-shop-1"], NODE_NAME: ["node-1"]},
        },
    })
}

/// A token with the looks of the pod's own: what it is worth the server says.
fn token() -> String {
    let part = |value: Json| URL_SAFE_NO_PAD.encode(value.to_string());
    let names = json!({
        "namespace": "bank",
        "pod": {"name": "shop-1", "uid": "uid-of-shop-1"},
        "serviceaccount": {"name": "shop", "uid": "uid-of-shop"},
    });
    let claims = json!({"aud": ["fapi-mesh.dev"], "exp": NOW.as_secs() + 600, "kubernetes.io": names});
    format!("{}.{}.c2ln", part(json!({"alg": "RS256"})), part(claims))
}

fn shop(phase: &str) -> Json {
    json!({
        "apiVersion": "v1", "kind": "Pod",
        "metadata": {"name": "shop-1", "namespace": "bank", "uid": "uid-of-shop-1"},
        "spec": {
            "serviceAccountName": "shop", "nodeName": "node-1",
            "initContainers": [{"name": "fapi-sidecar", "restartPolicy": "Always"}], "containers": [],
        },
        "status": {"phase": phase},
    })
}

/// An operator in a cluster, without sockets.
struct Bench {
    dir: TempDir,
    server: Server,
    enroller: Enroller,
    view: watch::Sender<Arc<View>>,
    /// A thread that listens: a line that is first said where nobody does is said nowhere afterwards.
    _log: tracing::subscriber::DefaultGuard,
}

impl Bench {
    /// The view knows the pod, and the server says who it is.
    fn new() -> Self {
        let dir = TempDir::new();
        let says = Says { review: reviewed(), pod: Some(shop("Pending")), asked: Vec::new(), gets: 0, down: false };
        let server = Server(Arc::new(Mutex::new(says)));
        let authority = Arc::new(authority(dir.path(), &domain(), NOW).unwrap());
        let revocations =
            Arc::new(Revocations::open(Shelf::Folder(dir.path().to_owned()), true, Clock::manual(NOW)).unwrap());
        let reserved = identity_of(&authority, "fapi-mesh").unwrap();
        let sender = watch::Sender::new(Arc::new(view(Model::default())));
        let tokens = Arc::new(ClusterTokens::new(server.client()));
        let clock = Clock::manual(NOW);
        let enroller = Enroller::new(authority, tokens, sender.subscribe(), revocations, clock, reserved);
        let bench = Self { dir, server, enroller, view: sender, _log: capture_log().1 };
        bench.knows(shop("Running"));
        bench
    }

    /// The view has this pod, and no other.
    fn knows(&self, pod: Json) {
        let mut model = Model::default();
        model.pods.extend(pod_of(serde_json::from_value(pod).unwrap()).map(|pod| (pod.uid.clone(), pod)));
        self.view.send_replace(Arc::new(view(model)));
    }

    fn says(&self, change: impl FnOnce(&mut Says)) {
        change(&mut self.server.0.lock().unwrap());
    }

    async fn enroll(&self, caller: Option<&Caller>) -> Result<Enrolled, EnrollRefusal> {
        self.enroller.enroll(&token(), &greedy_csr(self.dir.path(), P256), caller).await
    }

    async fn reason(&self) -> &'static str {
        self.enroll(None).await.map(|_| ()).map_or_else(|refusal| refusal.id(), |()| "issued")
    }

    /// Why a token is refused of which this is said.
    async fn refused(&self, change: impl FnOnce(&mut Json)) -> &'static str {
        let mut review = reviewed();
        change(&mut review);
        self.says(|says| says.review = review);
        self.reason().await
    }
}

impl Server {
    fn client(&self) -> Client {
        let says = self.0.clone();
        api::client(move |asked| {
            let mut says = says.lock().unwrap();
            match (asked.method, asked.path.as_str()) {
                _ if says.down => failure(500),
                (Method::POST, "/apis/authentication.k8s.io/v1/tokenreviews") => {
                    says.asked.push(asked.body["spec"].clone());
                    (201, json!({"metadata": {}, "spec": asked.body["spec"], "status": says.review}).to_string())
                }
                (Method::GET, "/api/v1/namespaces/bank/pods/shop-1") => {
                    says.gets += 1;
                    says.pod.as_ref().map_or_else(|| failure(404), |pod| (200, pod.to_string()))
                }
                _ => failure(400),
            }
        })
    }
}

#[tokio::test]
async fn the_api_server_is_asked_for_our_own_audience_and_believed() {
    let bench = Bench::new();
    let enrolled = bench.enroll(None).await.unwrap();
    let peer = control::identity::peer_from_leaf(&enrolled.issued.chain[0]).unwrap();
    assert_eq!(peer.spiffe_id.as_str(), "spiffe://bank.example/ns/bank/sa/shop");
    assert_eq!(peer.pod_uid.as_deref(), Some("uid-of-shop-1"));
    bench.says(|says| {
        assert_eq!(says.asked, [json!({"token": token(), "audiences": ["fapi-mesh.dev"]})]);
        assert_eq!(says.gets, 0, "a known pod costs no other question");
    });
}

#[tokio::test]
async fn the_api_server_is_not_asked_about_what_cannot_be_a_token_of_a_pod() {
    let bench = Bench::new();
    for token in ["a.b.c".to_owned(), format!("{}.x", token()), "x".repeat(4000)] {
        let refused = bench.enroller.enroll(&token, &greedy_csr(bench.dir.path(), P256), None).await;
        assert_eq!(refused.map(|_| ()).unwrap_err().id(), "token_malformed");
    }
    bench.says(|says| assert!(says.asked.is_empty()));
}

#[tokio::test]
async fn tokens_that_are_not_of_a_pod_for_us_are_refused() {
    let bench = Bench::new();
    assert_eq!(bench.refused(|review| review["authenticated"] = false.into()).await, "token_not_authenticated");
    assert_eq!(bench.refused(|review| *review = json!({"error": "no"})).await, "token_not_authenticated");
    for audiences in [json!(["https://kubernetes.default.svc"]), json!([]), Json::Null] {
        assert_eq!(bench.refused(|review| review["audiences"] = audiences).await, "token_audience_mismatch");
    }
    for user in ["system:node:x", "system:serviceaccount:bank", "shop", ""] {
        assert_eq!(bench.refused(|review| review["user"]["username"] = user.into()).await, "token_malformed", "{user}");
    }
    for what in [POD_NAME, POD_UID] {
        for claim in [json!([]), json!([""]), json!(["shop-1", "shop-2"])] {
            let without = bench.refused(|review| review["user"]["extra"][what] = claim).await;
            assert_eq!(without, "token_malformed", "{what}");
        }
    }
}

#[tokio::test]
async fn the_pod_of_the_token_is_the_pod_that_lives() {
    let bench = Bench::new();
    let other = |what: &'static str, value: &'static str| {
        move |review: &mut Json| review["user"]["extra"][what] = json!([value])
    };
    assert_eq!(bench.refused(other(POD_NAME, "shop-2")).await, "pod_mismatch");
    assert_eq!(bench.refused(other(NODE_NAME, "node-2")).await, "pod_mismatch");
    let account = |review: &mut Json| review["user"]["username"] = "system:serviceaccount:bank:payments".into();
    assert_eq!(bench.refused(account).await, "pod_mismatch");
    // Another pod under the same name: the view does not have it, and the server says whose name it is now.
    assert_eq!(bench.refused(other(POD_UID, "uid-of-before")).await, "pod_mismatch");
    bench.says(|says| says.pod = None);
    assert_eq!(bench.refused(other(POD_UID, "uid-of-before")).await, "pod_unknown");
    let mut bare = shop("Running");
    bare["spec"]["initContainers"] = json!([]);
    bench.knows(bare);
    assert_eq!(bench.refused(|_| ()).await, "pod_not_meshed");
}

#[tokio::test]
async fn a_pod_that_is_too_new_for_the_view_is_looked_for_once() {
    let bench = Bench::new();
    bench.view.send_replace(Arc::new(view(Model::default())));
    assert_eq!(bench.reason().await, "issued", "its native sidecar enrols while the pod is Pending");
    bench.says(|says| assert_eq!(says.gets, 1));
    // Known, but not yet as one that has a node.
    let mut early = shop("Pending");
    early["spec"]["nodeName"] = Json::Null;
    bench.knows(early);
    assert_eq!(bench.reason().await, "issued");
    bench.says(|says| says.pod = Some(shop("Succeeded")));
    bench.view.send_replace(Arc::new(view(Model::default())));
    assert_eq!(bench.reason().await, "pod_unknown", "one that has ended");
    bench.says(|says| says.pod = None);
    assert_eq!(bench.reason().await, "pod_unknown", "one that is gone");
}

#[tokio::test]
async fn a_pod_that_ends_renews_and_gets_no_first_certificate() {
    let bench = Bench::new();
    let leaf = bench.enroll(None).await.unwrap().issued.chain[0].clone();
    let caller = Caller { peer: control::identity::peer_from_leaf(&leaf).unwrap(), leaf };
    let mut ending = shop("Running");
    ending["metadata"]["deletionTimestamp"] = "2026-01-01T00:00:00Z".into();
    bench.knows(ending);
    assert_eq!(bench.reason().await, "pod_terminating");
    assert!(bench.enroll(Some(&caller)).await.is_ok());
}

#[tokio::test]
async fn a_pod_that_exists_is_told_what_is_wrong_and_nobody_else_is() {
    let bench = Bench::new();
    let (events, told) = told();
    let bench = Bench { enroller: bench.enroller.telling(events), ..bench };
    // Whose token nobody believes, or whose pod is gone, has no place to be told.
    assert_eq!(bench.refused(|review| review["authenticated"] = false.into()).await, "token_not_authenticated");
    bench.says(|says| says.pod = None);
    let gone = |review: &mut Json| review["user"]["extra"][POD_UID] = json!(["uid-of-before"]);
    assert_eq!(bench.refused(gone).await, "pod_unknown");
    bench.says(|says| says.review = reviewed());
    assert_eq!(bench.reason().await, "issued");
    assert_eq!(told(), Vec::<[String; 3]>::new());

    assert_eq!(bench.reason().await, "issued", "once more, as if it were the first time");
    let mut bare = shop("Running");
    bare["spec"]["initContainers"] = json!([]);
    bench.knows(bare);
    assert_eq!(bench.reason().await, "pod_not_meshed");
    let [repeated, refused] = told().try_into().unwrap();
    assert_eq!(repeated[..2], ["Pod bank/shop-1 uid-of-shop-1", "EnrolmentRepeated"]);
    assert_eq!(refused[..2], ["Pod bank/shop-1 uid-of-shop-1", "EnrolmentRefused"]);
    assert!(
        refused[2].starts_with("no first certificate: ") && refused[2].ends_with("(pod_not_meshed)"),
        "{refused:?}"
    );
}

#[tokio::test]
async fn nobody_is_believed_while_the_api_server_does_not_answer() {
    let bench = Bench::new();
    bench.says(|says| says.down = true);
    assert_eq!(bench.reason().await, "token_review_unavailable");
}
