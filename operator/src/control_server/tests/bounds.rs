//! What one pod may take.

use super::*;

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
    let mut without = Sidecar::connect(&mesh, &mesh.member("payments-1")).await.unwrap();
    without.lookup("ledger.bank").await;
    assert_eq!(without.end().await.code(), Code::InvalidArgument);
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
async fn a_sidecar_that_came_from_an_operator_which_knew_more_waits_until_this_one_does() {
    let mesh = Mesh::start().await;
    let know = |number, versions: &[u64]| {
        let order = Order { number, versions: versions.to_vec() };
        mesh.view.send_modify(|view| *view = view.next(order, view.index().model().clone()).into());
    };
    // More of one kind, and less of another.
    know(20, &[5, 13]);
    let mut sidecar = Sidecar::connect(&mesh, &mesh.member("payments-1")).await.unwrap();
    let hello = pb::Hello { applied_order: 18, applied_versions: vec![6, 12], ..pb::Hello::default() };
    sidecar.say(sidecar_message::Kind::Hello(hello)).await;
    while !matches!(sidecar.next().await, Got::Revocations(_)) {}
    // Answered after the snapshot was looked at.
    sidecar.lookup("nobody.bank").await;
    assert!(matches!(sidecar.next().await, Got::Destination(_)));
    know(21, &[6, 13]);
    let Got::Snapshot(snapshot) = sidecar.next().await else { panic!("now it knows as much") };
    assert_eq!((snapshot.order, &*snapshot.versions), (21, &[6, 13][..]));
    mesh.end().await;
}
