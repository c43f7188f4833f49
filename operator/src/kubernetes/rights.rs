//! What the operator may do in a cluster: nothing that does not stand here, and nothing here that it does not do.
//!
//! The chart's ClusterRole and Role are made of this table, `docs/operating.md` shows it, and a test runs an operator that has
//! these rights and no others.

use super::{desk, secret};
use crate::names::{OPERATOR, TRUST_BUNDLE};

/// A rule of a Role or ClusterRole.
#[derive(Clone, Copy, Debug)]
pub struct Right {
    /// In which of the two it stands.
    pub scope: Scope,
    /// The API group; the core group is empty.
    pub group: &'static str,
    /// In the plural, with the subresource.
    pub resources: &'static [&'static str],
    /// Only objects of these names; all, if there is none.
    pub names: &'static [&'static str],
    /// What it does with them.
    pub verbs: &'static [&'static str],
    /// What for, and when it can be left out.
    pub purpose: &'static str,
}

/// Where a right holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Scope {
    /// In the whole cluster.
    Cluster,
    /// In the operator's own namespace.
    OwnNamespace,
}

const CORE: &str = "";
/// A new object has no name yet when rights are looked at, so these cannot be narrowed.
const CREATE: &[&str] = &["create"];

/// Every right of an operator with `--source kubernetes`, and of its webhooks.
pub const RIGHTS: &[Right] = &[
    cluster(
        crds::GROUP,
        &["fapiclients", "fapiissuers", "fapimeshes", "fapipolicies", "revocations"],
        &["list", "watch"],
        "the desired state",
    ),
    cluster(
        crds::GROUP,
        &["fapiclients/status", "fapiissuers/status", "fapimeshes/status", "fapipolicies/status", "revocations/status"],
        &["patch"],
        "what became of it",
    ),
    cluster(CORE, &["services"], &["list", "watch"], "where calls go"),
    cluster("discovery.k8s.io", &["endpointslices"], &["list", "watch"], "who is ready"),
    cluster(
        CORE,
        &["namespaces"],
        &["get", "list", "watch"],
        "which namespaces ask for sidecars (`get`: the webhooks)",
    ),
    cluster(CORE, &["pods"], &["get", "list", "watch"], "who is who (`get`: a pod that the watch does not know yet)"),
    cluster("authentication.k8s.io", &["tokenreviews"], CREATE, "enrolment"),
    cluster("events.k8s.io", &["events"], &["create", "patch"], "what happens, told on the objects that it happens to"),
    Right {
        names: &[TRUST_BUNDLE],
        ..cluster(CORE, &["configmaps"], &["create", "delete", "list", "patch", "watch"], "the roots of the mesh")
    },
    Right {
        // Unless `--service-name` says another.
        names: &[OPERATOR],
        ..cluster(
            "admissionregistration.k8s.io",
            &["mutatingwebhookconfigurations", "validatingwebhookconfigurations"],
            &["get", "patch"],
            "only with `--webhook-listen`",
        )
    },
    own(CORE, &["secrets"], &[], CREATE, "keys and revocations, at the first start"),
    own(
        CORE,
        &["secrets"],
        &[secret::AUTHORITY, secret::ISSUER, secret::REVOCATIONS, secret::WEBHOOK],
        &["get", "patch"],
        "keys and revocations",
    ),
    own(CORE, &["secrets"], &[secret::ISSUER, secret::REVOCATIONS], &["watch"], "what other operators write"),
    own(CORE, &["configmaps"], &[], CREATE, "what was made, at the first start"),
    own(CORE, &["configmaps"], &[desk::RECORD], &["get", "patch"], "what was made"),
    own("coordination.k8s.io", &["leases"], &[], CREATE, "which of several operators writes"),
    own("coordination.k8s.io", &["leases"], &[OPERATOR], &["get", "update"], "which of several operators writes"),
];

const fn cluster(
    group: &'static str,
    resources: &'static [&'static str],
    verbs: &'static [&'static str],
    purpose: &'static str,
) -> Right {
    Right { scope: Scope::Cluster, group, resources, names: &[], verbs, purpose }
}

const fn own(
    group: &'static str,
    resources: &'static [&'static str],
    names: &'static [&'static str],
    verbs: &'static [&'static str],
    purpose: &'static str,
) -> Right {
    Right { scope: Scope::OwnNamespace, group, resources, names, verbs, purpose }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a failed step fails the test")]

    use super::*;
    use crate::source::Watched;

    fn row(right: &Right) -> String {
        let list = |items: &[&str]| items.iter().map(|item| format!("`{item}`")).collect::<Vec<_>>().join(", ");
        let group = if right.group.is_empty() { "core".to_owned() } else { format!("`{}`", right.group) };
        let place = if right.scope == Scope::Cluster { "cluster" } else { "own namespace" };
        let names = if right.names.is_empty() { "all".to_owned() } else { list(right.names) };
        let (resources, verbs, purpose) = (list(right.resources), list(right.verbs), right.purpose);
        format!("| {place} | {group} | {resources} | {names} | {verbs} | {purpose} |\n")
    }

    #[test]
    fn the_manual_shows_the_rights() {
        let manual = std::fs::read_to_string(concat!(env!("CARGO_MANIFEST_DIR"), "/../docs/operating.md")).unwrap();
        let table: String = RIGHTS.iter().map(row).collect();
        let shown =
            manual.split_once("### Rights\n").and_then(|(_, rest)| rest.split_once("|---|---|---|---|---|---|\n"));
        let shown = shown.and_then(|(_, rest)| rest.split_once("\n\n")).map_or("", |(table, _)| table);
        assert_eq!(format!("{shown}\n"), table, "write this table into docs/operating.md:\n{table}");
    }

    #[test]
    fn whatever_is_watched_may_be_listed_and_watched() {
        for watched in Watched::ALL {
            let resource = watched.resource();
            let covers = |right: &&Right| {
                right.scope == Scope::Cluster
                    && right.group == resource.group
                    && right.resources.contains(&resource.plural.as_str())
            };
            let right = RIGHTS.iter().find(covers).unwrap();
            assert!(["list", "watch"].iter().all(|verb| right.verbs.contains(verb)), "{watched:?}");
        }
    }
}
