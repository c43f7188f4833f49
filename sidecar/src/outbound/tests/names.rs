//! Apps call names that their users choose.

use fapi::SenderConstraint::Mtls;

use crate::{
    outbound::Between,
    testing::{local, mesh::Mesh, until},
};

/// As many as a worker remembers, and as many as the process does.
const MANY: usize = 4096;

fn call(mesh: &Mesh, name: &str) {
    assert!(mesh.outbound.target(&name.parse().unwrap()).is_ok(), "{name}");
}

fn is_known(mesh: &Mesh, name: &str) -> bool {
    mesh.outbound.targets.borrow().contains_key(name)
}

#[tokio::test]
async fn names_without_end_leave_room_for_the_next_destination() {
    local(async {
        let mesh = Mesh::start(Between::H1).await;
        mesh.serve("payments", Mtls).await;
        call(&mesh, "called-long-ago.example");
        mesh.outbound.sweep();
        for number in 1..MANY {
            call(&mesh, &format!("{number}.example"));
        }
        assert!(is_known(&mesh, "called-long-ago.example"));
        assert_eq!(mesh.app.get("http://payments.bank/a").await.status, 200);
        assert!(!is_known(&mesh, "called-long-ago.example"), "the oldest goes first");
        assert!(mesh.outbound.targets.borrow().len() <= MANY);
    })
    .await;
}

#[tokio::test]
async fn a_worker_with_many_names_gives_way_to_others() {
    local(async {
        let mesh = Mesh::start(Between::H1).await;
        for number in 0..MANY {
            call(&mesh, &format!("{number}.example"));
        }
        assert!(mesh.outbound.lookups.cell("of-another-worker.example").is_err());
        until("a place", || mesh.outbound.lookups.cell("of-another-worker.example").is_ok()).await;
    })
    .await;
}
