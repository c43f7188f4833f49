//! Of the FapiMesh.

use super::*;

#[tokio::test]
async fn the_roots_stand_in_the_status_of_the_mesh_and_are_written_when_something_of_them_changes() {
    let cluster = crate::testing::cluster::Cluster::default();
    let path = "/apis/fapi-mesh.dev/v1alpha1/fapimeshes/default";
    cluster.put(path, serde_json::json!({"metadata": {"name": "default"}}));
    let model = Model { mesh: Some(crate::testing::fapi_mesh(Default::default())), ..Model::default() };
    let (view, issuer) = (view(model), crate::issuer::names("https://127.0.0.1:1"));
    let told = watch::Sender::new(Arc::new(Anchors::default()));
    let objects = StatusObjects::new(cluster.client(), Leadership::alone());
    let books = (Arc::default(), Arc::default(), nothing_revoked(), told.subscribe());
    let mut reporter = Reporter::new(Place::Objects(objects), &issuer, books, Clock::manual(NOW));
    // As the API server keeps it, and as it comes back.
    let mut desired = Desired::default();
    let mut status = async || {
        reporter.step(&view, &desired).unwrap();
        let Place::Objects(objects) = &mut reporter.place else { panic!("a folder") };
        assert!(!objects.write(&reporter.last, &desired.statuses).await);
        let stands = cluster.object(path).unwrap()["status"].take();
        desired.statuses.insert(ObjectId::new(Kind::FapiMesh, None, "default").unwrap(), Arc::new(stands.clone()));
        (cluster.writes().len(), stands["trustAnchors"].clone())
    };
    let anchor = |fingerprint: &str, not_after, phase| Anchor { fingerprint: fingerprint.repeat(43), not_after, phase };
    let progress = |followed: usize| Progress {
        name: "spring".to_owned(),
        step: Step::Tainted,
        since: "2027-01-15T08:00:00Z".to_owned(),
        sidecars: 9,
        followed,
        oldest: (followed < 9).then(|| Oldest {
            pod: "bank/shop-1".to_owned(),
            since: k8s_openapi::apimachinery::pkg::apis::meta::v1::Time(timestamp(NOW)),
            why: "w".repeat(2000),
        }),
        waits_for: None,
        refused: None,
    };
    let mut anchors = Anchors { all: vec![anchor("a", Some(NOW), AnchorPhase::Active)], ..Anchors::default() };
    told.send_replace(Arc::new(anchors.clone()));
    let first =
        serde_json::json!({"fingerprint": "a".repeat(43), "notAfter": "2027-01-15T08:00:00Z", "phase": "Active"});
    assert_eq!(status().await, (1, serde_json::json!([first.clone()])));
    assert_eq!(status().await.0, 0);

    anchors.all[0].phase = AnchorPhase::Tainted;
    anchors.all.push(anchor("b", Some(NOW), AnchorPhase::Active));
    anchors.progress = Some(progress(7));
    told.send_replace(Arc::new(anchors.clone()));
    let (writes, stands) = status().await;
    assert_eq!((writes, stands[1].get("acknowledgements")), (1, None), "{stands}");
    let acknowledgements = &stands[0]["acknowledgements"];
    assert_eq!((&acknowledgements["pods"], &acknowledgements["acknowledged"]), (&9.into(), &7.into()));
    let oldest = &acknowledgements["oldest"];
    assert_eq!((&oldest["pod"], &oldest["since"]), (&"bank/shop-1".into(), &"2027-01-15T08:00:00Z".into()));
    assert_eq!(oldest["message"].as_str().unwrap().chars().count(), 1024, "as much as the schema takes");
    assert_eq!(status().await.0, 0);

    anchors.all[0] = anchor("a", None, AnchorPhase::Removed);
    anchors.progress = Some(Progress { step: Step::Removed, ..progress(9) });
    told.send_replace(Arc::new(anchors.clone()));
    let removed = serde_json::json!({
        "fingerprint": "a".repeat(43), "phase": "Removed", "acknowledgements": {"pods": 9, "acknowledged": 9},
    });
    assert_eq!(status().await.1[0], removed);

    // That it is lost is said first, and in whole.
    anchors.lost = Some("restore it from a backup".into());
    told.send_replace(Arc::new(anchors.clone()));
    status().await;
    let ready = cluster.object(path).unwrap()["status"]["conditions"][0].clone();
    assert_eq!((&ready["status"], &ready["reason"]), (&"False".into(), &"CAUnavailable".into()));
    assert_eq!(ready["message"], "no pod gets a certificate: restore it from a backup");
    anchors.lost = None;
    told.send_replace(Arc::new(anchors));
    status().await;
    assert_eq!(cluster.object(path).unwrap()["status"]["conditions"][0]["status"], "True");
}
