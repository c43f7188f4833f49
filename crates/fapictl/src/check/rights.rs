//! The rights that installing takes, each asked about by itself.

use std::fmt;

use k8s_openapi::api::authorization::v1::{ResourceAttributes, SelfSubjectAccessReview, SelfSubjectAccessReviewSpec};
use kube::api::{Api, PostParams};

use super::finding::{Check, Finding, several};
use crate::cluster::{Cluster, Seen, ask};

/// A right to make objects of a kind.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Right {
    group: &'static str,
    resource: &'static str,
    /// In the namespace of the operator alone.
    at_home: bool,
}

/// What both charts make, and where Helm keeps what it made.
pub(super) const RIGHTS: [Right; 17] = [
    Right { group: "apiextensions.k8s.io", resource: "customresourcedefinitions", at_home: false },
    Right { group: "rbac.authorization.k8s.io", resource: "clusterroles", at_home: false },
    Right { group: "rbac.authorization.k8s.io", resource: "clusterrolebindings", at_home: false },
    Right { group: "admissionregistration.k8s.io", resource: "mutatingwebhookconfigurations", at_home: false },
    Right { group: "admissionregistration.k8s.io", resource: "validatingwebhookconfigurations", at_home: false },
    Right { group: "admissionregistration.k8s.io", resource: "validatingadmissionpolicies", at_home: false },
    Right { group: "admissionregistration.k8s.io", resource: "validatingadmissionpolicybindings", at_home: false },
    Right { group: "rbac.authorization.k8s.io", resource: "roles", at_home: true },
    Right { group: "rbac.authorization.k8s.io", resource: "rolebindings", at_home: true },
    Right { group: "apps", resource: "deployments", at_home: true },
    Right { group: "batch", resource: "jobs", at_home: true },
    Right { group: "policy", resource: "poddisruptionbudgets", at_home: true },
    Right { group: "networking.k8s.io", resource: "networkpolicies", at_home: true },
    Right { group: "", resource: "configmaps", at_home: true },
    Right { group: "", resource: "secrets", at_home: true },
    Right { group: "", resource: "serviceaccounts", at_home: true },
    Right { group: "", resource: "services", at_home: true },
];

impl fmt::Display for Right {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let dot = if self.group.is_empty() { "" } else { "." };
        write!(f, "{}{dot}{}", self.resource, self.group)
    }
}

/// Asks about each of them.
pub(super) async fn gather(cluster: &Cluster, operator_namespace: &str) -> Vec<(Right, Seen<bool>)> {
    let reviews: Api<SelfSubjectAccessReview> = Api::all(cluster.client());
    let mut answers = Vec::new();
    for right in RIGHTS {
        let attributes = ResourceAttributes {
            group: Some(right.group.to_owned()),
            resource: Some(right.resource.to_owned()),
            verb: Some("create".to_owned()),
            namespace: right.at_home.then(|| operator_namespace.to_owned()),
            ..ResourceAttributes::default()
        };
        let spec = SelfSubjectAccessReviewSpec { resource_attributes: Some(attributes), ..Default::default() };
        let review = SelfSubjectAccessReview { spec, ..Default::default() };
        let answer = ask(reviews.create(&PostParams::default(), &review)).await;
        answers.push((right, answer.map(|review| review.status.is_some_and(|status| status.allowed))));
    }
    answers
}

/// Whether all of them are there.
pub(super) fn judge(answers: &[(Right, Seen<bool>)]) -> Vec<Finding> {
    let unseen = answers.iter().find_map(|(right, answer)| Some((right, answer.as_ref().err()?)));
    if let Some((right, unseen)) = unseen {
        return vec![Finding::unseen(Check::Rights, &format!("whether you may make {right}"), unseen)];
    }
    let missing: Vec<String> =
        answers.iter().filter(|(_, answer)| *answer == Ok(false)).map(|(right, _)| right.to_string()).collect();
    if missing.is_empty() {
        return vec![Finding::ok(Check::Rights, "you may make everything that the charts have")];
    }
    let found = format!("you may not create {}", several(&missing));
    vec![Finding::failed(Check::Rights, found, "install as a cluster administrator, or have these rights given to you")]
}
