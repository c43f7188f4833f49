use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use control::identity::peer_from_leaf;
use control::pb::control_client::ControlClient;
use control::pb::{self, operator_message, sidecar_message};
use control::tls::Identity;
use control::{Destination, DestinationKind};
use hyper::client::conn::http2;
use hyper_util::rt::{TokioExecutor, TokioIo};
use rustls::pki_types::CertificateDer;
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use tonic::{Code, Request, Status, Streaming};

use fapi::{Revocation, Revoked};

use super::outbox::{Now, Outbox};
use crate::audits::Counted;
use crate::audits::tests::told;
use crate::behind::Behind;
use crate::model::{Client, Key, Model, Seniority};
use crate::replicas::Channel;
use crate::testing::bank::{client_of, move_ledger, rename, transfers_at};
use crate::testing::mesh::{Member, Mesh, SOON, csr};
use crate::testing::{capture_log, id};

const WINDOW: u32 = 64 * 1024;

async fn client(mesh: &Mesh, identity: Option<&Identity>) -> ControlClient<Channel> {
    let stream = mesh.connect(mesh.control, identity, super::ALPN).await.unwrap();
    // A small window, so that what a test does not read stays with the server.
    let mut builder = http2::Builder::new(TokioExecutor::new());
    builder.initial_stream_window_size(WINDOW).initial_connection_window_size(WINDOW);
    let (sender, connection) = builder.handshake(TokioIo::new(stream)).await.unwrap();
    tokio::spawn(connection);
    let origin = format!("https://{}", mesh.control).parse().unwrap();
    ControlClient::with_origin(Channel(sender), origin)
}

/// A sidecar's side of the stream.
struct Sidecar {
    outgoing: mpsc::Sender<pb::SidecarMessage>,
    incoming: Streaming<pb::OperatorMessage>,
    _client: ControlClient<Channel>,
}

/// What came, by kind.
#[derive(Debug)]
enum Got {
    Bundle(pb::TrustBundle),
    Keys(pb::KeySet),
    Revocations(pb::Revocations),
    Snapshot(pb::Snapshot),
    Destination(Destination),
    Renew,
}

impl Sidecar {
    async fn connect(mesh: &Mesh, member: &Member) -> Result<Self, Status> {
        let mut client = client(mesh, Some(&member.identity)).await;
        let (outgoing, messages) = mpsc::channel(8);
        let answer = client.connect(Request::new(ReceiverStream::new(messages))).await?;
        Ok(Self { outgoing, incoming: answer.into_inner(), _client: client })
    }

    /// Connects, introduces itself, and reads what every stream begins with.
    async fn greeted(mesh: &Mesh, name: &str) -> (Self, pb::Snapshot) {
        let mut sidecar = Self::connect(mesh, &mesh.member(name)).await.unwrap();
        sidecar.hello(0).await;
        assert!(matches!(sidecar.next().await, Got::Bundle(_)));
        assert!(matches!(sidecar.next().await, Got::Keys(_)));
        assert!(matches!(sidecar.next().await, Got::Revocations(_)));
        let Got::Snapshot(snapshot) = sidecar.next().await else { panic!("a snapshot comes after the revocations") };
        (sidecar, snapshot)
    }

    async fn say(&self, kind: sidecar_message::Kind) {
        self.outgoing.send(pb::SidecarMessage { kind: Some(kind) }).await.unwrap();
    }

    async fn hello(&self, applied_order: u64) {
        let hello = pb::Hello {
            version: control::VERSION.to_owned(),
            features: Vec::new(),
            applied_order,
            ..pb::Hello::default()
        };
        self.say(sidecar_message::Kind::Hello(hello)).await;
    }

    async fn lookup(&self, authority: &str) {
        self.say(sidecar_message::Kind::Lookup(pb::Lookup { authority: authority.to_owned() })).await;
    }

    async fn ack(&self, version: &str, nack_reason: &str) {
        let ack = pb::Ack { version: version.to_owned(), nack_reason: nack_reason.to_owned() };
        self.say(sidecar_message::Kind::Ack(ack)).await;
    }

    async fn message(&mut self) -> Result<Got, Status> {
        use operator_message::Kind;
        let message = tokio::time::timeout(SOON, self.incoming.message()).await.unwrap()?;
        Ok(match message.unwrap().kind.unwrap() {
            Kind::TrustBundle(bundle) => Got::Bundle(bundle),
            Kind::KeySet(keys) => Got::Keys(keys),
            Kind::Revocations(revocations) => Got::Revocations(revocations),
            Kind::Snapshot(snapshot) => Got::Snapshot(snapshot),
            Kind::Destination(answer) => {
                let document: Destination = serde_json::from_slice(&answer.document).unwrap();
                assert_eq!(document.authority, answer.authority);
                Got::Destination(document)
            }
            Kind::Renew(_) => Got::Renew,
        })
    }

    async fn next(&mut self) -> Got {
        self.message().await.unwrap()
    }

    /// Reads to the end of the stream; how it ended.
    async fn end(&mut self) -> Status {
        loop {
            if let Err(status) = self.message().await {
                return status;
            }
        }
    }
}

/// A revocation for an hour.
fn revoked(mesh: &Mesh, revoked: Revoked) -> Revocation {
    Revocation::new(revoked, None, mesh.clock.now().plus(3600)).unwrap()
}

/// Waits until something is so.
async fn until(what: impl Fn() -> bool) {
    let wait = async {
        while !what() {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    tokio::time::timeout(SOON, wait).await.expect("it never became so");
}

fn document(snapshot: &pb::Snapshot) -> control::Snapshot {
    serde_json::from_slice(&snapshot.document).unwrap()
}

#[tokio::test]
async fn a_sidecar_enrols_and_connects() {
    let mesh = Mesh::start().await;
    let token = mesh.tokens.mint(&mesh.pod("payments-1")).unwrap();
    let (csr_der, key) = csr();
    let request = pb::EnrollRequest { token: token.clone(), csr_der };
    let answer = client(&mesh, None).await.enroll(request).await.unwrap().into_inner();
    let chain: Vec<_> = answer.chain_der.into_iter().map(CertificateDer::from).collect();
    let peer = peer_from_leaf(&chain[0]).unwrap();
    assert_eq!((&peer.spiffe_id, peer.not_after.as_secs()), (&id("payments"), answer.not_after));
    assert!(answer.trust_bundle_pem.contains("BEGIN CERTIFICATE"));
    let member = Member { identity: Identity::new(chain, key).unwrap(), peer };

    let mut sidecar = Sidecar::connect(&mesh, &member).await.unwrap();
    sidecar.hello(0).await;
    let Got::Bundle(bundle) = sidecar.next().await else { panic!("the bundle comes first") };
    assert_eq!(bundle.pem, answer.trust_bundle_pem);
    let Got::Keys(keys) = sidecar.next().await else { panic!("the keys come second") };
    assert_eq!(keys.issuer, format!("https://{}", mesh.issuer));
    assert_eq!(keys.jwks, mesh.keys.published().borrow().jwks);
    assert!(matches!(sidecar.next().await, Got::Revocations(_)));
    let Got::Snapshot(snapshot) = sidecar.next().await else { panic!("the snapshot comes after the revocations") };
    let document = document(&snapshot);
    assert_eq!(document.spiffe_id, id("payments").as_str());
    assert_eq!(document.mesh_issuer.token_endpoint, format!("https://{}/token", mesh.issuer));
    assert_eq!(document.ports.len(), 1);
    let used = [control::features::RULES, control::features::REVOCATIONS];
    assert_eq!(snapshot.required_features, used, "nothing that it does not use");

    // A renewal over a connection with the certificate.
    let (csr_der, _) = csr();
    let request = pb::EnrollRequest { token, csr_der };
    assert!(client(&mesh, Some(&member.identity)).await.enroll(request).await.is_ok());
    mesh.end().await;
}

#[tokio::test]
async fn refused_enrolments_say_what_to_do() {
    let mesh = Mesh::start().await;
    let token = mesh.tokens.mint(&mesh.pod("shop-1")).unwrap();
    let payments = mesh.member("payments-1");
    let enrol = async |identity: Option<&Identity>, token: &str, csr_der: Vec<u8>| {
        let request = pb::EnrollRequest { token: token.to_owned(), csr_der };
        client(&mesh, identity).await.enroll(request).await.unwrap_err().code()
    };
    assert_eq!(enrol(None, "x", csr().0).await, Code::Unauthenticated);
    assert_eq!(enrol(None, &token, b"x".to_vec()).await, Code::InvalidArgument);
    assert_eq!(enrol(Some(&payments.identity), &token, csr().0).await, Code::PermissionDenied);
    assert_eq!(enrol(None, &token, vec![0; 100_000]).await, Code::OutOfRange, "bounded before it is read");
    mesh.change(|model| *model = Model::default());
    assert_eq!(enrol(None, &token, csr().0).await, Code::NotFound);
    mesh.end().await;
}

#[tokio::test]
async fn a_stream_needs_the_certificate_of_a_living_pod() {
    let mesh = Mesh::start().await;
    let anonymous = client(&mesh, None).await.connect(tokio_stream::empty()).await;
    assert_eq!(anonymous.unwrap_err().code(), Code::Unauthenticated);

    let shop = mesh.member("shop-1");
    mesh.change(|model| rename(model, "shop-1", "shop-2"));
    let gone = Sidecar::connect(&mesh, &shop).await.map(|_| ());
    assert_eq!(gone.unwrap_err().code(), Code::PermissionDenied);
    mesh.view.send_replace(crate::view::View::empty(crate::testing::domain()).into());
    let early = Sidecar::connect(&mesh, &shop).await.map(|_| ());
    assert_eq!(early.unwrap_err().code(), Code::Unavailable);
    mesh.end().await;
}

#[tokio::test]
async fn acknowledgements_are_booked_on_the_pod_of_the_certificate() {
    let mesh = Mesh::start().await;
    let (sidecar, snapshot) = Sidecar::greeted(&mesh, "payments-1").await;
    let uid = mesh.pod("payments-1").uid;
    sidecar.ack(&snapshot.version, "").await;
    until(|| mesh.acks.of(&uid).acked.as_ref() == Some(&snapshot.version)).await;
    sidecar.ack(&snapshot.version, "no\nway").await;
    let reason = Some((snapshot.version.clone(), "noway".to_owned()));
    until(|| mesh.acks.of(&uid).nacked == reason).await;
    assert_eq!(mesh.acks.connected(), 1);
    drop(sidecar);
    until(|| mesh.acks.connected() == 0).await;
    mesh.end().await;
}

/// Of the root: a stream brings the roots of each step, says what the sidecar trusts, and asks for a new certificate in time.
#[tokio::test]
async fn a_rotation_is_told_on_open_streams() {
    let mesh = Mesh::start().await;
    let (authority, now) = (&mesh.authority, mesh.clock.now());
    let (mut sidecar, _) = Sidecar::greeted(&mesh, "payments-1").await;
    // Whether it trusts the roots, has a certificate of the authority that signs, and why it refuses the roots.
    let known = || {
        let (acks, roots) = (mesh.acks.of(&mesh.pod("payments-1").uid), authority.roots().borrow().clone());
        let refused = acks.distrusted.filter(|(digest, _)| *digest == roots.digest).map(|(_, why)| why);
        (acks.trusted.as_ref() == Some(&roots.digest), roots.signed(acks.authority.as_deref()), refused)
    };
    let answer = async |sidecar: &Sidecar, bundle: pb::TrustBundle, reason: &str| {
        let ack = pb::BundleAck { digest: bundle.digest, nack_reason: reason.to_owned() };
        sidecar.say(sidecar_message::Kind::BundleAck(ack)).await;
    };
    authority.begin_rotation("first", now).unwrap();
    let Got::Bundle(both) = sidecar.next().await else { panic!("both roots") };
    assert_eq!(both.pem.matches("BEGIN CERTIFICATE").count(), 2);
    answer(&sidecar, both.clone(), "no\nway").await;
    until(|| known() == (false, true, Some("noway".to_owned()))).await;
    answer(&sidecar, both, "").await;
    until(|| known() == (true, true, None)).await;

    let step = || authority.advance_rotation(&authority.rotation().unwrap(), now).unwrap();
    step();
    // The roots are the same; whose certificate it has is known.
    until(|| known() == (true, false, None)).await;
    step();
    assert!(matches!(sidecar.next().await, Got::Renew));
    let mut renewed = Sidecar::connect(&mesh, &mesh.member("payments-1")).await.unwrap();
    renewed.hello(0).await;
    assert!(matches!(renewed.next().await, Got::Bundle(_)));
    assert!(matches!(renewed.next().await, Got::Keys(_)));
    until(|| known() == (true, true, None)).await;
    drop(sidecar);
    mesh.end().await;
}

#[tokio::test]
async fn only_pods_that_a_change_concerns_are_told() {
    let mesh = Mesh::start().await;
    let (mut payments, before) = Sidecar::greeted(&mesh, "payments-1").await;
    let (mut ledger, _) = Sidecar::greeted(&mesh, "ledger-1").await;
    mesh.change(|model| transfers_at(model, "/payments"));
    let Got::Snapshot(after) = payments.next().await else { panic!("its policy has changed") };
    assert_ne!(after.version, before.version);
    assert_ne!(document(&after).ports, document(&before).ports);
    // The next thing that ledger hears is what it asks for now, not a snapshot it has.
    ledger.lookup("nobody.bank").await;
    assert!(matches!(ledger.next().await, Got::Destination(_)));
    mesh.end().await;
}

#[tokio::test]
async fn a_sidecar_with_a_newer_snapshot_is_left_alone() {
    // A line that is first said where nobody listens is said nowhere afterwards.
    let _log = capture_log();
    let mesh = Mesh::start().await;
    let mut sidecar = Sidecar::connect(&mesh, &mesh.member("payments-1")).await.unwrap();
    sidecar.hello(u64::MAX).await;
    sidecar.lookup("ledger.bank").await;
    assert!(matches!(sidecar.next().await, Got::Bundle(_)));
    assert!(matches!(sidecar.next().await, Got::Keys(_)));
    assert!(matches!(sidecar.next().await, Got::Revocations(_)));
    assert!(matches!(sidecar.next().await, Got::Destination(_)));
    mesh.end().await;
}

#[tokio::test]
async fn destinations_are_answered_and_kept_current() {
    let mesh = Mesh::start().await;
    let (mut sidecar, _) = Sidecar::greeted(&mesh, "payments-1").await;
    sidecar.lookup("ledger.bank").await;
    let Got::Destination(ledger) = sidecar.next().await else { panic!("an answer") };
    let DestinationKind::Meshed(meshed) = &ledger.kind else { panic!("{ledger:?}") };
    assert_eq!(meshed.audience, "https://ledger.bank");
    sidecar.lookup("nobody.bank").await;
    let Got::Destination(nobody) = sidecar.next().await else { panic!("an answer") };
    assert_eq!(nobody.kind, DestinationKind::Unknown);
    sidecar.lookup("nobody.bank").await;
    let Got::Destination(again) = sidecar.next().await else { panic!("an answer to each question") };
    assert_eq!(again, nobody);

    mesh.change(|model| move_ledger(model, 41005));
    let Got::Destination(moved) = sidecar.next().await else { panic!("the endpoint has moved") };
    let DestinationKind::Meshed(meshed) = &moved.kind else { panic!("{moved:?}") };
    assert_eq!(meshed.endpoints[0].address.port(), 41005);
    mesh.end().await;
}

/// Without it such a sidecar would go on in plaintext: it keeps the last answer that it can read.
#[tokio::test]
async fn a_sidecar_that_cannot_read_refusals_is_told_of_the_unknown() {
    let mesh = Mesh::start().await;
    let refusing = crate::model::Mesh { unmeshed_refused: true, ..crate::testing::fapi_mesh(Default::default()) };
    mesh.change(|model| (model.mesh, model.complete) = (Some(refusing), true));
    for (features, expected) in [
        (vec![], DestinationKind::Unknown),
        (vec![control::features::UNMESHED_REFUSED.to_owned()], DestinationKind::Refused),
    ] {
        let mut sidecar = Sidecar::connect(&mesh, &mesh.member("payments-1")).await.unwrap();
        sidecar.say(sidecar_message::Kind::Hello(pb::Hello { features, ..pb::Hello::default() })).await;
        sidecar.lookup("192.0.2.1:443").await;
        let answer = loop {
            if let Got::Destination(answer) = sidecar.next().await {
                break answer;
            }
        };
        assert_eq!(answer.kind, expected);
    }
    mesh.end().await;
}

#[tokio::test]
async fn authorities_are_bounded() {
    let mesh = Mesh::start().await;
    let (mut sidecar, _) = Sidecar::greeted(&mesh, "payments-1").await;
    sidecar.lookup(&"x".repeat(600)).await;
    let outgoing = sidecar.outgoing.clone();
    let flood = tokio::spawn(async move {
        for number in 0..5000 {
            let kind = sidecar_message::Kind::Lookup(pb::Lookup { authority: format!("s{number}.bank") });
            if outgoing.send(pb::SidecarMessage { kind: Some(kind) }).await.is_err() {
                return;
            }
        }
    });
    assert_eq!(sidecar.end().await.code(), Code::ResourceExhausted);
    flood.abort();
    mesh.end().await;
}

// === What one pod may take ===

#[tokio::test]
async fn a_pod_has_a_few_streams_and_the_newest_stay() {
    let mesh = Mesh::start().await;
    let (mut other, _) = Sidecar::greeted(&mesh, "ledger-1").await;
    let (mut oldest, _) = Sidecar::greeted(&mesh, "payments-1").await;
    let mut newer = Vec::new();
    for _ in 0..3 {
        newer.push(Sidecar::greeted(&mesh, "payments-1").await.0);
    }
    assert_eq!(oldest.end().await.code(), Code::ResourceExhausted);
    newer.push(other);
    for sidecar in &mut newer {
        sidecar.lookup("nobody.bank").await;
        assert!(matches!(sidecar.next().await, Got::Destination(_)));
    }
    other = newer.pop().unwrap();
    drop(newer);
    until(|| mesh.acks.connected() == 1).await;
    drop(other);
    mesh.end().await;
}

#[tokio::test]
async fn a_pod_that_opens_streams_all_the_time_waits_and_no_other_does() {
    let mesh = Mesh::start().await;
    let (shop, ledger) = (mesh.member("shop-1"), mesh.member("ledger-1"));
    let mut client = client(&mesh, Some(&shop.identity)).await;
    let mut open = async || client.connect(tokio_stream::empty()).await.map(|_| ());
    for _ in 0..32 {
        open().await.unwrap();
    }
    assert_eq!(open().await.unwrap_err().code(), Code::ResourceExhausted);
    assert!(Sidecar::connect(&mesh, &ledger).await.is_ok());
    mesh.clock.advance(Duration::from_secs(1));
    open().await.unwrap();
    assert_eq!(open().await.unwrap_err().code(), Code::ResourceExhausted);
    mesh.end().await;
}

#[tokio::test]
async fn a_stream_has_one_hello() {
    let mesh = Mesh::start().await;
    let (mut sidecar, _) = Sidecar::greeted(&mesh, "payments-1").await;
    sidecar.hello(0).await;
    assert_eq!(sidecar.end().await.code(), Code::InvalidArgument);
    mesh.end().await;
}

#[tokio::test]
async fn a_stream_has_a_budget_of_messages() {
    let mesh = Mesh::start().await;
    let (mut sidecar, _) = Sidecar::greeted(&mesh, "payments-1").await;
    let (outgoing, uid) = (sidecar.outgoing.clone(), mesh.pod("payments-1").uid);
    // One was the hello.
    for epoch in 1..8192 {
        let kind = sidecar_message::Kind::RevocationsApplied(pb::RevocationsApplied { epoch });
        outgoing.send(pb::SidecarMessage { kind: Some(kind) }).await.unwrap();
    }
    until(|| mesh.acks.of(&uid).revocations == 8191).await;
    mesh.clock.advance(Duration::from_secs(1));
    for _ in 0..64 {
        sidecar.lookup("nobody.bank").await;
        assert!(matches!(sidecar.next().await, Got::Destination(_)), "a steady few after that");
    }
    sidecar.lookup("nobody.bank").await;
    assert_eq!(sidecar.end().await.code(), Code::ResourceExhausted);
    mesh.end().await;
}

#[tokio::test]
async fn a_stream_is_believed_once_that_its_sidecar_has_a_newer_snapshot() {
    let (log, _guard) = capture_log();
    let mesh = Mesh::start().await;
    let mut sidecar = Sidecar::connect(&mesh, &mesh.member("payments-1")).await.unwrap();
    sidecar.hello(u64::MAX).await;
    while !matches!(sidecar.next().await, Got::Revocations(_)) {}
    for number in 0..3 {
        mesh.change(|model| transfers_at(model, &format!("/transfers-{number}")));
        // Answered after the snapshot was looked at.
        sidecar.lookup("nobody.bank").await;
        assert!(matches!(sidecar.next().await, Got::Destination(_)));
    }
    assert_eq!(log.text().matches("a sidecar has a newer snapshot").count(), 1);
    mesh.end().await;
}

#[tokio::test]
async fn whose_certificate_is_older_is_told_to_renew() {
    let mesh = Mesh::start().await;
    let (mut early, _) = Sidecar::greeted(&mesh, "payments-1").await;
    // One that is away when it is asked, in the very second that its certificate was issued in.
    let away = mesh.member("shop-1");
    mesh.renew.send_replace(mesh.clock.now());
    mesh.clock.advance(Duration::from_secs(1));
    assert!(matches!(early.next().await, Got::Renew));
    let mut back = Sidecar::connect(&mesh, &away).await.unwrap();
    back.hello(0).await;
    while !matches!(back.next().await, Got::Renew) {}
    let (mut late, _) = Sidecar::greeted(&mesh, "ledger-1").await;
    late.lookup("nobody.bank").await;
    assert!(matches!(late.next().await, Got::Destination(_)));
    mesh.end().await;
}

#[tokio::test]
async fn new_keys_reach_open_streams_before_they_sign() {
    let mesh = Mesh::start().await;
    let (mut sidecar, _) = Sidecar::greeted(&mesh, "payments-1").await;
    let digest = mesh.keys.published().borrow().digest.clone();
    assert!(mesh.keys.delivered().everyone_has(&digest));
    mesh.clock.advance(Duration::from_secs(24 * 3600));
    mesh.keys.tick().unwrap();
    let Got::Keys(keys) = sidecar.next().await else { panic!("the keys have changed") };
    assert_ne!(keys.digest, digest);
    until(|| mesh.keys.delivered().everyone_has(&keys.digest)).await;
    mesh.end().await;
}

#[tokio::test]
async fn a_slow_reader_skips_to_the_newest() {
    let mesh = Mesh::start().await;
    let (mut sidecar, first) = Sidecar::greeted(&mesh, "payments-1").await;
    for number in 0..500 {
        mesh.change(|model| transfers_at(model, &format!("/transfers-{number}")));
        tokio::task::yield_now().await;
    }
    let mut seen = HashMap::from([(first.version, 0)]);
    loop {
        let Got::Snapshot(snapshot) = sidecar.next().await else { panic!("only snapshots") };
        *seen.entry(snapshot.version.clone()).or_insert(0) += 1;
        if String::from_utf8_lossy(&snapshot.document).contains("/transfers-499") {
            break;
        }
    }
    assert!(seen.len() < 400, "{} snapshots were queued", seen.len());
    mesh.end().await;
}

#[tokio::test]
async fn a_stream_ends_with_its_pod_its_certificate_and_the_operator() {
    let mesh = Mesh::start().await;
    let (mut ledger, _) = Sidecar::greeted(&mesh, "ledger-1").await;
    mesh.change(|model| rename(model, "ledger-1", "ledger-2"));
    assert_eq!(ledger.end().await.code(), Code::PermissionDenied);

    let brief = mesh.member_for("shop-1", Duration::from_secs(2));
    let mut shop = Sidecar::connect(&mesh, &brief).await.unwrap();
    shop.hello(0).await;
    assert_eq!(shop.end().await.code(), Code::Unauthenticated);

    let (mut payments, _) = Sidecar::greeted(&mesh, "payments-1").await;
    mesh.shutdown.send_replace(true);
    assert_eq!(payments.end().await.code(), Code::Unavailable);
    mesh.end().await;
}

#[tokio::test]
async fn revocations_come_before_the_first_snapshot_and_at_once_when_there_are_more() {
    let mesh = Mesh::start().await;
    mesh.revocations.revoke([revoked(&mesh, Revoked::Pod("another".into()))]).unwrap();
    let mut sidecar = Sidecar::connect(&mesh, &mesh.member("shop-1")).await.unwrap();
    sidecar.hello(0).await;
    assert!(matches!(sidecar.next().await, Got::Bundle(_)));
    assert!(matches!(sidecar.next().await, Got::Keys(_)));
    let Got::Revocations(first) = sidecar.next().await else { panic!("revocations come before the snapshot") };
    let all: Vec<Revocation> = serde_json::from_slice(&first.document).unwrap();
    assert_eq!(all.len(), 1);
    let Got::Snapshot(snapshot) = sidecar.next().await else { panic!("then the snapshot") };
    assert_eq!(snapshot.revocation_epoch, first.epoch);
    assert!(snapshot.required_features.iter().any(|feature| feature == control::features::REVOCATIONS));
    mesh.revocations.revoke([revoked(&mesh, Revoked::Pod("a third".into()))]).unwrap();
    let Got::Revocations(second) = sidecar.next().await else { panic!("more of them") };
    assert!(second.epoch > first.epoch && second.digest != first.digest);
    // Who has them already is not told again.
    let mut other = Sidecar::connect(&mesh, &mesh.member("web-1")).await.unwrap();
    let hello = pb::Hello { revocation_epoch: second.epoch, ..pb::Hello::default() };
    other.say(sidecar_message::Kind::Hello(hello)).await;
    assert!(matches!(other.next().await, Got::Bundle(_)));
    assert!(matches!(other.next().await, Got::Keys(_)));
    assert!(matches!(other.next().await, Got::Snapshot(_)));
    mesh.end().await;
}

#[tokio::test]
async fn all_streams_share_the_revocations_that_they_send() {
    let mesh = Mesh::start().await;
    mesh.revocations.revoke([revoked(&mesh, Revoked::Pod("another".into()))]).unwrap();
    let (view, keys) = (mesh.view.borrow().clone(), mesh.keys.published().borrow().clone());
    let (roots, revocations) = (mesh.authority.roots().borrow().clone(), mesh.revocations.in_force());
    let (issuer, behind) = (crate::issuer::names("https://issuer.example"), Behind::default());
    let now = Now {
        pod_uid: "nobody",
        view: &view,
        keys: &keys,
        revocations: &revocations,
        issuer: &issuer,
        roots: &roots,
        behind: &behind,
    };
    let sent = || {
        let mut outbox = Outbox::new();
        outbox.greet(&pb::Hello::default());
        loop {
            if let Some(operator_message::Kind::Revocations(sent)) = outbox.next(&now).unwrap().kind {
                break sent.document;
            }
        }
    };
    let (one, other) = (sent(), sent());
    assert!(!one.is_empty() && one.as_ptr() == other.as_ptr(), "it is copied for each");
    mesh.end().await;
}

#[tokio::test]
async fn many_revocations_that_come_one_after_the_other_travel_together() {
    let mesh = Mesh::start().await;
    let (mut sidecar, _) = Sidecar::greeted(&mesh, "shop-1").await;
    for number in 0..200 {
        mesh.revocations.revoke([revoked(&mesh, Revoked::Pod(number.to_string().into()))]).unwrap();
        tokio::task::yield_now().await;
    }
    let (last, mut told) = (mesh.revocations.in_force().epoch, 0);
    loop {
        let Got::Revocations(revocations) = sidecar.next().await else { panic!("only revocations") };
        told += 1;
        if revocations.epoch == last {
            break;
        }
    }
    assert!(told < 50, "each was sent alone: {told}");
    mesh.end().await;
}

#[tokio::test]
async fn a_revoked_pod_identity_or_certificate_loses_its_stream_and_gets_no_other() {
    for (name, what, code) in [
        ("pod", Revoked::Pod("uid-of-bank-shop-1".into()), Code::PermissionDenied),
        ("identity", Revoked::SpiffeId(id("shop")), Code::PermissionDenied),
        ("certificate", Revoked::Pod("".into()), Code::Unauthenticated),
    ] {
        let mesh = Mesh::start().await;
        let shop = mesh.member("shop-1");
        let what = if name == "certificate" { Revoked::Certificate(shop.peer.thumbprint) } else { what };
        let mut sidecar = Sidecar::connect(&mesh, &shop).await.unwrap();
        sidecar.hello(0).await;
        let (mut payments, _) = Sidecar::greeted(&mesh, "payments-1").await;
        mesh.revocations.revoke([revoked(&mesh, what)]).unwrap();
        assert_eq!(sidecar.end().await.code(), code, "{name}");
        assert_eq!(Sidecar::connect(&mesh, &shop).await.err().unwrap().code(), code, "{name}");
        assert!(matches!(payments.next().await, Got::Revocations(_)), "others are told");
        // Whether another certificate helps.
        let again = Sidecar::connect(&mesh, &mesh.member("shop-1")).await;
        assert_eq!(again.is_ok(), name == "certificate", "{name}");
        mesh.end().await;
    }
}

// === Keys of clients ===

#[tokio::test]
async fn the_key_that_a_sidecar_reports_is_published_and_signs_for_its_client() {
    let mesh = Mesh::start().await;
    mesh.change(|model| {
        let mut spec = client_of("shop", Vec::new());
        spec.authentication = control::ClientAuthentication::PrivateKeyJwt;
        let seniority = Seniority { created: 0, key: Key::new("bank", "shop") };
        model.clients.insert(seniority.key.clone(), Client { seniority, generation: 1, spec: Some(spec), fault: None });
    });
    let key = fapi::SigningKey::generate().unwrap();
    let mut jwk = key.public_jwk();
    jwk["kid"] = key.kid().into();
    let jwks =
        |account: &str| format!("GET /clients/bank/{account}/jwks HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n");
    assert_eq!(mesh.http(None, &jwks("shop")).await.body, r#"{"keys":[]}"#);
    let mut sidecar = Sidecar::connect(&mesh, &mesh.member("shop-1")).await.unwrap();
    let assertion_key = jwk.to_string().into_bytes();
    sidecar.say(sidecar_message::Kind::Hello(pb::Hello { assertion_key, ..pb::Hello::default() })).await;
    assert!(matches!(sidecar.next().await, Got::Bundle(_)), "it was read");
    let reply = mesh.http(None, &jwks("shop")).await;
    assert_eq!(serde_json::from_str::<serde_json::Value>(&reply.body).unwrap(), serde_json::json!({ "keys": [jwk] }));
    assert_eq!(reply.header("cache-control"), Some("public, max-age=10"));
    for other in ["ledger", "nobody", "", "a/b"] {
        assert_eq!(mesh.http(None, &jwks(other)).await.status, 404, "{other}");
    }

    // At the mesh's own issuer it counts at once, for its own client alone.
    for (client, expected) in [("shop", 200), ("ledger", 400)] {
        let (id, issuer) = (id(client).to_string(), format!("https://{}", mesh.issuer));
        let assertion = fapi::sign_assertion(&key, &id, &issuer, client, mesh.clock.now()).unwrap();
        let form = format!(
            "grant_type=client_credentials&resource=https%3A%2F%2Fpayments.bank&client_assertion_type={}&client_assertion={assertion}",
            fapi::CLIENT_ASSERTION_TYPE.replace(':', "%3A")
        );
        let request = format!(
            "POST /token HTTP/1.1\r\nHost: x\r\nConnection: close\r\nContent-Type: application/x-www-form-urlencoded\r\nContent-Length: {}\r\n\r\n{form}",
            form.len()
        );
        let reply = mesh.http(Some(&mesh.member(&format!("{client}-1"))), &request).await;
        assert_eq!(reply.status, expected, "{}", reply.body);
    }
}

#[tokio::test]
async fn a_pod_tells_what_it_counted_of_policies_that_govern_it_for_as_long_as_it_is_connected() {
    let mesh = Mesh::start().await;
    let (sidecar, _) = Sidecar::greeted(&mesh, "payments-1").await;
    let uid = mesh.pod("payments-1").uid;
    let known = || {
        let all = mesh.audits.all();
        assert!(all.keys().all(|known| *known == uid), "the pod is that of the certificate: {all:?}");
        let counts = |(policy, counted): (&String, &Arc<Counted>)| (policy.clone(), counted.callers()[0].count);
        all.get(&uid).into_iter().flatten().map(counts).collect::<Vec<_>>()
    };
    let say = async |policy: &str, lines: &[(&str, &str, u64)]| {
        sidecar.say(sidecar_message::Kind::WouldRefuse(told(policy, mesh.clock.now(), lines))).await;
    };
    // One after the other, so what is not taken has been read when the last is.
    for (policy, caller) in
        [("bank/ledger", "web/checkout"), ("bank/none", "other"), ("", "other"), ("bank/payments", "no\nname")]
    {
        say(policy, &[("token_missing", caller, 1)]).await;
    }
    say("bank/payments", &[("token_missing", "web/checkout", 3)]).await;
    until(|| known() == [("bank/payments".to_owned(), 3)]).await;
    say("bank/payments", &[("token_missing", "web/checkout", 4)]).await;
    until(|| known() == [("bank/payments".to_owned(), 4)]).await;
    say("bank/payments", &[]).await;
    until(|| known().is_empty()).await;
    say("bank/payments", &[("token_missing", "web/checkout", 5)]).await;
    until(|| !known().is_empty()).await;
    drop(sidecar);
    until(|| known().is_empty()).await;
    mesh.end().await;
}
