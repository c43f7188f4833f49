//! How it is written into the objects of a cluster.

use super::*;

#[tokio::test]
async fn in_a_cluster_a_status_is_written_once_and_again_when_somebody_changes_it() {
    let cluster = crate::testing::cluster::Cluster::default();
    let path = "/apis/fapi-mesh.dev/v1alpha1/namespaces/bank/fapipolicies/payments";
    let ledger = path.replace("payments", "ledger");
    for path in [path, &ledger] {
        cluster.put(path, serde_json::json!({"metadata": {"name": "p", "namespace": "bank"}}));
    }
    let issuer = crate::issuer::names("https://127.0.0.1:1");
    let clock = Clock::manual(NOW);
    let objects = StatusObjects::new(cluster.client(), Leadership::alone());
    let mut reporter = Reporter::new(
        Place::Objects(objects),
        &issuer,
        (Arc::default(), Arc::default(), nothing_revoked(), nothing_told()),
        clock.clone(),
    );
    let view = view(bank());
    let mut desired = Desired::default();
    let mut writes = async |desired: &Desired| {
        reporter.step(&view, desired).unwrap();
        let Place::Objects(objects) = &mut reporter.place else { panic!("a folder") };
        assert!(!objects.write(&reporter.last, &desired.statuses).await);
        cluster.writes()
    };
    let both = vec![format!("PATCH {ledger}/status"), format!("PATCH {path}/status")];
    assert_eq!(writes(&desired).await, both);
    let status = cluster.object(path).unwrap()["status"].take();
    assert_eq!(status["ancestors"][0]["conditions"][0]["observedGeneration"], 1);
    assert_eq!(status["conditions"][0]["lastTransitionTime"], "2027-01-15T08:00:00Z");
    clock.advance(Duration::from_secs(60));
    assert_eq!(writes(&desired).await, Vec::<String>::new(), "before we hear of it");
    let id = |name: &str| ObjectId::new(Kind::FapiPolicy, Some("bank"), name).unwrap();
    for name in ["payments", "ledger"] {
        let stands = cluster.object(&path.replace("payments", name)).unwrap()["status"].take();
        desired.statuses.insert(id(name), Arc::new(stands));
    }
    assert_eq!(writes(&desired).await, Vec::<String>::new(), "and after");
    desired.statuses.insert(id("payments"), Arc::new(serde_json::json!({"conditions": [], "ancestors": []})));
    assert_eq!(writes(&desired).await, both[1..], "somebody has changed it");
    desired.statuses.insert(id("ledger"), Arc::new("x".into()));
    assert_eq!(writes(&desired).await, both[..1], "and made something of it that it cannot be");
}

#[test]
fn holes_in_a_policy_show_whether_anything_is_behind_them() {
    let mut model = bank();
    let spec = model.policies.get_mut(&Key::new("bank", "payments")).unwrap().spec.as_mut().unwrap();
    let hole =
        |port| fapi::WireExemption { port, paths: vec!["/metrics".to_owned()], sources: vec!["10.0.0.0/8".to_owned()] };
    spec.exempt = vec![hole(80), hole(9090)];
    let view = view(model);
    let mut bench = Bench::new();
    bench.report(&view, NOW);
    let shown: Vec<_> = bench.policy("payments").exempt.iter().map(|hole| (hole.port, hole.pods)).collect();
    assert_eq!(shown, [(80, 1), (9090, 0)]);
    assert_eq!(bench.policy("payments").exempt[0].sources, ["10.0.0.0/8"]);
    assert!(bench.policy("ledger").exempt.is_empty());
    let snapshot = view.snapshot("uid-of-bank-payments-1", &bench.issuer).unwrap();
    assert!(snapshot.required_features.contains(&control::features::EXEMPT));
}
