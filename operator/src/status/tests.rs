#![allow(clippy::unwrap_used, clippy::panic, reason = "a failed step fails the test")]

mod client;
mod cluster;
mod folder;
mod issuer;
mod mesh;
mod policy;
mod revocation;

use std::collections::{BTreeMap, HashMap};
use std::path::Path;

use crds::client::FapiClientStatus;
use crds::mesh::AnchorPhase;
use crds::policy::{FapiPolicyStatus, PodCounts};
use fapi::{Mode, SenderConstraint, UnixTime};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Condition;

use super::documents::Status;
use super::*;
use crate::acks::{AckEvent, PodAcks};
use crate::audits::tests::counted;
use crate::index::Index;
use crate::model::{
    Client, ClientTarget, Issuer, IssuerRef, IssuerSpec, Key, Model, Pod, Policy, PolicyTarget, Seniority,
};
use crate::pki::Anchor;
use crate::rotation::{Anchors, Oldest, Progress, Step};
use crate::source::{Kind, ObjectId, Revoking};
use crate::testing::bank::{bank, client_of, transfers_at, view};
use crate::testing::mesh::SOON;
use crate::testing::{NOW, TempDir, domain};

/// Statuses of one model after another, as a reporter makes them.
struct Bench {
    issuer: MeshIssuer,
    acks: HashMap<String, PodAcks>,
    pods: Pods,
    counts: Counts,
    anchors: Anchors,
    last: Documents,
}

impl Bench {
    fn new() -> Self {
        let issuer = crate::issuer::names("https://127.0.0.1:1");
        let (acks, pods, counts, anchors, last) = Default::default();
        Self { issuer, acks, pods, counts, anchors, last }
    }

    /// Every sidecar runs what the view says.
    fn all_run(&mut self, view: &View) {
        for pod in view.pods() {
            let version = view.snapshot(&pod.uid, &self.issuer).unwrap().version.clone();
            self.acks.insert(pod.uid.clone(), PodAcks { streams: 1, acked: Some(version), ..PodAcks::default() });
        }
    }

    fn report(&mut self, view: &View, now: UnixTime) {
        let acks = |uid: &str| self.acks.get(uid).cloned().unwrap_or_default();
        self.pods = Pods::new(view, &self.issuer, acks, |_| false, &self.pods, now);
        let facts =
            Facts { view, pods: &self.pods, counts: &self.counts, issuer: &self.issuer, anchors: &self.anchors, now };
        self.last = documents(&facts, &self.last);
    }

    fn policy(&self, name: &str) -> &FapiPolicyStatus {
        match &self.last[&id(Kind::FapiPolicy, name)] {
            Status::Policy(status) => status,
            other => panic!("{other:?}"),
        }
    }

    fn client(&self, name: &str) -> &FapiClientStatus {
        match &self.last[&id(Kind::FapiClient, name)] {
            Status::Client(status) => status,
            other => panic!("{other:?}"),
        }
    }
}

/// No revocation is in force.
fn nothing_revoked() -> watch::Receiver<Arc<InForce>> {
    watch::Sender::new(Arc::new(InForce::new(1, Vec::new()))).subscribe()
}

/// Nothing is known of roots.
fn nothing_told() -> ToldAnchors {
    watch::Sender::default().subscribe()
}

fn id(kind: Kind, name: &str) -> ObjectId {
    ObjectId::new(kind, Some("bank"), name).unwrap()
}

fn find<'a>(conditions: &'a [Condition], kind: &str) -> &'a Condition {
    conditions.iter().find(|condition| condition.type_ == kind).unwrap()
}

/// `True` or `False`, and the reason.
fn said<'a>(conditions: &'a [Condition], kind: &str) -> (&'a str, &'a str) {
    let condition = find(conditions, kind);
    (&condition.status, &condition.reason)
}

fn add_policy(model: &mut Model, name: &str, targets: Option<Vec<PolicyTarget>>) {
    let key = Key::new("bank", name);
    let spec = model.policies[&Key::new("bank", "payments")].spec.clone();
    let seniority = Seniority { created: 0, key: key.clone() };
    model.policies.insert(key, Policy { seniority, generation: 3, targets, spec, fault: None });
}

fn add_client(model: &mut Model, name: &str, account: &str, targets: &[(&str, &[&str])]) {
    let target = |(service, scopes): &(&str, &[&str])| ClientTarget {
        service: Key::new("bank", service),
        scopes: scopes.iter().map(|&scope| scope.to_owned()).collect(),
        details: None,
        sender_constraint: None,
        grant_type: Default::default(),
    };
    let spec = client_of(account, targets.iter().map(target).collect());
    let key = Key::new("bank", name);
    let seniority = Seniority { created: 0, key: key.clone() };
    model.clients.insert(key, Client { seniority, generation: 1, spec: Some(spec), fault: None });
}

fn service(name: &str) -> Vec<PolicyTarget> {
    vec![PolicyTarget::Service { service: name.to_owned() }]
}
