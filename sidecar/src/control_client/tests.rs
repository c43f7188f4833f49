#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use control::{
    Order, Port,
    PortPolicyDoc::Tcp,
    Snapshot, features,
    pb::{self, operator_message::Kind},
    tls::TrustBundle,
};
use fapi::{Mode, Rejection, Revocation, Revoked, UnixTime, WireCaller, WireTcpPolicy};

use crate::{
    outbound::Between,
    testing::{
        authority::{Authority, workload},
        local,
        mesh::Mesh,
        until,
    },
};

#[tokio::test]
async fn first_contact_sends_the_token_once_and_the_stream_says_who_it_is() {
    local(async {
        let mesh = Mesh::start(Between::H1).await;
        until("an acknowledgement", || mesh.operator.with(|state| !state.acks.is_empty())).await;
        mesh.operator.with(|state| {
            assert_eq!((state.enrolments, state.streams), (1, 1));
            assert_eq!(state.tokens, ["workload-token"]);
            assert_eq!((state.acks[0].version.as_str(), state.acks[0].nack_reason.as_str()), ("v1", ""));
            assert_eq!(state.hellos[0].features, features::SUPPORTED);
            assert_eq!(state.hellos[0].applied_order, 0);
        });
    })
    .await;
}

#[tokio::test]
async fn what_cannot_be_enforced_is_refused_with_a_reason_and_changes_nothing() {
    local(async {
        let mesh = Mesh::start(Between::H1).await;
        let newer = mesh.operator.snapshot(7);
        let version = newer.version.clone();
        mesh.operator.say(Kind::Snapshot(newer));
        let is_told = || mesh.operator.with(|state| state.acks.last().is_some_and(|ack| ack.version == version));
        until("the newer one is applied, and that is told", is_told).await;
        let good = mesh.operator.snapshot(8);
        for (bad, reason) in [
            (pb::Snapshot { required_features: vec!["udp/1".to_owned()], ..good.clone() }, "udp/1"),
            (pb::Snapshot { document: b"{}".to_vec(), ..good.clone() }, "missing field"),
            (mesh.operator.snapshot(6), "behind"),
        ] {
            let before = mesh.operator.with(|state| state.acks.len());
            mesh.operator.say(Kind::Snapshot(bad));
            until("an answer", || mesh.operator.with(|state| state.acks.len()) > before).await;
            let ack = mesh.operator.with(|state| state.acks.last().cloned()).unwrap();
            assert!(ack.nack_reason.contains(reason), "{}", ack.nack_reason);
            assert_eq!(mesh.shared.applied().unwrap().order.number, 7);
        }
        mesh.operator.say(Kind::TrustBundle(pb::TrustBundle { digest: "bad".to_owned(), pem: "none".to_owned() }));
        let before = mesh.operator.with(|state| state.acks.len());
        mesh.operator.say(Kind::Snapshot(good));
        until("the stream lives on", || mesh.operator.with(|state| state.acks.len()) > before).await;
        assert!(mesh.shared.bundle().is_some());
    })
    .await;
}

#[tokio::test]
async fn what_knows_less_of_one_kind_is_refused_whatever_it_knows_of_others() {
    local(async {
        let mesh = Mesh::start(Between::H1).await;
        let acks = || mesh.operator.with(|state| state.acks.len());
        until("the first answer", || acks() == 1).await;
        for (order, versions, taken) in [(7, [5, 5], true), (9, [4, 9], false), (6, [5, 5], true), (8, [5, 9], true)] {
            let before = acks();
            let versions = versions.to_vec();
            mesh.operator
                .say(Kind::Snapshot(pb::Snapshot { versions: versions.clone(), ..mesh.operator.snapshot(order) }));
            until("an answer", || acks() > before).await;
            let ack = mesh.operator.with(|state| state.acks.last().cloned()).unwrap();
            let applied = mesh.shared.applied().unwrap().order.clone();
            assert_eq!((ack.nack_reason.is_empty(), applied == Order { number: order, versions }), (taken, taken));
        }
        mesh.operator.set_away(true);
        until("the stream ends", || mesh.operator.with(|state| state.open_streams == 0)).await;
        mesh.operator.set_away(false);
        until("it is back", || mesh.operator.with(|state| state.hellos.len() == 2)).await;
        mesh.operator.with(|state| assert_eq!(state.hellos[1].applied_versions, [5, 9]));
    })
    .await;
}

#[tokio::test]
async fn every_bundle_is_acknowledged_once_it_is_in_force_or_refused_with_a_reason() {
    local(async {
        let mesh = Mesh::start(Between::H1).await;
        let answers = || mesh.operator.with(|state| state.bundle_acks.clone());
        until("the first answer", || answers().len() == 1).await;
        let wider = mesh.authority.wider_pem();
        for (digest, pem, is_good) in [("wider", &*wider, true), ("wider", &*wider, true), ("bad", "none", false)] {
            let before = answers().len();
            let bundle = pb::TrustBundle { digest: digest.to_owned(), pem: pem.to_owned() };
            mesh.operator.say(Kind::TrustBundle(bundle));
            until("an answer", || answers().len() > before).await;
            let pb::BundleAck { digest: acknowledged, nack_reason } = answers().last().cloned().unwrap();
            assert_eq!((&*acknowledged, nack_reason.is_empty()), (digest, is_good), "{nack_reason}");
        }
        let in_force = mesh.shared.bundle().unwrap();
        assert!(in_force.is_same(&TrustBundle::from_pem(mesh.shared.trust_domain(), &wider).unwrap()));
    })
    .await;
}

#[tokio::test]
async fn whoever_was_away_while_the_root_changed_finds_the_new_one_in_the_file() {
    local(async {
        let mesh = Mesh::start(Between::H1).await;
        // What the operator had once: its certificate leads to another root by now, which stands in the file.
        mesh.shared.install_bundle(Authority::new().bundle()).unwrap();
        mesh.operator.renew();
        let new = mesh.authority.bundle();
        until("the new root", || mesh.shared.bundle().is_some_and(|bundle| bundle.is_same(&new))).await;
        assert_eq!(mesh.operator.with(|state| state.enrolments), 1, "with the certificate that it has");
    })
    .await;
}

#[tokio::test]
async fn every_stream_begins_with_what_audit_has_let_pass() {
    local(async {
        let mesh = Mesh::start(Between::H1).await;
        until("an acknowledgement", || mesh.operator.with(|state| !state.acks.is_empty())).await;
        let address = "127.0.0.1:0".parse().unwrap();
        let caller = WireCaller { namespace: "bank".to_owned(), service_account: Some("shop".to_owned()) };
        let policy = WireTcpPolicy { name: "bank/db".to_owned(), mode: Mode::Audit, callers: vec![caller] };
        let port = Port { name: "db".to_owned(), port: 80, listen: address, app: address, policy: Tcp(policy) };
        let mut snapshot: Snapshot = serde_json::from_slice(&mesh.operator.snapshot(9).document).unwrap();
        snapshot.ports.push(port);
        mesh.shared.apply("v9", 9.into(), snapshot).unwrap();
        let applied = mesh.shared.applied().unwrap();
        applied.ports[0].audit.as_ref().unwrap().count(Rejection::CallerNotAllowed, &workload("web"));
        for streams in 2..4 {
            mesh.operator.set_away(true);
            until("the stream ends", || mesh.operator.with(|state| state.open_streams == 0)).await;
            mesh.operator.set_away(false);
            until("it is told", || mesh.operator.with(|state| state.would_refuse.len() == streams - 1)).await;
        }
        let told: Vec<pb::WouldRefuse> = applied.audits.told().collect();
        assert_eq!((told[0].policy.as_str(), told[0].callers[0].count), ("bank/db", 1));
        mesh.operator.with(|state| assert_eq!(state.would_refuse, [&told[..], &told[..]].concat()));
    })
    .await;
}

fn of_pod(uid: &str) -> Revocation {
    Revocation::new(Revoked::Pod(uid.into()), None, UnixTime::from_secs(u64::MAX)).unwrap()
}

#[tokio::test]
async fn no_snapshot_is_taken_before_its_revocations_have_come() {
    local(async {
        let mesh = Mesh::start(Between::H1).await;
        let acks = || mesh.operator.with(|state| state.acks.len());
        let demanding = |epoch| pb::Snapshot {
            required_features: vec![features::REVOCATIONS.to_owned()],
            revocation_epoch: epoch,
            ..mesh.operator.snapshot(7)
        };
        until("the first answer", || acks() == 1).await;
        for (sent, snapshot, taken) in
            [(None, demanding(0), false), (Some(3), demanding(4), false), (Some(4), demanding(4), true)]
        {
            let before = acks();
            if let Some(epoch) = sent {
                mesh.operator.revoke(epoch, &[]);
                until("they are in force", || mesh.shared.revocation_epoch() == epoch).await;
            }
            mesh.operator.say(Kind::Snapshot(snapshot));
            until("an answer", || acks() > before).await;
            let ack = mesh.operator.with(|state| state.acks.last().cloned()).unwrap();
            assert_eq!((ack.nack_reason.is_empty(), mesh.shared.applied().unwrap().order.number == 7), (taken, taken));
            assert!(taken || ack.nack_reason.contains("revocations of epoch"), "{}", ack.nack_reason);
        }
    })
    .await;
}

#[tokio::test]
async fn older_and_unreadable_revocations_are_refused_and_the_last_ones_stay() {
    local(async {
        let mesh = Mesh::start(Between::H1).await;
        mesh.operator.revoke(5, &[of_pod("a"), of_pod("b")]);
        until("they are in force", || mesh.shared.revocations().len() == 2).await;
        let pushed = || mesh.operator.with(|state| state.pushed);
        let acks = || mesh.operator.with(|state| state.acks.len());
        let bad = pb::Revocations { digest: "bad".to_owned(), epoch: 6, document: b"[{}]"[..].into() };
        let old = pb::Revocations { digest: "old".to_owned(), epoch: 4, document: b"[]"[..].into() };
        for refused in [bad, old] {
            let before = (pushed(), acks());
            mesh.operator.say(Kind::Revocations(refused));
            until("they are said", || pushed() > before.0).await;
            // What is answered after them shows that they were read.
            mesh.operator.say(Kind::Snapshot(mesh.operator.snapshot(7)));
            until("an answer", || acks() > before.1).await;
            assert_eq!((mesh.shared.revocation_epoch(), mesh.shared.revocations().len()), (5, 2));
        }
        mesh.operator.with(|state| assert_eq!(state.revoked, [5], "what is refused is not acknowledged"));
        mesh.operator.set_away(true);
        until("the stream has ended", || mesh.shared.metrics.control_stream.get() == 0).await;
        assert_eq!(mesh.shared.revocations().len(), 2, "without the operator too");
        mesh.operator.set_away(false);
        until("it says what it has", || {
            mesh.operator.with(|state| state.hellos.last().is_some_and(|hello| hello.revocation_epoch == 5))
        })
        .await;
    })
    .await;
}

#[tokio::test]
async fn a_sidecar_whose_certificate_is_revoked_enrols_again() {
    local(async {
        let mesh = Mesh::start(Between::H1).await;
        let before = mesh.shared.identity().unwrap().number;
        mesh.operator.with(|state| state.refuse_renewals = true);
        mesh.operator.renew();
        until("a new certificate", || mesh.shared.identity().unwrap().number > before).await;
        mesh.operator.with(|state| assert_eq!((state.enrolments, state.renewals), (2, 0)));
    })
    .await;
}

#[tokio::test]
async fn an_operator_with_too_much_to_do_is_asked_again_with_the_certificate_in_use() {
    local(async {
        let mesh = Mesh::start(Between::H1).await;
        let before = (mesh.shared.identity().unwrap().number, mesh.shared.metrics.certificates.failed.get());
        mesh.operator.with(|state| state.busy = 3);
        mesh.operator.renew();
        until("a new certificate", || mesh.shared.identity().unwrap().number > before.0).await;
        mesh.operator.with(|state| assert_eq!((state.busy, state.enrolments, state.renewals), (0, 1, 1)));
        assert_eq!(mesh.shared.metrics.certificates.failed.get(), before.1 + 3);
    })
    .await;
}

#[tokio::test]
async fn an_operator_of_another_identity_gets_no_token() {
    local(async {
        let mesh = Mesh::start(Between::H1).await;
        let mut settings = mesh.operator.settings();
        settings.operator = workload("impostor");
        let (shared, _ends) = crate::state::Shared::new(
            crate::testing::authority::trust_domain(),
            crate::interception::Interception::None,
        )
        .unwrap();
        let control = super::ControlPlane::new(shared.clone(), settings);
        let failed = || shared.metrics.certificates.failed.get() >= 2;
        let task = tokio::task::spawn_local(control.run());
        until("two failures", failed).await;
        task.abort();
        assert_eq!(mesh.operator.with(|state| state.tokens.len()), 1);
    })
    .await;
}
