mod bounds;
mod reports;
mod revocations;

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use control::identity::peer_from_leaf;
use control::pb::control_client::ControlClient;
use control::pb::{self, operator_message, sidecar_message};
use control::tls::Identity;
use control::{Destination, DestinationKind, Order};
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
