//! Addresses that pods of the mesh have left.

use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use control::DestinationKind;
use tokio::sync::{mpsc, watch};
use tokio::task::JoinSet;
use tokio::time::{Instant, timeout};

use super::super::left::Memory;
use super::super::objects::{Change, News};
use super::super::watched::Watched;
use super::super::{Cluster, Desired};
use super::world::{READY, World, bare, pod, service, slice};
use crate::behind::Behind;
use crate::model::Key;
use crate::testing::{api, domain};

const TWO_MINUTES: Duration = Duration::from_secs(120);

fn address(text: &str) -> IpAddr {
    text.parse().unwrap()
}

fn left(memory: &mut Memory, now: Instant) -> Vec<String> {
    memory.look(now).iter().map(ToString::to_string).collect()
}

#[test]
fn what_pods_of_the_mesh_had_is_remembered_for_two_minutes() {
    let mut world =
        World::of(&[pod("a", "a", "10.0.0.1"), pod("b", "b", "10.0.0.2"), bare("c", "c", "10.0.0.3")].join("---\n"));
    let (mut memory, start) = (Memory::default(), Instant::now());
    let mut step = |memory: &mut Memory, now: Instant, change: &dyn Fn(&mut World)| {
        let before = world.model();
        change(&mut world);
        memory.note(&before, &world.model(), now);
    };
    step(&mut memory, start, &|world| world.put(&pod("a", "a", "10.0.0.1").replace("app: a", "app: other")));
    assert_eq!((left(&mut memory, start), memory.next()), (vec![], None), "it is still there");
    step(&mut memory, start, &|world| world.remove(Watched::Pod, "bank", "c"));
    assert_eq!(left(&mut memory, start), [""; 0], "it was never of the mesh");
    step(&mut memory, start, &|world| world.put(&pod("a", "a", "10.0.0.1").replace("Running", "Succeeded")));
    let later = start + Duration::from_secs(60);
    step(&mut memory, later, &|world| world.put(&pod("b", "b", "10.0.0.9")));
    assert_eq!(left(&mut memory, later), ["10.0.0.1", "10.0.0.2"]);
    assert_eq!(memory.next(), Some(start + TWO_MINUTES));
    assert_eq!(left(&mut memory, start + TWO_MINUTES), ["10.0.0.2"]);
    // Somebody gets it and leaves it again.
    step(&mut memory, later, &|world| world.put(&pod("d", "d", "10.0.0.2")));
    step(&mut memory, later + Duration::from_secs(30), &|world| world.remove(Watched::Pod, "bank", "d"));
    assert_eq!(left(&mut memory, later + TWO_MINUTES), ["10.0.0.2"]);
    assert_eq!(left(&mut memory, later + Duration::from_secs(150)), [""; 0]);
}

#[test]
fn no_more_is_remembered_than_there_is_room_for() {
    let mut memory = Memory::default();
    let now = Instant::now();
    let pods = (0..4200).map(|n| pod(&format!("p{n}"), "a", &format!("10.1.{}.{}", n / 250, n % 250)));
    let before = World::of(&pods.collect::<Vec<_>>().join("---\n")).model();
    let first = World::of(&pod("first", "a", "10.0.0.1")).model();
    let nobody = World::new().model();
    memory.note(&first, &nobody, now);
    assert_eq!(left(&mut memory, now), ["10.0.0.1"]);
    memory.note(&before, &nobody, now);
    let kept = memory.look(now);
    assert_eq!((kept.len(), kept.contains(&address("10.0.0.1"))), (4096, false));
}

#[test]
fn whoever_has_such_an_address_next_is_not_called_in_plaintext() {
    let mut world = World::of(
        &[
            pod("shop-1", "shop", "10.0.0.5"),
            pod("payments-1", "payments", "10.0.0.7"),
            bare("old-1", "old", "10.0.0.9"),
            service("payments", "payments", "10.96.0.7"),
            slice("payments", "payments-1", "10.0.0.7", READY),
        ]
        .join("---\n"),
    );
    let now = world.view();
    let soon = now
        .next(2, world.model())
        .remembering(Arc::new(["10.0.0.7", "10.0.0.8", "10.0.0.9"].map(address).into_iter().collect()));
    for at in ["10.0.0.8:8080", "10.0.0.9:8080"] {
        let kind = |view: &crate::view::View| view.destination("uid-of-shop-1", at).kind;
        assert_eq!(kind(&soon), DestinationKind::Unknown, "{at}");
        assert_eq!(kind(&now), DestinationKind::Unmeshed { addresses: vec![at.parse().unwrap()] }, "{at}");
    }
    let at = "10.0.0.7:8080";
    assert!(matches!(now.destination("uid-of-shop-1", at).kind, DestinationKind::Meshed(_)));
    assert_eq!(soon.destination("uid-of-shop-1", at), now.destination("uid-of-shop-1", at), "a pod of the mesh");
    // Later views remember it too, until they are told otherwise.
    assert!(soon.next(3, world.model()).index().was_left(address("10.0.0.8")));
}

/// A cluster that is told of by `news` alone.
fn cluster(mut world: World, left: Memory, news: mpsc::Receiver<News>) -> Cluster {
    let desired = world.objects.desired();
    Cluster {
        objects: world.objects,
        news,
        desired,
        left,
        trust_domain: domain(),
        client: api::client(|_| api::failure(404)),
        behind: Behind::default(),
        _watches: JoinSet::new(),
    }
}

#[tokio::test]
async fn a_pod_that_goes_is_remembered_and_forgotten_without_any_news() {
    let world = || World::of(&pod("a", "a", "10.0.0.1"));
    let long_ago = Instant::now() - TWO_MINUTES;
    let mut over = Memory::default();
    over.note(&world().model(), &World::new().model(), long_ago);
    for (memory, gone, expected) in [(Memory::default(), true, Some(address("10.0.0.1"))), (over, false, None)] {
        let (tell, news) = mpsc::channel(1);
        let (_end, shutdown) = watch::channel(false);
        let before = Desired { left: Arc::new([address("10.0.0.200")].into()), ..Desired::default() };
        let (desired, mut told) = watch::channel(Arc::new(before));
        let running = tokio::spawn(cluster(world(), memory, news).run(desired, shutdown));
        if gone {
            let change = Change::Gone(Key::new("bank", "a"));
            tell.send(News { watched: Watched::Pod, change, version: 1000 }).await.unwrap();
        }
        timeout(Duration::from_secs(20), told.changed()).await.unwrap().unwrap();
        assert_eq!(told.borrow().left.iter().copied().next(), expected);
        running.abort();
    }
}
