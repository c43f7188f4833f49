#![allow(clippy::unwrap_used, reason = "a failed step fails the test")]

use super::*;
use crate::testing::cluster::Cluster;

const LEASE: &str = "/apis/coordination.k8s.io/v1/namespaces/fapi-mesh/leases/fapi-operator";

/// Whether somebody who waits was woken since the last look.
async fn is_told(leadership: &mut Leadership) -> bool {
    timeout(Duration::ZERO, leadership.changed()).await.is_ok()
}

#[tokio::test]
async fn a_renewal_wakes_nobody_and_a_beginning_and_an_end_do() {
    let cluster = Cluster::default();
    let mut candidate = Candidate::new(cluster.client(), "fapi-mesh", None);
    let mut leadership = candidate.leadership();
    candidate.publish();
    assert!(!is_told(&mut leadership).await && !leadership.holds());
    candidate.turn().await.unwrap();
    candidate.publish();
    assert!(is_told(&mut leadership).await && leadership.holds());
    for _ in 0..3 {
        let before = *candidate.until.borrow();
        candidate.turn().await.unwrap();
        candidate.publish();
        assert!(*candidate.until.borrow() > before, "it is renewed");
        assert!(!is_told(&mut leadership).await && leadership.holds());
    }
    // It runs out without an answer, and comes back.
    cluster.answers(false);
    candidate.began -= DURATION;
    assert!(candidate.turn().await.is_err());
    candidate.publish();
    assert!(is_told(&mut leadership).await && !leadership.holds());
    candidate.publish();
    assert!(!is_told(&mut leadership).await);
    cluster.answers(true);
    candidate.turn().await.unwrap();
    candidate.publish();
    assert!(is_told(&mut leadership).await && leadership.holds());
    // It has run out before anybody looked, and came back meanwhile.
    candidate.until.send_if_modified(|until| {
        *until = Some(Instant::now());
        false
    });
    candidate.turn().await.unwrap();
    candidate.publish();
    assert!(is_told(&mut leadership).await && leadership.holds());
    // Somebody else has it.
    let mut lease = cluster.object(LEASE).unwrap();
    lease["spec"]["holderIdentity"] = "another".into();
    cluster.put(LEASE, lease);
    candidate.turn().await.unwrap();
    candidate.publish();
    assert!(is_told(&mut leadership).await && !leadership.holds());
}
