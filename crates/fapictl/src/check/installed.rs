//! `fapictl check`: whether a mesh that is installed is in order.

use fapi::UnixTime;
use k8s_openapi::api::admissionregistration::v1::{
    MutatingWebhookConfiguration, ValidatingAdmissionPolicy, ValidatingAdmissionPolicyBinding,
    ValidatingWebhookConfiguration,
};
use k8s_openapi::api::apps::v1::Deployment;
use k8s_openapi::api::core::v1::ConfigMap;
use kube::api::{Api, ListParams};
use operator::names;

use super::before::api_server;
use super::definitions::{self, Definitions};
use super::finding::{Check, Finding};
use super::probe::Attempt;
use super::versions::{Skew, skew};
use super::{images, objects, pods, webhooks};
use crate::clock;
use crate::cluster::{Cluster, Kind, Scope, Seen, Unseen, Version, Workloads, ask, list, replicas};

/// What is to be known of a mesh.
pub(super) struct Installed {
    pub(super) version: Version,
    pub(super) now: UnixTime,
    pub(super) definitions: Definitions,
    pub(super) injecting: Seen<MutatingWebhookConfiguration>,
    pub(super) validating: Seen<ValidatingWebhookConfiguration>,
    pub(super) attempt: Attempt,
    pub(super) images: Seen<ValidatingAdmissionPolicy>,
    pub(super) images_bound: Seen<ValidatingAdmissionPolicyBinding>,
    pub(super) bundles: Seen<Vec<ConfigMap>>,
    pub(super) workloads: Workloads,
}

impl Installed {
    /// Asks for all of it.
    pub(super) async fn gather(cluster: &Cluster, version: Version, scope: &Scope, operator_namespace: &str) -> Self {
        let workloads = Workloads::gather(cluster, scope, operator_namespace).await;
        let injecting: Api<MutatingWebhookConfiguration> = Api::all(cluster.client());
        let validating: Api<ValidatingWebhookConfiguration> = Api::all(cluster.client());
        let images: Api<ValidatingAdmissionPolicy> = Api::all(cluster.client());
        let images_bound: Api<ValidatingAdmissionPolicyBinding> = Api::all(cluster.client());
        let bundles: Api<ConfigMap> = match scope {
            Scope::All => Api::all(cluster.client()),
            Scope::Namespace(namespace) => Api::namespaced(cluster.client(), namespace),
        };
        let of_that_name = ListParams::default().fields(&format!("metadata.name={}", names::TRUST_BUNDLE));
        Self {
            version,
            now: UnixTime::from_secs(clock::now()),
            definitions: definitions::gather(cluster).await,
            injecting: ask(injecting.get(names::OPERATOR)).await,
            validating: ask(validating.get(names::OPERATOR)).await,
            attempt: Attempt::make(cluster, scope, &workloads).await,
            images: ask(images.get(names::IMAGES)).await,
            images_bound: ask(images_bound.get(names::IMAGES)).await,
            bundles: list(&bundles, &of_that_name).await,
            workloads,
        }
    }

    /// What all of that means.
    pub(super) fn judge(&self) -> Vec<Finding> {
        let workloads = &self.workloads;
        let mut findings = vec![api_server(&self.version)];
        findings.extend(definitions::judge(&self.definitions));
        findings.push(operator(&workloads.operator, &workloads.operator_namespace));
        findings.extend(workloads.operator_version().map(operator_version));
        findings.extend(webhooks::injection(&self.injecting));
        findings.extend(webhooks::validation(&self.validating));
        findings.extend(webhooks::certificate(&self.injecting, &self.validating, self.now));
        findings.push(self.attempt.judge());
        findings.extend(images::judge(&self.images, &self.images_bound));
        findings.extend(pods::trust(workloads, &self.bundles));
        findings.extend(objects::judge(Check::Mesh, Kind::Mesh, &workloads.meshes));
        findings.extend(objects::judge(Check::Issuers, Kind::Issuer, &workloads.issuers));
        findings.extend(objects::judge(Check::Policies, Kind::Policy, &workloads.policies));
        findings.extend(objects::judge(Check::Clients, Kind::Client, &workloads.clients));
        findings.extend(pods::sidecars(workloads));
        findings.extend(pods::versions(workloads));
        findings
    }
}

fn operator(found: &Seen<Deployment>, namespace: &str) -> Finding {
    let what = format!("Deployment {namespace}/{}", names::OPERATOR);
    let deployment = match found {
        Ok(deployment) => deployment,
        Err(Unseen::Absent) => {
            let remedy = "install the chart fapi-mesh, or say where it is by --operator-namespace";
            return Finding::failed(Check::Operator, format!("{what} is not there"), remedy);
        }
        Err(unseen) => return Finding::unseen(Check::Operator, &what, unseen),
    };
    let (ready, wanted) = replicas(deployment);
    let found = format!("{ready} of {wanted} replicas of {what} are ready");
    let remedy =
        format!("look at its pods: kubectl -n {namespace} describe pods -l app.kubernetes.io/name={}", names::OPERATOR);
    match ready {
        0 => Finding::failed(Check::Operator, found, remedy),
        ready if ready < wanted => Finding::warning(Check::Operator, found, remedy),
        _ => Finding::ok(Check::Operator, found),
    }
}

fn operator_version(version: &str) -> Finding {
    match skew(version, control::VERSION) {
        Skew::Same => Finding::ok(Check::OperatorVersion, format!("{version}, as this fapictl")),
        Skew::Supported | Skew::Unsupported => {
            let found = format!("{version}, and this fapictl is {}", control::VERSION);
            Finding::warning(Check::OperatorVersion, found, "use the fapictl of the mesh's version")
        }
    }
}
