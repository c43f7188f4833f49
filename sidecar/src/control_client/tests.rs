#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use control::pb::{self, operator_message::Kind};

use crate::{
    outbound::Between,
    testing::{local, mesh::Mesh, until},
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
            assert_eq!(state.hellos[0].features, control::features::SUPPORTED);
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
        mesh.operator.say(Kind::Snapshot(newer));
        until("the newer one is applied", || mesh.shared.applied().is_some_and(|applied| applied.order == 7)).await;
        let good = mesh.operator.snapshot(8);
        for (bad, reason) in [
            (pb::Snapshot { required_features: vec!["tcp/1".to_owned()], ..good.clone() }, "tcp/1"),
            (pb::Snapshot { document: b"{}".to_vec(), ..good.clone() }, "missing field"),
            (mesh.operator.snapshot(6), "older"),
        ] {
            let before = mesh.operator.with(|state| state.acks.len());
            mesh.operator.say(Kind::Snapshot(bad));
            until("an answer", || mesh.operator.with(|state| state.acks.len()) > before).await;
            let ack = mesh.operator.with(|state| state.acks.last().cloned()).unwrap();
            assert!(ack.nack_reason.contains(reason), "{}", ack.nack_reason);
            assert_eq!(mesh.shared.applied().unwrap().order, 7);
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
async fn an_operator_of_another_identity_gets_no_token() {
    local(async {
        let mesh = Mesh::start(Between::H1).await;
        let mut settings = mesh.operator.settings();
        settings.operator = crate::testing::authority::workload("impostor");
        let (shared, _ends) = crate::state::Shared::new(crate::testing::authority::trust_domain()).unwrap();
        let control = super::ControlPlane::new(shared.clone(), settings);
        let failed = || shared.metrics.certificates.failed.get() >= 2;
        let task = tokio::task::spawn_local(control.run());
        until("two failures", failed).await;
        task.abort();
        assert_eq!(mesh.operator.with(|state| state.tokens.len()), 1);
    })
    .await;
}
