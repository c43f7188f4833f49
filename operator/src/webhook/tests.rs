//! The webhooks over real connections, and what API servers are told of them.
#![allow(clippy::unwrap_used, clippy::panic, reason = "a failed step fails the test")]

mod ephemeral;
mod strangers;

use std::sync::Arc;

use ::http::{Method, Request, StatusCode};
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use control::tls::Roots;
use fapi::UnixTime;
use http_body_util::{BodyExt, Full};
use hyper_util::rt::TokioIo;
use rustls::pki_types::ServerName;
use serde_json::{Value as Json, json};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;

use super::configuration::{mutating, validating, with_authority};
use super::*;
use crate::inject::{Allowed, Image, Loosening};
use crate::model::{Key, Policy, Seniority};
use crate::shelf::Shelf;
use crate::testing::{NOW, TempDir, domain, fapi_mesh, openssl, told};

fn service() -> Service {
    Service { name: "fapi-operator".to_owned(), namespace: "fapi-mesh".to_owned() }
}

/// Namespaces whose labels are known from the start.
struct Known(BTreeMap<String, BTreeMap<String, String>>);

impl Namespaces for Known {
    fn labels<'a>(&'a self, name: &'a str) -> Pin<Box<dyn Future<Output = Labels> + Send + 'a>> {
        Box::pin(std::future::ready(self.0.get(name).cloned()))
    }
}

/// A server, how to reach it, and what it tells.
struct Server {
    address: std::net::SocketAddr,
    told: Box<dyn Fn() -> Vec<[String; 3]>>,
    meter: Meter,
    bundle: String,
    desired: watch::Sender<Arc<Desired>>,
    webhook: Arc<Webhook>,
    shutdown: watch::Sender<bool>,
}

impl Server {
    async fn start() -> Self {
        let (clock, meter) = (Clock::system(), Meter::default());
        let authority = Arc::new(Authority::make(clock.now()).unwrap());
        let bundle = authority.bundle();
        let certificate =
            Certificate::start(watch::Sender::new(authority).subscribe(), &service(), clock.clone(), meter.clone())
                .unwrap();
        let settings = Settings {
            image: Image { name: "fapi-sidecar:1".to_owned(), pull_policy: "Never".to_owned() },
            control: "fapi-operator.fapi-mesh.svc:15010".to_owned(),
            trust_domain: domain(),
            operator_namespace: "fapi-mesh".to_owned(),
            allowed: Allowed::default(),
        };
        let labels = |value: &str| BTreeMap::from([("fapi-mesh.dev/inject".to_owned(), value.to_owned())]);
        let namespaces = Known([("bank".to_owned(), labels("enabled")), ("web".to_owned(), labels("no"))].into());
        let desired = watch::Sender::new(Arc::new(Desired::default()));
        let (events, told) = told();
        let webhook = Webhook::new(settings, desired.subscribe(), Box::new(namespaces));
        let webhook = Arc::new(webhook.seen_by(events, meter.clone()));
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let shutdown = watch::Sender::new(false);
        let tls = Tls::public(certificate.identity(), ALPN);
        tokio::spawn(serve(listener, tls, webhook.clone(), clock, shutdown.subscribe()));
        Self { address, told: Box::new(told), meter, bundle, desired, webhook, shutdown }
    }

    async fn post(&self, path: &str, body: impl Into<Bytes>) -> (StatusCode, Json) {
        self.send(Method::POST, path, body.into()).await
    }

    async fn tls(&self, tcp: TcpStream, alpn: &[u8]) -> TlsStream<TcpStream> {
        let mut config = control::tls::public_client_config(&Roots::from_pem(&self.bundle).unwrap(), None).unwrap();
        config.alpn_protocols = vec![alpn.to_vec()];
        let name = ServerName::try_from("fapi-operator.fapi-mesh.svc").unwrap();
        TlsConnector::from(Arc::new(config)).connect(name, tcp).await.unwrap()
    }

    async fn send(&self, method: Method, path: &str, body: Bytes) -> (StatusCode, Json) {
        let tls = self.tls(TcpStream::connect(self.address).await.unwrap(), b"http/1.1").await;
        let (mut sender, connection) = hyper::client::conn::http1::handshake(TokioIo::new(tls)).await.unwrap();
        tokio::spawn(connection);
        let request = Request::builder().method(method).uri(path).header("host", "x").body(Full::new(body)).unwrap();
        let answer = sender.send_request(request).await.unwrap();
        let status = answer.status();
        let body = answer.into_body().collect().await.unwrap().to_bytes();
        (status, serde_json::from_slice(&body).unwrap_or_default())
    }

    async fn review(&self, path: &str, request: Json) -> Json {
        let mut request = request;
        request["uid"] = "u-1".into();
        let review = json!({"apiVersion": "admission.k8s.io/v1", "kind": "AdmissionReview", "request": request});
        let (status, answer) = self.post(path, review.to_string()).await;
        assert_eq!(status, StatusCode::OK, "{answer}");
        assert_eq!(answer["response"]["uid"], "u-1");
        answer["response"].clone()
    }
}

fn pod(annotations: Json) -> Json {
    json!({
        "apiVersion": "v1", "kind": "Pod",
        "metadata": {"generateName": "shop-", "annotations": annotations},
        "spec": {"containers": [{"name": "app", "image": "app"}]},
    })
}

#[tokio::test]
async fn pods_are_injected_over_tls() {
    let server = Server::start().await;
    let inject = |namespace: &str, pod: Json| json!({"namespace": namespace, "operation": "CREATE", "object": pod});
    let answer = server.review("/inject", inject("bank", pod(json!({})))).await;
    assert_eq!(answer["allowed"], true, "{answer}");
    let patch = STANDARD.decode(answer["patch"].as_str().unwrap()).unwrap();
    let patch: Json = serde_json::from_slice(&patch).unwrap();
    let added = patch.as_array().unwrap().iter().find(|step| step["path"] == "/spec/initContainers").unwrap();
    assert_eq!(added["value"][1]["image"], "fapi-sidecar:1");

    let answer = server.review("/inject", inject("web", pod(json!({})))).await;
    assert_eq!((&answer["allowed"], answer.get("patch")), (&json!(true), None), "nobody asked");
    let mut host = pod(json!({}));
    host["spec"]["hostNetwork"] = true.into();
    let answer = server.review("/inject", inject("bank", host)).await;
    assert_eq!(answer["allowed"], false);
    assert!(answer["status"]["message"].as_str().unwrap().contains("(host_network)"), "{answer}");
    let answer = server.review("/inject", inject("unheard-of", pod(json!({})))).await;
    assert_eq!((&answer["allowed"], &answer["status"]["code"]), (&json!(false), &json!(503)));

    // What may be loosened follows the FapiMesh at once.
    let against = || inject("bank", pod(json!({"fapi-mesh.dev/inject": "disabled"})));
    assert_eq!(server.review("/inject", against()).await["allowed"], false);
    let mut desired = Desired::default();
    desired.model.mesh = Some(fapi_mesh([(Loosening::OptOut, "bank".to_owned())].into_iter().collect()));
    server.desired.send_replace(Arc::new(desired));
    assert_eq!(server.review("/inject", against()).await["allowed"], true);
    server.shutdown.send_replace(true);
}

#[tokio::test]
async fn objects_of_ours_are_read_as_the_operator_reads_them() {
    let server = Server::start().await;
    let policy = |spec: Json| {
        json!({
            "apiVersion": "fapi-mesh.dev/v1alpha1", "kind": "FapiPolicy",
            "metadata": {"name": "ledger", "namespace": "bank", "uid": "x", "managedFields": [{"manager": "kubectl"}]},
            "spec": spec, "status": {"ancestors": []},
        })
    };
    let good = || policy(json!({"targetRefs": [{"name": "ledger"}]}));
    let bad = || policy(json!({"targetRefs": [{"name": "ledger"}], "rules": [{"paths": ["/a/../b"]}], "mode": "Off"}));
    let create = |object: Json| json!({"namespace": "bank", "operation": "CREATE", "object": object});
    assert_eq!(server.review("/validate", create(good())).await["allowed"], true);
    let answer = server.review("/validate", create(bad())).await;
    let message = answer["status"]["message"].as_str().unwrap();
    assert!(message.contains("spec.mode") && message.contains("spec.rules[0].paths[0]"), "all at once: {message}");

    let update =
        |old: Json, new: Json| json!({"namespace": "bank", "operation": "UPDATE", "object": new, "oldObject": old});
    let mut relabelled = bad();
    relabelled["metadata"]["labels"] = json!({"a": "b"});
    assert_eq!(server.review("/validate", update(bad(), relabelled)).await["allowed"], true, "it was so before");
    assert_eq!(server.review("/validate", update(good(), bad())).await["allowed"], false);
    let mut leaving = bad();
    leaving["metadata"]["deletionTimestamp"] = "2026-11-28T00:00:00Z".into();
    assert_eq!(server.review("/validate", update(good(), leaving)).await["allowed"], true);
    let mut nameless = good();
    nameless["metadata"] = json!({"generateName": "ledger-", "namespace": "bank"});
    assert_eq!(server.review("/validate", create(nameless)).await["allowed"], true);
}

/// A pod that a ReplicaSet makes.
fn replica(annotations: Json) -> Json {
    let mut replica = pod(annotations);
    replica["metadata"]["ownerReferences"] = json!([
        {"apiVersion": "example.com/v1", "kind": "Budget", "name": "b", "uid": "u-0"},
        {"apiVersion": "apps/v1", "kind": "ReplicaSet", "name": "shop-5d", "uid": "u-2", "controller": true},
    ]);
    replica
}

#[tokio::test]
async fn owners_are_told_what_became_of_their_pods_but_not_of_dry_runs() {
    let server = Server::start().await;
    let review = |pod: Json, dry_run: bool| json!({"namespace": "bank", "operation": "CREATE", "object": pod, "dryRun": dry_run});
    let mut host = replica(json!({}));
    host["spec"]["hostNetwork"] = true.into();
    for (pod, dry_run) in [(replica(json!({})), true), (host.clone(), true), (pod(json!({})), false)] {
        server.review("/inject", review(pod, dry_run)).await;
    }
    assert_eq!((server.told)(), Vec::<[String; 3]>::new(), "dry runs, and a pod that a person makes");

    for _ in 0..3 {
        server.review("/inject", review(replica(json!({})), false)).await;
    }
    server.review("/inject", review(host, false)).await;
    let mut desired = Desired::default();
    desired.model.mesh = Some(fapi_mesh([(Loosening::OptOut, "bank".to_owned())].into_iter().collect()));
    server.desired.send_replace(Arc::new(desired));
    server.review("/inject", review(replica(json!({"fapi-mesh.dev/inject": "disabled"})), false)).await;
    let told = (server.told)();
    let reasons: Vec<&str> = told
        .iter()
        .map(|[object, reason, _]| {
            assert_eq!(object, "ReplicaSet bank/shop-5d u-2");
            &**reason
        })
        .collect();
    assert_eq!(reasons, ["Injected", "InjectionRefused", "InjectionSkipped"], "each once");
    assert!(told[1][2].contains("(host_network)") && told[2][2].contains("(opted_out)"), "{told:?}");
}

#[tokio::test]
async fn an_object_is_told_that_its_change_was_refused() {
    let server = Server::start().await;
    let policy = |mode: &str| {
        json!({
            "apiVersion": "fapi-mesh.dev/v1alpha1", "kind": "FapiPolicy",
            "metadata": {"name": "ledger", "namespace": "bank", "uid": "u-3"},
            "spec": {"targetRefs": [{"name": "ledger"}], "mode": mode},
        })
    };
    let update = |dry_run: bool| {
        let (old, new) = (policy("Audit"), policy("Off"));
        json!({"namespace": "bank", "operation": "UPDATE", "object": new, "oldObject": old, "dryRun": dry_run})
    };
    // Nobody knows that there is one.
    assert_eq!(server.review("/validate", update(false)).await["allowed"], false);
    let mut desired = Desired::default();
    let key = Key::new("bank", "ledger");
    let seniority = Seniority { created: 0, key: key.clone() };
    desired.model.policies.insert(key, Policy { seniority, generation: 1, targets: None, spec: None, fault: None });
    server.desired.send_replace(Arc::new(desired));
    server.review("/validate", update(true)).await;
    server.review("/validate", json!({"namespace": "bank", "operation": "CREATE", "object": policy("Off")})).await;
    assert_eq!((server.told)(), Vec::<[String; 3]>::new());
    assert_eq!(server.review("/validate", update(false)).await["allowed"], false);
    let [[object, reason, note]] = (server.told)().try_into().unwrap();
    assert_eq!([&*object, &*reason], ["FapiPolicy bank/ledger u-3", "ChangeRefused"]);
    assert!(note.contains("spec.mode"), "{note}");
}

#[tokio::test]
async fn reviews_are_counted_by_what_became_of_them() {
    let server = Server::start().await;
    let inject = |namespace: &str, pod: Json| json!({"namespace": namespace, "operation": "CREATE", "object": pod});
    for (namespace, pod) in [("bank", pod(json!({}))), ("bank", pod(json!({}))), ("web", pod(json!({})))] {
        server.review("/inject", inject(namespace, pod)).await;
    }
    server.review("/inject", inject("unheard-of", pod(json!({})))).await;
    server.review("/inject", inject("bank", json!({"spec": 1}))).await;
    server.post("/validate", "{}").await;
    // Neither a webhook's.
    server.post("/other", "{}").await;
    server.send(Method::GET, "/inject", Bytes::new()).await;
    let mut registry = prometheus_client::registry::Registry::default();
    server.meter.register(&mut registry);
    let mut text = String::new();
    prometheus_client::encoding::text::encode(&mut text, &registry).unwrap();
    let of = |name: &str| text.lines().filter(|line| line.starts_with(name)).collect::<Vec<_>>();
    let mut counts = of("fapi_operator_admission_requests_total{");
    counts.sort_unstable();
    let count = |webhook: &str, outcome: &str, count: u32| {
        format!("fapi_operator_admission_requests_total{{webhook=\"{webhook}\",outcome=\"{outcome}\"}} {count}")
    };
    let expected = [
        count("inject", "changed", 2),
        count("inject", "passed", 1),
        count("inject", "refused", 1),
        count("inject", "unavailable", 1),
        count("validate", "malformed", 1),
    ];
    assert_eq!(counts, expected);
    assert_eq!(of("fapi_operator_admission_seconds_total{").len(), 2, "{text}");
    let end = |which: &str| -> u64 {
        let lines = of("fapi_operator_webhook_certificate_not_after_seconds{");
        let line = lines.into_iter().find(|line| line.contains(which)).unwrap();
        line.rsplit(' ').next().unwrap().parse().unwrap()
    };
    let (now, day) = (Clock::system().now().as_secs(), 24 * 3600);
    assert!((now + 6 * day..=now + 7 * day).contains(&end("serving")), "{text}");
    assert!((now + 364 * day..=now + 365 * day).contains(&end("authority")), "{text}");
}

#[tokio::test]
async fn what_is_no_review_is_refused() {
    let server = Server::start().await;
    assert_eq!(server.post("/inject", "{}").await.0, StatusCode::BAD_REQUEST);
    assert_eq!(server.post("/other", "{}").await.0, StatusCode::NOT_FOUND);
    assert_eq!(server.send(Method::GET, "/inject", Bytes::new()).await.0, StatusCode::METHOD_NOT_ALLOWED);
    let large = vec![b' '; 8 * 1024 * 1024 + 1];
    assert_eq!(server.post("/inject", large).await.0, StatusCode::PAYLOAD_TOO_LARGE);
    let largest = vec![b' '; 8 * 1024 * 1024];
    assert_eq!(server.post("/inject", largest).await.0, StatusCode::BAD_REQUEST, "it is read");
}

#[test]
fn the_authority_keeps_its_key_and_is_made_anew_in_time() {
    let state = TempDir::new();
    let shelf = Shelf::Folder(state.path().join("webhook"));
    let first = Authority::open(&shelf, NOW).unwrap();
    let again = Authority::open(&shelf, NOW.plus(24 * 3600)).unwrap();
    assert_eq!(again.bundle(), first.bundle());
    let later = NOW.plus(300 * 24 * 3600);
    let renewed = Authority::open(&shelf, later).unwrap();
    assert_ne!(renewed.bundle(), first.bundle());
    assert!(renewed.kept().key == first.kept().key);
    // Leaves of the new one are good under the old one too, as long as it lasts.
    let leaf = leaf_of(renewed, later);
    std::fs::write(state.path().join("old.pem"), first.bundle()).unwrap();
    std::fs::write(state.path().join("leaf.pem"), leaf).unwrap();
    let at = later.plus(60).as_secs().to_string();
    let verify = ["verify", "-attime", &at, "-purpose", "sslserver", "-verify_hostname", "fapi-operator.fapi-mesh.svc"];
    assert!(openssl(state.path(), &[&verify[..], &["-CAfile", "old.pem", "leaf.pem"]].concat()).is_some());
    // One that is damaged is made anew: nobody but the API server trusts it, and that one is told.
    std::fs::write(state.path().join("webhook/authority.key"), "x").unwrap();
    assert!(Authority::open(&shelf, later).unwrap().kept().key != first.kept().key);
}

fn leaf_of(authority: Authority, now: UnixTime) -> String {
    let authority = watch::Sender::new(Arc::new(authority)).subscribe();
    let certificate = Certificate::start(authority, &service(), Clock::manual(now), Meter::default()).unwrap();
    let identity = certificate.identity().borrow().clone();
    crate::pki::pem(identity.leaf().unwrap())
}

#[test]
fn the_certificate_is_renewed_in_time_and_with_its_authority() {
    let clock = Clock::manual(NOW);
    let authority = watch::Sender::new(Arc::new(Authority::make(NOW).unwrap()));
    let mut certificate =
        Certificate::start(authority.subscribe(), &service(), clock.clone(), Meter::default()).unwrap();
    let mut identity = certificate.identity();
    certificate.tick().unwrap();
    assert!(!identity.has_changed().unwrap(), "nothing is due");
    clock.advance(Duration::from_secs(4 * 24 * 3600));
    certificate.tick().unwrap();
    assert!(identity.has_changed().unwrap());
    identity.mark_unchanged();
    authority.send_replace(Arc::new(Authority::make(clock.now()).unwrap()));
    certificate.tick().unwrap();
    assert!(identity.has_changed().unwrap());
}

#[test]
fn the_configurations_are_these() {
    let folder = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden/webhook");
    let [inject, validate] = with_authority(&service(), "PEM", true);
    for (name, json) in [
        ("mutating", serde_json::to_value(mutating(&service())).unwrap()),
        ("validating", serde_json::to_value(validating(&service())).unwrap()),
        ("mutating-served", inject),
        ("validating-served", validate),
    ] {
        let made = serde_saphyr::to_string(&json).unwrap();
        let file = folder.join(format!("{name}.yaml"));
        if std::env::var_os("UPDATE").is_some() {
            std::fs::create_dir_all(&folder).unwrap();
            std::fs::write(&file, &made).unwrap();
        }
        assert_eq!(std::fs::read_to_string(&file).unwrap(), made, "{name}: run it once with UPDATE=1");
    }
    let [_, validate] = with_authority(&service(), "PEM", false);
    assert!(validate["webhooks"].as_array().unwrap().iter().all(|entry| entry.get("rules").is_none()));
    let text = serde_json::to_string(&mutating(&service())).unwrap();
    assert!(!text.contains("caBundle"), "the operator sets it");
}
