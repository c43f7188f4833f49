#![allow(clippy::unwrap_used, reason = "a failed step fails the test")]

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use fapi::Revocation;
use serde_json::json;

use super::*;
use crate::clock::Clock;
use crate::issuer::{Kept, Keys, Rotation};
use crate::pki::{self, Authority, PkiError};
use crate::revocations::Revocations;
use crate::shelf::Shelf;
use crate::source::{Bundle, Desired};
use crate::state::{Folder, Remembered, Room};
use crate::testing::cluster::Cluster;
use crate::testing::{NOW, TempDir, domain};
use crate::webhook;

const SECRETS: &str = "/api/v1/namespaces/fapi-mesh/secrets";
const STATE: &str = "/api/v1/namespaces/fapi-mesh/configmaps/fapi-mesh-state";

async fn desk(cluster: &Cluster) -> Desk {
    let cluster = cluster.clone();
    Desk::open("fapi-mesh", move || async move { Ok(cluster.client()) }).await.unwrap()
}

fn shelf(desk: &Desk, name: &'static str, loss: Loss) -> Shelf {
    Shelf::Secret(Secret::new(desk.clone(), name, loss))
}

/// As an operator does at its start.
fn authority(desk: &Desk) -> Result<Authority, PkiError> {
    Authority::open(shelf(desk, "fapi-mesh-ca", Loss::KnownBy(pki::FINGERPRINT)), None, &domain(), NOW)
}

#[tokio::test]
async fn keys_are_made_once_in_secrets_of_their_own() {
    let cluster = Cluster::default();
    let desk = desk(&cluster).await;
    let first = authority(&desk).unwrap();
    Kept::open(
        shelf(&desk, "fapi-mesh-issuer", Loss::Missing),
        Rotation::every(Rotation::DEFAULT),
        &Clock::manual(NOW),
    )
    .unwrap();
    let documents = |name: &str| -> Vec<String> {
        let secret = cluster.object(&format!("{SECRETS}/{name}")).unwrap();
        secret["data"].as_object().unwrap().keys().cloned().collect()
    };
    assert_eq!(documents("fapi-mesh-ca"), ["fingerprint", "issuing.key", "issuing.pem", "root.key", "root.pem"]);
    assert_eq!(documents("fapi-mesh-issuer"), ["assertions.json", "keys.json", "nonces.json"]);
    cluster.writes();
    let again = authority(&self::desk(&cluster).await).unwrap();
    assert_eq!(again.bundle_pem(), first.bundle_pem());
    assert_eq!(cluster.writes(), Vec::<String>::new(), "a later start writes nothing");
}

#[tokio::test]
async fn of_two_that_start_together_both_have_the_keys_of_one() {
    let cluster = Cluster::default();
    let (one, other) = (desk(&cluster).await, desk(&cluster).await);
    let secret = |desk: &Desk| shelf(desk, "fapi-mesh-ca", Loss::KnownBy(pki::FINGERPRINT));
    assert!(!secret(&other).is_there().unwrap(), "the other one has looked already");
    let first = authority(&one).unwrap();
    // Its attempt to create changes nothing.
    secret(&other).appear(|draft| draft.replace(pki::FINGERPRINT, b"x", 0)).unwrap();
    assert_eq!(authority(&other).unwrap().bundle_pem(), first.bundle_pem());
}

#[tokio::test]
async fn one_that_looks_while_another_makes_the_secret_has_its_keys() {
    let (cluster, made) = (Cluster::default(), Cluster::default());
    let first = authority(&desk(&made).await).unwrap();
    let desk = desk(&cluster).await;
    let objects = [format!("{SECRETS}/fapi-mesh-ca"), STATE.to_owned()].map(|path| {
        let object = made.object(&path).unwrap();
        (path, object)
    });
    cluster.put_meanwhile(objects);
    assert_eq!(authority(&desk).unwrap().bundle_pem(), first.bundle_pem());
}

#[tokio::test]
async fn a_lost_or_exchanged_secret_is_named_and_never_made_anew() {
    let cluster = Cluster::default();
    let desk = desk(&cluster).await;
    authority(&desk).unwrap();
    let (path, backup) =
        (format!("{SECRETS}/fapi-mesh-ca"), cluster.object(&format!("{SECRETS}/fapi-mesh-ca")).unwrap());
    let refused = || authority(&desk).map(|_| ()).unwrap_err().to_string();
    cluster.remove(&path);
    let lost = refused();
    for part in ["Secret fapi-mesh/fapi-mesh-ca", "backup", "ConfigMap fapi-mesh/fapi-mesh-state"] {
        assert!(lost.contains(part), "{lost}");
    }
    assert!(cluster.object(&path).is_none());
    // Another authority, whole in itself.
    let other = Cluster::default();
    authority(&self::desk(&other).await).unwrap();
    cluster.put(&path, other.object(&path).unwrap());
    assert_eq!(refused(), lost);
    cluster.put(&path, backup);
    authority(&desk).unwrap();
    // A person decides to begin anew.
    cluster.remove(&path);
    let mut record = cluster.object(STATE).unwrap();
    record["data"].as_object_mut().unwrap().remove("fapi-mesh-ca").unwrap();
    cluster.put(STATE, record);
    authority(&desk).unwrap();
}

#[tokio::test]
async fn what_replicas_revoke_at_once_is_all_revoked() {
    let cluster = Cluster::default();
    let (one, other) = (desk(&cluster).await, desk(&cluster).await);
    let revocation = |pod: &str| Revocation::new(fapi::Revoked::Pod(pod.into()), None, NOW.plus(60)).unwrap();
    let open = |desk: &Desk| {
        Revocations::open(shelf(desk, secret::REVOCATIONS, Loss::Missing), false, Clock::manual(NOW)).unwrap()
    };
    let (first, second) = (open(&one), open(&other));
    first.revoke([revocation("a")]).unwrap();
    // It has not heard of the first, and does not take it back.
    second.revoke([revocation("b")]).unwrap();
    assert_eq!(second.in_force().set.len(), 2);
    assert_eq!(first.in_force().set.len(), 1);
    first.refresh().unwrap();
    assert_eq!((first.in_force().set.len(), first.in_force().epoch), (2, second.in_force().epoch));
    assert_eq!(open(&one).in_force().set.len(), 2, "after a restart, too");
}

#[tokio::test]
async fn an_assertion_counts_at_one_replica() {
    let cluster = Cluster::default();
    let open = async || {
        let shelf = shelf(&desk(&cluster).await, secret::ISSUER, Loss::Missing);
        let folder = Folder::open(shelf, "restore it", |folder| Remembered::create(folder, "used.json")).unwrap();
        Remembered::open(&folder, "used.json", Room { all: 8, per_group: 8, per_owner: 8, group: |owner| owner })
            .unwrap()
    };
    let (one, other) = (open().await, open().await);
    let until = NOW.plus(60);
    assert!(one.remember("shop", "first", until, NOW).await.unwrap());
    assert!(!other.remember("shop", "first", until, NOW).await.unwrap(), "another replica has taken it");
    assert!(!other.remember("shop", "first", until, NOW).await.unwrap());
    assert!(other.remember("shop", "second", until, NOW).await.unwrap());
    assert!(!one.remember("shop", "second", until, NOW).await.unwrap());
    assert!(one.remember("shop", "third", until, NOW).await.unwrap());
    let again = open().await;
    assert!(["first", "second", "third"].iter().all(|id| again.knows("shop", id, NOW)));
}

#[tokio::test]
async fn replicas_sign_with_the_same_keys_and_one_rotates_them() {
    let (cluster, clock) = (Cluster::default(), Clock::manual(NOW));
    let open = async || {
        let shelf = shelf(&desk(&cluster).await, secret::ISSUER, Loss::Missing);
        Kept::open(shelf, Rotation::every(Duration::from_secs(600)), &clock).unwrap().keys
    };
    let (leader, follower) = (open().await, open().await);
    let published = |keys: &Arc<Keys>| keys.published().borrow().jwks.clone();
    assert_eq!(published(&leader), published(&follower));
    // Both write what they need to; neither overwrites the other.
    follower.sign(&json!({}), Duration::from_secs(60)).unwrap();
    leader.sign(&json!({}), Duration::from_secs(90)).unwrap();
    follower.sign(&json!({}), Duration::from_secs(120)).unwrap();
    clock.advance(Duration::from_secs(601));
    leader.tick().unwrap();
    assert_ne!(published(&leader), published(&follower));
    follower.follow().unwrap();
    assert_eq!(published(&leader), published(&follower));
    // The retired key is published for as long as the token of the other one lives.
    clock.advance(Duration::from_secs(115));
    leader.tick().unwrap();
    assert_eq!(published(&leader), published(&follower));
}

#[tokio::test]
async fn replicas_serve_webhooks_by_one_authority_and_a_lost_one_is_made_anew() {
    let cluster = Cluster::default();
    let open = async || {
        let shelf = shelf(&desk(&cluster).await, secret::WEBHOOK, Loss::MadeAnew);
        webhook::Authority::open(&shelf, NOW).unwrap().bundle()
    };
    let first = open().await;
    assert_eq!(open().await, first);
    assert_eq!(cluster.writes(), [format!("POST {SECRETS}")], "and it is written once");
    cluster.remove(&format!("{SECRETS}/fapi-mesh-webhook"));
    let anew = open().await;
    assert_ne!(anew, first);
    assert_eq!(open().await, anew);
}

#[tokio::test]
async fn an_api_server_that_does_not_answer_is_an_error_with_a_remedy() {
    let cluster = Cluster::default();
    let desk = desk(&cluster).await;
    cluster.answers(false);
    let error = authority(&desk).map(|_| ()).unwrap_err().to_string();
    assert!(error.contains("cannot read ConfigMap fapi-mesh/fapi-mesh-state") && error.contains("Role"), "{error}");
    cluster.answers(true);
    authority(&desk).unwrap();
}

#[tokio::test]
async fn the_trust_domain_is_recorded_for_good() {
    let cluster = Cluster::default();
    let desk = desk(&cluster).await;
    assert_eq!(desk.recorded("trust-domain").unwrap(), None);
    desk.record("trust-domain", Some("bank.example")).unwrap();
    assert_eq!(self::desk(&cluster).await.recorded("trust-domain").unwrap().as_deref(), Some("bank.example"));
}

#[tokio::test]
async fn roots_are_written_where_they_are_missing_or_wrong_and_removed_where_nobody_needs_them() {
    let cluster = Cluster::default();
    let dir = TempDir::new();
    let roots = crate::testing::authority(dir.path(), &domain(), NOW).unwrap().roots();
    let bundles = TrustBundles::new(cluster.client(), roots, Leadership::alone());
    let map = |namespace: &str| format!("/api/v1/namespaces/{namespace}/configmaps/fapi-mesh-trust-bundle");
    let names = |names: &[&str]| -> BTreeSet<Arc<str>> { names.iter().map(|&name| name.into()).collect() };
    let has = |all: &[(&str, &str)]| -> BTreeMap<Arc<str>, Bundle> {
        let bundle = |roots: &str| Bundle { roots: roots.into(), immutable: roots == "immutable" };
        all.iter().map(|(namespace, roots)| ((*namespace).into(), bundle(roots))).collect()
    };
    let mut desired =
        Desired { opted_in: names(&["bank", "web"]), bundles: has(&[("bank", "PEM")]), ..Desired::default() };
    assert!(!bundles.step(&desired, "PEM").await);
    assert_eq!(cluster.object(&map("web")).unwrap()["data"], json!({"root.pem": "PEM"}));
    assert_eq!(cluster.writes().len(), 1, "what is right is not written");
    desired.bundles = has(&[("bank", "forged"), ("web", "PEM"), ("old", "PEM")]);
    cluster.put(&map("old"), json!({"metadata": {}}));
    assert!(!bundles.step(&desired, "PEM").await);
    assert_eq!(cluster.writes(), [format!("PATCH {}", map("bank")), format!("DELETE {}", map("old"))]);
    desired.bundles = has(&[("bank", "immutable"), ("web", "PEM")]);
    assert!(!bundles.step(&desired, "PEM").await);
    assert_eq!(cluster.writes(), [format!("DELETE {}", map("bank")), format!("PATCH {}", map("bank"))], "made anew");
    assert_eq!(cluster.object(&map("bank")).unwrap()["data"], json!({"root.pem": "PEM"}));
    cluster.answers(false);
    assert!(bundles.step(&desired, "PEM").await, "it is tried again");
}
