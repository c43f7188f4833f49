#![allow(clippy::unwrap_used, reason = "a failed step fails the test")]

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::time::Duration;

use crds::mesh::AnchorPhase;

use super::judge::{LONGEST_CERTIFICATE, Outdated, Pace};
use super::*;
use crate::acks::{AckEvent, Reported};
use crate::kubernetes::Desk;
use crate::model::Model;
use crate::pki::{FINGERPRINT, PublicKey};
use crate::shelf::Shelf;
use crate::source::Bundle;
use crate::testing::bank::{bank, view};
use crate::testing::cluster::Cluster;
use crate::testing::{NOW, P256, TempDir, authority, domain, greedy_csr};

const STEPS: [Step; 4] = [Step::Prepared, Step::Active, Step::Tainted, Step::Removed];
const AT_ONCE: Pace = Pace { prepared: Duration::ZERO, other: Duration::ZERO, unused: Duration::ZERO };

fn heard(trusts: bool, renewed: bool) -> Heard {
    Heard { connected: true, trusts, renewed, refused: None }
}

fn facts(all: &[Heard], now: UnixTime) -> Facts {
    let one = |(at, heard): (usize, &Heard)| {
        let sidecar = Sidecar { name: format!("bank/pod-{at}"), heard: heard.clone(), since: NOW };
        (at.to_string(), sidecar)
    };
    Facts { sidecars: all.iter().enumerate().map(one).collect(), outdated: Vec::new(), started: Some(NOW), now }
}

fn judged(step: Step, all: &[Heard]) -> Judgement {
    judge(&Rotation::sample(step, NOW), &facts(all, NOW), &AT_ONCE)
}

#[test]
fn no_step_is_taken_before_every_sidecar_has_done_what_it_asks_for() {
    let (deaf, trusting, renewed) = (heard(false, false), heard(true, false), heard(true, true));
    let silent = Heard::default();
    let with_other_roots = heard(false, true);
    for step in STEPS {
        for (all, follows) in [
            (&[][..], step != Step::Removed),
            (&[trusting.clone(), renewed.clone()], step < Step::Tainted),
            (&[renewed.clone(), renewed.clone()], step != Step::Removed),
            (&[renewed.clone(), deaf.clone()], false),
            (&[renewed.clone(), with_other_roots.clone()], false),
            (&[renewed.clone(), silent.clone()], false),
        ] {
            assert_eq!(judged(step, all).is_due, follows, "{step:?} {all:?}");
        }
    }
}

#[test]
fn whoever_says_nothing_is_waited_for_as_long_as_it_may_have_a_certificate() {
    let rotation = Rotation::sample(Step::Tainted, NOW);
    let end = NOW.plus(LONGEST_CERTIFICATE.as_secs());
    let at = |now, started| judge(&rotation, &Facts { started, ..facts(&[Heard::default()], now) }, &AT_ONCE);
    assert!(!at(end.minus(1), Some(NOW)).is_due);
    assert!(at(end, Some(NOW)).is_due && at(end, Some(NOW)).sidecars == 0);
    assert!(!at(end, Some(NOW.plus(1))).is_due, "this process has not listened for so long");
    assert!(!at(end.plus(end.as_secs()), None).is_due, "it may speak to an operator that does not report");
    // One that has a stream is waited for, however long.
    let lives = facts(&[heard(true, false)], end.plus(1));
    assert!(!judge(&rotation, &lives, &AT_ONCE).is_due);
}

#[test]
fn a_step_lasts_long_enough_for_those_who_do_not_say_that_they_have_heard() {
    let pace = Pace { prepared: Duration::from_secs(120), other: Duration::from_secs(30), ..AT_ONCE };
    for (step, least) in [(Step::Prepared, 120), (Step::Active, 30), (Step::Tainted, 30)] {
        let at = |now| judge(&Rotation::sample(step, NOW), &facts(&[heard(true, true)], now), &pace);
        assert!(!at(NOW.plus(least - 1)).is_due && at(NOW.plus(least)).is_due, "{step:?}");
        assert!(at(NOW).waits_for().unwrap().ends_with("at the earliest"));
    }
}

#[test]
fn namespaces_with_other_roots_are_waited_for() {
    for step in STEPS {
        let outdated = (1..=7).map(|number| Outdated { namespace: format!("n{number}"), in_use: true }).collect();
        let judgement = judge(&Rotation::sample(step, NOW), &Facts { outdated, ..facts(&[], NOW) }, &AT_ONCE);
        assert!(!judgement.is_due);
        assert_eq!(judgement.waits_for().unwrap(), "the trust bundles of 7 namespaces: n1, n2, n3, n4, n5, ...");
    }
}

#[test]
fn a_namespace_that_does_not_take_the_roots_is_waited_for_for_ever_only_if_it_has_a_sidecar() {
    let pace = Pace { unused: Duration::from_secs(3600), ..AT_ONCE };
    for step in [Step::Prepared, Step::Active, Step::Tainted] {
        let at = |now, in_use| {
            let outdated = vec![Outdated { namespace: "bank".to_owned(), in_use }];
            judge(&Rotation::sample(step, NOW), &Facts { outdated, ..facts(&[], now) }, &pace)
        };
        assert!(!at(NOW.plus(3599), false).is_due && !at(NOW.plus(3599), true).is_due);
        assert!(!at(NOW.plus(1_000_000_000), true).is_due, "whoever starts there would be cut off");
        let judgement = at(NOW.plus(3600), false);
        assert!(judgement.is_due && judgement.waits_for().is_none());
        assert_eq!(judgement.left_behind, ["bank"], "but it is told");
    }
}

#[test]
fn people_are_told_how_many_are_waited_for_and_who_for_longest() {
    let refusing = Heard { refused: Some("no room".to_owned()), ..heard(false, false) };
    let mut facts = facts(&[heard(false, false), refusing, heard(true, true)], NOW);
    facts.sidecars.get_mut("1").unwrap().since = NOW.minus(60);
    let judgement = judge(&Rotation::sample(Step::Prepared, NOW), &facts, &AT_ONCE);
    let told = "2 of 3 sidecars, oldest since 2027-01-15T07:59:00Z: bank/pod-1: it refuses the roots: no room";
    assert_eq!(judgement.waits_for().as_deref(), Some(told));
    assert_eq!(judgement.waiting.iter().map(|waits| &*waits.uid).collect::<Vec<_>>(), ["1", "0"]);
    assert_eq!(judged(Step::Prepared, &[heard(true, false)]).waits_for(), None);
}

/// What is revoked, from now on.
fn revoked(entries: Vec<fapi::Revocation>) -> watch::Receiver<Arc<InForce>> {
    watch::Sender::new(Arc::new(InForce::new(1, entries))).subscribe()
}

/// A sidecar opens a stream, with a certificate of this authority.
fn connect(acks: &Acks, uid: &str, authority: &[u8]) {
    acks.record(uid, AckEvent::Connected { authority: Some(authority.to_vec()) });
}

/// An operator of a folder, and the sidecars of its bank.
struct World {
    dir: TempDir,
    clock: Clock,
    rotator: Rotator,
    /// The key that signed the certificates of the sidecars.
    certified_by: Vec<u8>,
}

impl World {
    fn new() -> Self {
        let (dir, clock) = (TempDir::new(), Clock::manual(NOW));
        let rotator = Self::rotator(&dir, &clock);
        let certified_by = rotator.authority.roots().borrow().signer.clone();
        Self { dir, clock, rotator, certified_by }
    }

    fn rotator(dir: &TempDir, clock: &Clock) -> Rotator {
        let authority = Arc::new(authority(dir.path(), &domain(), NOW).unwrap());
        Rotator::new(
            authority,
            Place::folder(dir.path().to_owned()),
            Arc::default(),
            revoked(Vec::new()),
            clock.clone(),
        )
    }

    /// The process dies and another begins.
    fn restart(&mut self) {
        self.rotator = Self::rotator(&self.dir, &self.clock);
    }

    fn ask(&self, name: &str) {
        fs::write(self.dir.path().join(REQUEST), format!("{name}\n")).unwrap();
    }

    fn lead(&mut self, led: bool) {
        self.rotator.lead(led, &view(bank()), &Desired::default()).unwrap();
    }

    fn step(&self) -> Step {
        self.rotator.authority.rotation().unwrap().step
    }

    /// The phases of the roots as they are told, and the one that is followed, by how many of how many.
    fn told(&self) -> (Vec<AnchorPhase>, Option<(usize, usize, usize)>) {
        let told = self.rotator.anchors().borrow().clone();
        let followed = told.followed().map(|(at, progress)| (at, progress.followed, progress.sidecars));
        (told.all.iter().map(|anchor| anchor.phase).collect(), followed)
    }

    fn progress(&self) -> Progress {
        serde_json::from_slice(&fs::read(self.dir.path().join("status").join(PROGRESS)).unwrap()).unwrap()
    }

    /// These sidecars come, and do what they are told.
    fn connect(&mut self, pods: &[&str]) {
        let roots = self.rotator.authority.roots().borrow().clone();
        if roots.replace {
            self.certified_by.clone_from(&roots.signer);
        }
        for pod in pods {
            let uid = format!("uid-of-{}", pod.replace('/', "-"));
            connect(&self.rotator.acks, &uid, &self.certified_by);
            self.rotator.acks.record(&uid, AckEvent::Trusted { bundle: roots.digest.clone() });
        }
    }
}

const PHASES: [[AnchorPhase; 2]; 4] = [
    [AnchorPhase::Active, AnchorPhase::Prepared],
    [AnchorPhase::Active, AnchorPhase::Active],
    [AnchorPhase::Tainted, AnchorPhase::Active],
    [AnchorPhase::Removed, AnchorPhase::Active],
];

const ALL: [&str; 4] = ["bank/shop-1", "bank/payments-1", "bank/ledger-1", "web/web-1"];

#[test]
fn a_rotation_goes_through_its_steps_also_when_the_operator_dies_before_each() {
    let mut world = World::new();
    world.lead(false);
    assert_eq!(world.rotator.authority.rotation(), None, "nobody has asked");
    world.ask("first");
    for (at, step) in STEPS.into_iter().enumerate() {
        if at > 0 {
            world.connect(&ALL[..3]);
            world.lead(true);
            assert_eq!(world.step(), STEPS[at - 1], "one has not followed");
            let oldest = world.progress().oldest.unwrap();
            assert_eq!((&*oldest.pod, &*oldest.why), ("web/web-1", "it has no control stream"));
            assert_eq!((world.progress().sidecars, world.progress().followed), (4, 3));
            world.restart();
            world.lead(false);
            assert_eq!(world.step(), STEPS[at - 1], "nobody has come back yet");
            world.connect(&ALL);
        }
        world.lead(at > 0);
        assert_eq!((world.step(), world.progress().step), (step, step));
        let (phases, followed) = world.told();
        assert_eq!(phases, PHASES[at]);
        assert_eq!(followed.unwrap().0, usize::from(step < Step::Tainted), "the root that this step is about");
        assert!(!world.dir.path().join(REQUEST).exists(), "it is taken once");
        world.restart();
        assert_eq!(world.step(), step);
    }
    assert!(!world.dir.path().join("pki/root.key").exists());
    world.connect(&ALL);
    world.lead(false);
    let Progress { name, followed, oldest, waits_for, .. } = world.progress();
    assert_eq!((&*name, followed, oldest, waits_for), ("first", 4, None, None));
    assert_eq!(world.told(), (PHASES[3].to_vec(), Some((0, 4, 4))));
    // Later nobody is told who runs what.
    let mut told = world.rotator.anchors();
    told.mark_unchanged();
    world.lead(true);
    assert!(!told.has_changed().unwrap(), "nothing is told twice");
    world.clock.advance(Duration::from_secs(EPILOGUE + 1));
    world.lead(true);
    assert_eq!(world.told(), (PHASES[3].to_vec(), None));
    world.restart();
    assert_eq!(world.told(), (PHASES[3].to_vec(), None));
}

#[test]
fn a_pod_that_is_revoked_for_good_is_not_waited_for() {
    let mut world = World::new();
    world.ask("first");
    world.lead(false);
    world.connect(&ALL[..3]);
    world.lead(true);
    assert_eq!((world.step(), world.progress().sidecars), (Step::Prepared, 4));
    let of_pod = |expires| {
        let pod = fapi::Revoked::Pod("uid-of-web-web-1".into());
        revoked(vec![fapi::Revocation::new(pod, None, expires).unwrap()])
    };
    for seconds in [0, 60] {
        world.rotator.revocations = of_pod(world.clock.now().plus(seconds));
        world.lead(true);
        assert_eq!(world.step(), Step::Prepared, "it may come back by the certificate that it has");
    }
    world.rotator.revocations = of_pod(world.clock.now().plus(LONGEST_CERTIFICATE.as_secs() + 60));
    world.lead(true);
    assert_eq!((world.step(), world.progress().sidecars), (Step::Active, 3));
}

#[test]
fn scrapers_are_told_the_phases_of_roots_and_how_long_a_step_has_lasted() {
    let mut world = World::new();
    let scrape = |world: &World| {
        let (mut registry, mut text) = (prometheus_client::registry::Registry::default(), String::new());
        world.rotator.anchors().borrow().register(&mut registry, world.clock.now());
        prometheus_client::encoding::text::encode(&mut text, &registry).unwrap();
        text
    };
    let text = scrape(&world);
    assert!(text.contains("fapi_operator_roots{phase=\"Active\"} 1\n"), "{text}");
    assert!(text.contains("fapi_operator_roots{phase=\"Prepared\"} 0\n"), "{text}");
    assert!(!text.contains("fapi_operator_rotation_step_seconds"), "no rotation runs: {text}");
    world.ask("first");
    world.lead(false);
    world.clock.advance(Duration::from_secs(90));
    let text = scrape(&world);
    for line in [
        "fapi_operator_roots{phase=\"Active\"} 1",
        "fapi_operator_roots{phase=\"Prepared\"} 1",
        "fapi_operator_roots{phase=\"Removed\"} 0",
        "fapi_operator_rotation_step_seconds{step=\"Prepared\"} 90",
    ] {
        assert!(text.contains(&format!("{line}\n")), "{line}: {text}");
    }
}

#[test]
fn what_is_asked_again_or_in_vain_is_told_and_begins_nothing() {
    let mut world = World::new();
    world.ask("No name");
    world.lead(false);
    assert_eq!(world.rotator.authority.rotation(), None);
    world.ask("first");
    world.lead(true);
    let began = world.rotator.authority.rotation();
    for (name, refused) in [("first", false), ("second", true), ("first", false)] {
        world.ask(name);
        world.lead(true);
        assert_eq!(world.rotator.authority.rotation(), began);
        assert_eq!(world.progress().refused.is_some(), refused, "{name}");
        assert!(!world.dir.path().join(REQUEST).exists());
    }
}

#[test]
fn a_rotation_that_was_cut_short_at_its_beginning_goes_on() {
    let mut world = World::new();
    world.ask("first");
    // The new root cannot be made: there is a folder in its place.
    fs::create_dir(world.dir.path().join("pki/root-2.key")).unwrap();
    let outcome = world.rotator.lead(false, &view(bank()), &Desired::default());
    assert!(outcome.is_err());
    fs::remove_dir(world.dir.path().join("pki/root-2.key")).unwrap();
    world.restart();
    assert_eq!(world.step(), Step::Begun);
    world.lead(false);
    assert_eq!(world.step(), Step::Prepared);
}

#[test]
fn the_file_of_roots_is_kept_right_while_sidecars_may_need_it() {
    let mut world = World::new();
    world.ask("first");
    world.lead(false);
    let file = world.dir.path().join("trust-bundle.pem");
    fs::write(&file, "forged").unwrap();
    world.lead(true);
    assert_eq!(fs::read_to_string(file).unwrap(), *world.rotator.authority.bundle_pem());
}

/// An operator of a cluster.
async fn replica(cluster: &Cluster, clock: &Clock) -> Rotator {
    let cluster = cluster.clone();
    let desk = Desk::open("fapi-mesh", move || async move { Ok(cluster.client()) }).await.unwrap();
    let secret = crate::kubernetes::Secret::new(
        desk.clone(),
        crate::kubernetes::secret::AUTHORITY,
        crate::kubernetes::Loss::KnownBy(FINGERPRINT),
    );
    let authority = Authority::open(Shelf::Secret(secret), None, &domain(), NOW).unwrap();
    Rotator::new(Arc::new(authority), Place::cluster(desk), Arc::default(), revoked(Vec::new()), clock.clone())
}

/// A bank on a machine, with a pod that has none yet.
fn placed() -> Model {
    let mut model = bank();
    for pod in model.pods.values_mut().filter(|pod| pod.name != "web-1") {
        pod.node = Some("node".to_owned());
    }
    model
}

/// What the stream of an operator to the leader brings.
fn report(from: &Rotator, to: &Reported) {
    from.acks.own().into_iter().for_each(|(uid, acks)| assert!(to.put(&uid, acks)));
}

#[tokio::test]
async fn the_leader_hears_of_sidecars_of_others_and_the_others_follow() {
    let (cluster, clock) = (Cluster::default(), Clock::manual(NOW));
    let (mut leader, mut other) = (replica(&cluster, &clock).await, replica(&cluster, &clock).await);
    let view = view(placed());
    let desired = |leader: &Rotator| Desired {
        opted_in: BTreeSet::from(["bank".into()]),
        bundles: BTreeMap::from([("bank".into(), Bundle { roots: leader.authority.bundle_pem(), immutable: false })]),
        ..Desired::default()
    };
    let state = "/api/v1/namespaces/fapi-mesh/configmaps/fapi-mesh-state";
    let mut map = cluster.object(state).unwrap();
    map["data"][REQUEST] = "first".into();
    cluster.put(state, map);
    let signer = leader.authority.roots().borrow().signer.clone();
    leader.lead(false, &view, &desired(&leader)).unwrap();
    let progress = || -> Progress {
        let text = cluster.object(state).unwrap()["data"][PROGRESS].as_str().unwrap().to_owned();
        serde_json::from_str(&text).unwrap()
    };
    assert_eq!((progress().step, progress().sidecars), (Step::Prepared, 3));
    assert_eq!(cluster.object(state).unwrap()["data"].get(REQUEST), None);

    // Two sidecars are connected to the leader, one to the other operator.
    let pods = ["uid-of-bank-shop-1", "uid-of-bank-payments-1", "uid-of-bank-ledger-1"];
    for (rotator, pod) in [(&leader, pods[0]), (&leader, pods[1]), (&other, pods[2])] {
        connect(&rotator.acks, pod, &signer);
    }
    let acknowledge = |pods: &[&str], rotator: &Rotator| {
        let bundle = rotator.authority.roots().borrow().digest.clone();
        pods.iter().for_each(|pod| rotator.acks.record(pod, AckEvent::Trusted { bundle: bundle.clone() }));
    };
    acknowledge(&pods[..2], &leader);
    clock.advance(Duration::from_secs(120));
    let waits_for = |leader: &mut Rotator| {
        leader.lead(true, &view, &desired(leader)).unwrap();
        progress().oldest.map(|oldest| (oldest.pod, oldest.why))
    };
    let ledger = |why: &str| Some(("bank/ledger-1".to_owned(), why.to_owned()));
    assert_eq!(waits_for(&mut leader), ledger("it has no control stream"), "nobody has reported one");
    cluster.writes();
    other.follow().unwrap();
    assert_eq!(cluster.writes(), Vec::<String>::new(), "whoever follows writes nothing");
    assert_eq!(other.authority.rotation(), leader.authority.rotation());
    let reported = leader.acks.open();
    report(&other, &reported);
    assert_eq!(waits_for(&mut leader), ledger("it has not acknowledged the roots"));
    acknowledge(&pods[2..], &other);
    assert_eq!(waits_for(&mut leader), ledger("it has not acknowledged the roots"), "that is not reported yet");
    // Roots that have not come to a namespace yet hold it up.
    report(&other, &reported);
    leader.lead(true, &view, &Desired { bundles: BTreeMap::new(), ..desired(&leader) }).unwrap();
    assert!(progress().waits_for.unwrap().contains("trust bundles of 1 namespaces: bank"));
    // What the other one has reported is not so any more when it reports no more, however long that lasts.
    drop(reported);
    clock.advance(LONGEST_CERTIFICATE * 2);
    assert_eq!(waits_for(&mut leader), ledger("it has no control stream"));
    assert_eq!(progress().step, Step::Prepared);
    let reported = leader.acks.open();
    report(&other, &reported);
    leader.lead(true, &view, &desired(&leader)).unwrap();
    assert_eq!(progress().step, Step::Active);

    // The leader dies; the other one leads, with all sidecars, and goes on to the end.
    drop((leader, reported));
    other.authority.follow(NOW).unwrap();
    let signer = other.authority.roots().borrow().signer.clone();
    pods.iter().for_each(|pod| connect(&other.acks, pod, &signer));
    for step in [Step::Tainted, Step::Removed] {
        acknowledge(&pods, &other);
        other.lead(step == Step::Removed, &view, &desired(&other)).unwrap();
        clock.advance(Duration::from_secs(30));
        other.lead(true, &view, &desired(&other)).unwrap();
        assert_eq!(progress().step, step);
    }
    let secret = cluster.object("/api/v1/namespaces/fapi-mesh/secrets/fapi-mesh-ca").unwrap();
    let names: Vec<&str> = secret["data"].as_object().unwrap().keys().map(String::as_str).collect();
    assert_eq!(names, ["fingerprint", "issuing-2.key", "issuing-2.pem", "root-2.key", "root-2.pem", "rotation.json"]);
    // Nothing is left but what people are told.
    clock.advance(Duration::from_secs(EPILOGUE + 1));
    other.lead(true, &view, &desired(&other)).unwrap();
    let state = cluster.object(state).unwrap();
    let left: Vec<&String> = state["data"].as_object().unwrap().keys().collect();
    assert_eq!(left, ["fapi-mesh-ca", "rotation.json"]);
    // And a later start finds its Secret.
    let later = replica(&cluster, &clock).await;
    assert_eq!(later.authority.bundle_pem(), other.authority.bundle_pem());
}

#[tokio::test]
async fn while_the_authority_is_lost_no_pod_gets_a_certificate_and_everybody_is_told_why() {
    let (cluster, other, clock) = (Cluster::default(), Cluster::default(), Clock::manual(NOW));
    let (mut leader, mut follower) = (replica(&cluster, &clock).await, replica(&cluster, &clock).await);
    drop(replica(&other, &clock).await);
    let (view, desired) = (view(placed()), Desired::default());
    let path = "/api/v1/namespaces/fapi-mesh/secrets/fapi-mesh-ca";
    let (own, foreign) = (cluster.object(path).unwrap(), other.object(path).unwrap());
    let id = crate::testing::id("shop");
    let (log, guard) = crate::testing::capture_log();
    let mut look = |kept: bool, known: bool| {
        let mut told = Vec::new();
        for (rotator, leads) in [(&mut leader, true), (&mut follower, false)] {
            let anchors = rotator.anchors();
            assert_eq!(rotator.step((leads, false), &view, &desired).is_ok(), kept && known, "{leads}");
            let csr = greedy_csr(TempDir::new().path(), P256);
            let key = PublicKey::from_csr(&csr).unwrap();
            let issued = rotator.authority.issue_pod(&id, "uid", &key, Duration::from_secs(60), NOW);
            assert_eq!(issued.is_ok(), kept, "{leads}");
            told.push(anchors.borrow().lost.as_deref().map(str::to_owned));
            let refused = issued.err().map(|error| error.to_string());
            assert_eq!(told.last().unwrap(), &refused, "in the same words");
        }
        told.dedup();
        assert_eq!(told.len(), 1, "all say the same: {told:?}");
        told.pop().unwrap()
    };
    assert_eq!(look(true, true), None);
    cluster.answers(false);
    assert_eq!(look(true, false), None, "whether it is lost nobody knows");
    cluster.answers(true);
    cluster.remove(path);
    for _ in 0..2 {
        let lost = look(false, true).unwrap();
        for part in ["Secret fapi-mesh/fapi-mesh-ca", "backup", "ConfigMap fapi-mesh/fapi-mesh-state"] {
            assert!(lost.contains(part), "{lost}");
        }
    }
    cluster.answers(false);
    assert!(look(false, false).is_some(), "nobody knows that it is back");
    cluster.answers(true);
    // Another authority, whole in itself.
    cluster.put(path, foreign);
    assert!(look(false, true).unwrap().contains("another"));
    cluster.put(path, own);
    assert_eq!(look(true, true), None);
    drop(guard);
    let lines = log.of("pki");
    let said = |part: &str| lines.iter().filter(|line| line.to_string().contains(part)).count();
    assert_eq!((said("the authority is lost"), said("the authority was put back")), (2, 2), "once by each");
}
