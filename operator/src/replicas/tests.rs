use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use control::tls::{ClientAuth, Identity, TrustBundle};
use tokio::net::TcpListener;
use tokio::task::JoinHandle;
use tokio_rustls::TlsAcceptor;
use tokio_stream::wrappers::ReceiverStream;
use tonic::Code;

use super::*;
use crate::acks::AckEvent;
use crate::audits::tests::counted;
use crate::testing::domain;
use crate::testing::mesh::{Mesh, SOON};

/// Waits until something is so.
async fn until(what: impl Fn() -> bool) {
    let wait = async {
        while !what() {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    tokio::time::timeout(SOON, wait).await.expect("it never became so");
}

/// Has one replica report to where the holder is.
fn report(replica: &Mesh) -> (watch::Sender<Option<SocketAddr>>, JoinHandle<()>) {
    let holder = watch::Sender::new(None);
    let follower = replica.follower(holder.subscribe());
    let running = tokio::spawn(follower.run(replica.shutdown.subscribe()));
    (holder, running)
}

fn jwk() -> Vec<u8> {
    let key = fapi::SigningKey::generate().unwrap();
    let mut jwk = key.public_jwk();
    jwk["kid"] = key.kid().into();
    jwk.to_string().into_bytes()
}

fn knows(mesh: &Mesh, jwk: &[u8]) -> bool {
    let read = |jwk: &[u8]| serde_json::from_slice::<serde_json::Value>(jwk).unwrap();
    mesh.client_keys().all().iter().any(|key| read(&key.jwk) == read(jwk))
}

/// The sidecar of a pod says its key.
fn says(mesh: &Mesh, pod: &str, jwk: &[u8]) {
    mesh.client_keys().report(&mesh.view.borrow(), &mesh.pod(pod), jwk, mesh.clock.now()).unwrap();
}

#[tokio::test]
async fn what_sidecars_tell_one_replica_is_known_to_the_holder_and_counts_while_it_reports() {
    let holder = Mesh::start().await;
    let (second, third) = (holder.replica().await, holder.replica().await);
    let acked = |version: &str| Some(version.to_owned());
    second.acks.record("p", AckEvent::Connected);
    second.acks.record("p", AckEvent::Acked { version: "v1".into() });
    let (own, others) = (jwk(), jwk());
    says(&holder, "shop-1", &own);
    says(&second, "payments-1", &others);
    let [(at, running), (at_third, running_third)] = [report(&second), report(&third)];
    assert_eq!((holder.acks.replicas(), holder.acks.of("p").acked), (0, None), "nobody has said so");
    at.send_replace(Some(holder.control));
    at_third.send_replace(Some(holder.control));
    until(|| holder.acks.of("p").acked == acked("v1") && holder.acks.replicas() == 2).await;
    // Keys go round, and later ones too.
    until(|| [&holder, &second, &third].iter().all(|mesh| knows(mesh, &own) && knows(mesh, &others))).await;
    let later = jwk();
    says(&third, "ledger-1", &later);
    until(|| knows(&holder, &later) && knows(&second, &later)).await;
    // So do changes and ends.
    second.acks.record("p", AckEvent::Nacked { version: "v2".into(), reason: "no".into() });
    until(|| holder.acks.of("p").nacked.is_some()).await;
    second.acks.record("p", AckEvent::Disconnected);
    until(|| holder.acks.of("p") == crate::acks::PodAcks::default()).await;
    // So do counts of what policies in Audit have let pass.
    let mut counts = second.audits.open();
    let lines = [("token_missing", "web/checkout", 3)];
    assert!(counts.put("p", counted("bank/payments", second.clock.now(), &lines)));
    until(|| holder.audits.all() == second.audits.all()).await;
    assert_eq!(holder.audits.all()["p"]["bank/payments"].callers()[0].count, 3);
    // What a replica that is gone has said counts no more.
    third.acks.record("q", AckEvent::Connected);
    third.acks.record("q", AckEvent::Acked { version: "v3".into() });
    until(|| holder.acks.of("q").acked == acked("v3")).await;
    third.end().await;
    until(|| holder.acks.of("q").acked.is_none() && holder.acks.replicas() == 1).await;
    assert!(!holder.audits.all().is_empty());
    second.end().await;
    until(|| holder.audits.all().is_empty()).await;
    holder.end().await;
    for running in [running, running_third] {
        tokio::time::timeout(SOON, running).await.unwrap().unwrap();
    }
}

#[tokio::test]
async fn another_holder_is_told_everything_and_one_that_lost_the_lease_nothing() {
    let first = Mesh::start().await;
    let (second, third) = (first.replica().await, first.replica().await);
    let key = jwk();
    third.acks.record("p", AckEvent::Connected);
    third.acks.record("p", AckEvent::Acked { version: "v1".into() });
    says(&third, "shop-1", &key);
    let (at, running) = report(&third);
    at.send_replace(Some(first.control));
    let has = |mesh: &Mesh| mesh.acks.of("p").acked.is_some() && knows(mesh, &key);
    until(|| has(&first)).await;
    first.leads.send_replace(None);
    until(|| first.acks.replicas() == 0).await;
    assert_eq!(first.acks.of("p").acked, None);
    at.send_replace(Some(second.control));
    until(|| has(&second)).await;
    // The holder dies, and comes back at another place.
    let address = second.control;
    second.end().await;
    assert_eq!(first.acks.replicas(), 0);
    first.leads.send_replace(Some(tokio::time::Instant::now() + SOON));
    assert_ne!(address, first.control);
    at.send_replace(Some(first.control));
    until(|| has(&first)).await;
    third.end().await;
    tokio::time::timeout(SOON, running).await.unwrap().unwrap();
    first.end().await;
}

#[tokio::test]
async fn only_replicas_of_the_operator_report_and_only_to_the_operator() {
    let mesh = Mesh::start().await;
    let other = mesh.replica().await;
    let follower = other.follower(watch::Sender::new(None).subscribe());
    let (bundle, operator) = (&follower.roots.borrow().bundle.clone(), &follower.operator);
    let share = async |identity: &Identity| {
        let mut client = dial::connect(mesh.control, bundle, identity, operator).await.unwrap();
        let (_outgoing, messages) = tokio::sync::mpsc::channel(1);
        client.share(ReceiverStream::new(messages)).await.map(|_| ()).map_err(|status| status.code())
    };
    let own = follower.identity.borrow().clone();
    assert_eq!(share(&own).await, Ok(()));
    assert_eq!(share(&mesh.member("shop-1").identity).await, Err(Code::PermissionDenied));
    mesh.leads.send_replace(None);
    assert_eq!(share(&own).await, Err(Code::FailedPrecondition));
    mesh.leads.send_replace(Some(tokio::time::Instant::now() + SOON));

    // A certificate that was stolen and revoked ends the stream that it opened.
    let holder = watch::Sender::new(Some(mesh.control));
    let stolen = control::identity::peer_from_leaf(own.leaf().unwrap()).unwrap();
    let running = tokio::spawn(other.follower(holder.subscribe()).run(other.shutdown.subscribe()));
    until(|| mesh.acks.replicas() == 1).await;
    let revoked = fapi::Revoked::Certificate(stolen.thumbprint);
    let revocation = fapi::Revocation::new(revoked, None, mesh.clock.now().plus(3600)).unwrap();
    mesh.revocations.revoke([revocation]).unwrap();
    until(|| mesh.acks.replicas() == 0).await;
    running.abort();

    // Whoever else answers at the address of the holder hears nothing.
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let stranger = mesh.member("shop-1");
    let root = TrustBundle::from_pem(&domain(), &mesh.roots()).unwrap();
    let config = control::tls::server_config(&root, &stranger.identity, ClientAuth::Required, &[b"h2"]).unwrap();
    let (refused, accepted) = tokio::join!(dial::connect(address, bundle, &own, operator), async {
        let (tcp, _) = listener.accept().await.unwrap();
        TlsAcceptor::from(Arc::new(config)).accept(tcp).await
    });
    assert!(matches!(refused, Err(dial::LinkError::Connect(_))) && accepted.is_err());
    other.end().await;
    mesh.end().await;
}

#[tokio::test]
async fn a_key_of_the_issuer_waits_for_the_sidecars_of_every_replica_that_reports() {
    let holder = Mesh::start().await;
    let second = holder.replica().await;
    let digest = holder.keys.published().borrow().digest.clone();
    assert_eq!(second.keys.published().borrow().digest, digest, "they have the same keys");
    let sidecar = second.keys.delivered().open();
    let (at, running) = report(&second);
    at.send_replace(Some(holder.control));
    until(|| holder.acks.replicas() == 1).await;
    assert!(!holder.keys.delivered().everyone_has(&digest));
    sidecar.sent(&digest);
    until(|| holder.keys.delivered().everyone_has(&digest)).await;
    let another = second.keys.delivered().open();
    until(|| !holder.keys.delivered().everyone_has(&digest)).await;
    drop(another);
    until(|| holder.keys.delivered().everyone_has(&digest)).await;
    second.end().await;
    holder.end().await;
    tokio::time::timeout(SOON, running).await.unwrap().unwrap();
}
