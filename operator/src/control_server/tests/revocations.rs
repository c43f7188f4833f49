//! How revocations reach sidecars.

use super::*;

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
