#![allow(clippy::unwrap_used, reason = "a failed step fails the test")]

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::sync::Arc;

use super::*;
use crate::testing::{NOW, TempDir};

const NAME: &str = "used.json";
const ROOM: Room = Room { all: 8, per_group: 6, per_owner: 4, group };

/// `a` of `a/b`.
fn group(owner: &str) -> &str {
    owner.split('/').next().unwrap()
}

fn folder(dir: &TempDir) -> Folder {
    Folder::open(Shelf::Folder(dir.path().join("issuer")), "restore it", |folder| Remembered::create(folder, NAME))
        .unwrap()
}

fn open(dir: &TempDir) -> Result<Arc<Remembered>, StateError> {
    Remembered::open(&folder(dir), NAME, ROOM)
}

#[tokio::test]
async fn an_id_is_new_once_also_after_a_restart() {
    let dir = TempDir::new();
    let until = NOW.plus(300);
    let first = open(&dir).unwrap();
    assert!(first.remember("shop", "one", until, NOW).await.unwrap());
    assert!(!first.remember("shop", "one", until, NOW).await.unwrap());
    assert!(first.remember("ledger", "one", until, NOW).await.unwrap(), "ids of others do not count");

    let second = open(&dir).unwrap();
    assert!(!second.remember("shop", "one", until, NOW.plus(299)).await.unwrap());
    assert!(second.knows("shop", "one", NOW) && !second.knows("shop", "two", NOW));
    assert!(!second.knows("shop", "one", until));
    assert!(second.remember("shop", "one", until.plus(300), until).await.unwrap(), "its time is over");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn of_many_at_once_one_is_first_and_all_are_on_disk() {
    let dir = TempDir::new();
    let room = Room { all: 1000, per_group: 1000, per_owner: 1000, group };
    let set = Remembered::open(&folder(&dir), NAME, room).unwrap();
    let mut tries = tokio::task::JoinSet::new();
    for number in 0..200 {
        let set = set.clone();
        let id = format!("id-{}", number / 2);
        tries.spawn(async move { set.remember("shop", &id, NOW.plus(300), NOW).await.unwrap() });
    }
    let mut new = 0;
    while let Some(first) = tries.join_next().await {
        new += usize::from(first.unwrap());
    }
    assert_eq!(new, 100);
    let again = Remembered::open(&folder(&dir), NAME, room).unwrap();
    assert!((0..100).all(|number| again.knows("shop", &format!("id-{number}"), NOW)));
}

#[tokio::test]
async fn room_is_bounded_shared_and_freed_by_time() {
    let dir = TempDir::new();
    let set = open(&dir).unwrap();
    for (owner, good) in [("a/1", 4), ("a/2", 2), ("a/3", 0), ("b", 2), ("c", 0)] {
        for number in 0..5 {
            let outcome = set.remember(owner, &number.to_string(), NOW.plus(10), NOW).await;
            assert_eq!(matches!(outcome, Ok(true)), number < good, "{owner} {number}");
            assert_eq!(matches!(outcome, Err(NotRemembered::Full)), number >= good, "{owner} {number}");
        }
    }
    assert!(set.remember("c", "0", NOW.plus(20), NOW.plus(10)).await.unwrap());
}

#[tokio::test]
async fn what_is_not_on_disk_does_not_count_and_is_written_with_the_next() {
    let dir = TempDir::new();
    let set = open(&dir).unwrap();
    let (here, away) = (dir.path().join("issuer"), dir.path().join("away"));
    fs::rename(&here, &away).unwrap();
    let lost = set.remember("shop", "one", NOW.plus(300), NOW).await;
    assert!(matches!(lost, Err(NotRemembered::State(StateError::File(_)))), "{lost:?}");
    let lost = set.remember("shop", "one", NOW.plus(300), NOW).await;
    assert!(matches!(lost, Err(NotRemembered::State(_))), "known, but still not on disk: {lost:?}");
    fs::rename(&away, &here).unwrap();
    assert!(set.remember("shop", "two", NOW.plus(300), NOW).await.unwrap());
    let again = open(&dir).unwrap();
    assert!(again.knows("shop", "one", NOW) && again.knows("shop", "two", NOW));
}

#[tokio::test]
async fn a_lost_torn_or_changed_document_is_named_and_refused() {
    let dir = TempDir::new();
    let set = open(&dir).unwrap();
    set.remember("shop", "one", NOW.plus(300), NOW).await.unwrap();
    let path = dir.path().join("issuer").join(NAME);
    let good = fs::read_to_string(&path).unwrap();
    let emptied = serde_json::json!({"ids": {}}).to_string();
    let later = good.replace(&NOW.plus(300).as_secs().to_string(), &NOW.as_secs().to_string());
    for damaged in [String::new(), good[..good.len() / 2].to_owned(), emptied, later, "[]".to_owned(), "{}".to_owned()]
    {
        fs::write(&path, &damaged).unwrap();
        let error = open(&dir).unwrap_err();
        assert!(matches!(&error, StateError::Damaged { path: named, .. } if *named == path), "{damaged}: {error}");
        assert!(error.to_string().ends_with("restore it"), "{error}");
        assert_eq!(fs::read_to_string(&path).unwrap(), damaged, "nothing is replaced silently");
    }
    fs::remove_file(&path).unwrap();
    assert!(matches!(open(&dir), Err(StateError::Missing { path: named, .. }) if named == path));
    fs::write(&path, &good).unwrap();
    fs::set_permissions(&path, fs::Permissions::from_mode(0o640)).unwrap();
    assert!(matches!(open(&dir), Err(StateError::File(FileError::TooOpen { .. }))));
    fs::set_permissions(&path, fs::Permissions::from_mode(0o600)).unwrap();
    assert!(open(&dir).unwrap().knows("shop", "one", NOW));
}

#[test]
fn a_folder_that_could_not_be_filled_does_not_appear() {
    let dir = TempDir::new();
    let path = dir.path().join("issuer");
    let failed = Folder::open(Shelf::Folder(path.clone()), "", |folder| Err(folder.damaged(NAME, "a test".to_owned())));
    assert!(matches!(failed, Err(StateError::Damaged { .. })));
    assert!(!path.exists());
}
