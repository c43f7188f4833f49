//! How it is written into a folder, and how often.

use super::*;

#[tokio::test]
async fn a_restart_keeps_times_and_stale_files_go() {
    let dir = TempDir::new();
    let issuer = crate::issuer::names("https://127.0.0.1:1");
    let (acks, clock) = (Arc::new(Acks::default()), Clock::manual(NOW));
    let mut reporter = Reporter::new(
        Place::Folder(StatusFolder::new(dir.path())),
        &issuer,
        (acks.clone(), Arc::default(), nothing_revoked(), nothing_told()),
        clock.clone(),
    );
    let mut model = bank();
    add_client(&mut model, "shop", "shop", &[("payments", &[])]);
    let first = view(model);
    reporter.step(&first, &Desired::default()).unwrap();
    let read = |name: &str| std::fs::read_to_string(dir.path().join("status").join(name));
    let (policy, client) = ("FapiPolicy/bank/payments.yaml", "FapiClient/bank/shop.yaml");
    let before = read(policy).unwrap();
    assert!(before.contains("lastTransitionTime: \"2027-01-15T08:00:00Z\""), "{before}");
    assert_eq!(read("problems.yaml").unwrap().trim(), "[]");
    read(client).unwrap();

    clock.advance(Duration::from_secs(60));
    let mut reporter = Reporter::new(
        Place::Folder(StatusFolder::new(dir.path())),
        &issuer,
        (acks.clone(), Arc::default(), nothing_revoked(), nothing_told()),
        clock.clone(),
    );
    let now = view(bank());
    reporter.step(&now, &Desired::default()).unwrap();
    // All but since when it waits, which a new process cannot know.
    let times = |text: &str| text.matches("lastTransitionTime: \"2027-01-15T08:00:00Z\"").count();
    assert_eq!(times(&read(policy).unwrap()), times(&before));
    assert!(read(client).is_err(), "the object is gone");

    let uid = "uid-of-bank-payments-1";
    acks.record(uid, AckEvent::Connected { authority: None });
    acks.record(uid, AckEvent::Acked { version: now.snapshot(uid, &issuer).unwrap().version.clone() });
    reporter.step(&now, &Desired::default()).unwrap();
    assert!(read(policy).unwrap().contains("1 of 1 pods run"));
}

#[test]
fn what_is_the_same_is_not_written_again_and_what_is_removed_comes_back() {
    let dir = TempDir::new();
    let issuer = crate::issuer::names("https://127.0.0.1:1");
    let mut reporter = Reporter::new(
        Place::Folder(StatusFolder::new(dir.path())),
        &issuer,
        (Arc::default(), Arc::default(), nothing_revoked(), nothing_told()),
        Clock::manual(NOW),
    );
    let view = view(bank());
    reporter.step(&view, &Desired::default()).unwrap();
    let path = dir.path().join("status/FapiPolicy/bank/ledger.yaml");
    let inode = |path: &Path| std::os::unix::fs::MetadataExt::ino(&std::fs::metadata(path).unwrap());
    let before = inode(&path);
    reporter.step(&view, &Desired::default()).unwrap();
    assert_eq!(inode(&path), before);
    std::fs::remove_file(&path).unwrap();
    reporter.step(&view, &Desired::default()).unwrap();
    assert!(path.exists());
}

#[tokio::test]
async fn acknowledgements_alone_change_a_status_once_a_second() {
    let dir = TempDir::new();
    let issuer = crate::issuer::names("https://127.0.0.1:1");
    let acks = Arc::new(Acks::default());
    // It ends with whoever tells it.
    let (in_force, anchors) = (watch::Sender::new(Arc::new(InForce::new(1, Vec::new()))), watch::Sender::default());
    let reporter = Reporter::new(
        Place::Folder(StatusFolder::new(dir.path())),
        &issuer,
        (acks.clone(), Arc::default(), in_force.subscribe(), anchors.subscribe()),
        Clock::manual(NOW),
    );
    let (view, desired) = (watch::Sender::new(Arc::new(view(bank()))), watch::Sender::new(Arc::default()));
    let shutdown = watch::Sender::new(false);
    let uid = "uid-of-bank-payments-1";
    let version = view.borrow().snapshot(uid, &issuer).unwrap().version.clone();
    let running = tokio::spawn(reporter.run(view.subscribe(), desired.subscribe(), shutdown.subscribe()));
    acks.record(uid, AckEvent::Connected { authority: None });
    let path = dir.path().join("status/FapiPolicy/bank/payments.yaml");
    let begun = Instant::now();
    // The first of them may be known at the beginning, and one that follows is written at once.
    for accepts in [false, true, false, true] {
        let (version, reason) = (version.clone(), "no".to_owned());
        let (event, status) = match accepts {
            true => (AckEvent::Acked { version }, "programmed: 1"),
            false => (AckEvent::Nacked { version, reason }, "rejected: 1"),
        };
        acks.record(uid, event);
        let written = async {
            while !std::fs::read_to_string(&path).is_ok_and(|text| text.contains(status)) {
                sleep(Duration::from_millis(5)).await;
            }
        };
        tokio::time::timeout(SOON, written).await.unwrap();
    }
    assert!(begun.elapsed() >= 2 * ACKNOWLEDGED_EVERY);
    shutdown.send_replace(true);
    running.await.unwrap();
}
