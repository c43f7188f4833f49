//! The status of a FapiPolicy: at each target, whether it governs there and who runs it.

use std::collections::BTreeSet;

use crds::conditions::{ACCEPTED, CONTROLLER_NAME, PROGRAMMED, RESOLVED_REFS, reason};
use crds::policy::{
    AncestorRef, AncestorStatus, ExemptionStatus, FapiPolicyStatus, PodCounts, TargetKind, WouldRefuse,
};
use fapi::{Mode, WireExemption};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Condition;

use super::condition::Conditions;
use super::documents::Facts;
use super::would_refuse;
use crate::index::{Governor, Index, PortPlan};
use crate::model::{Key, Pod, Policy, PolicyTarget};

pub(super) fn status(facts: &Facts<'_>, key: &Key, policy: &Policy) -> FapiPolicyStatus {
    let conditions = Conditions { generation: policy.generation, now: facts.now };
    // What cannot be read might be anything, so it closes the namespace.
    let targets = policy.targets.clone().unwrap_or_else(|| vec![PolicyTarget::Namespace]);
    let ancestor = |target: &PolicyTarget| {
        let accepted = accepted(facts.view.index(), conditions, key, policy, target);
        let (programmed, pods) = programmed(facts, conditions, key, target);
        let resolved = resolved(facts.view.index(), conditions, key, policy);
        AncestorStatus {
            ancestor_ref: reference(key, target),
            controller_name: CONTROLLER_NAME.to_owned(),
            conditions: vec![accepted, resolved, programmed],
            pods,
            would_refuse: would_refuse(facts, key, policy, target),
        }
    };
    let ancestors: Vec<AncestorStatus> = targets.iter().map(ancestor).collect();
    let ready = conditions.ready(in_order(&ancestors));
    FapiPolicyStatus { conditions: vec![ready], ancestors, exempt: exempt(facts.view.index(), key, policy) }
}

/// The holes in the policy, whether anything is behind them or not.
fn exempt(index: &Index, key: &Key, policy: &Policy) -> Vec<ExemptionStatus> {
    let declared = policy.spec.as_ref().map(|spec| spec.exempt.as_slice()).unwrap_or_default();
    let opened = |number: u16| {
        let pods = index.pods_in(&key.namespace).filter(|pod| pod.meshed);
        let governed = |pod: &&Pod| {
            let governor = Governor::Policy(key.clone());
            index.plans_of(pod).any(|(port, plan)| port.number == number && plan.governor == governor)
        };
        i32::try_from(pods.filter(governed).count()).unwrap_or(i32::MAX)
    };
    let shown = |one: &WireExemption| ExemptionStatus {
        port: one.port,
        paths: one.paths.clone(),
        sources: one.sources.clone(),
        pods: opened(one.port),
    };
    declared.iter().map(shown).collect()
}

/// What stands in the way of acceptance comes before what stands in the way of the sidecars.
fn in_order(ancestors: &[AncestorStatus]) -> impl Iterator<Item = &Condition> {
    let all = |kind| ancestors.iter().flat_map(|at| &at.conditions).filter(move |condition| condition.type_ == kind);
    all(ACCEPTED).chain(all(RESOLVED_REFS)).chain(all(PROGRAMMED))
}

fn reference(key: &Key, target: &PolicyTarget) -> AncestorRef {
    let (kind, name, section_name) = match target {
        PolicyTarget::Section { service, section } => (TargetKind::Service, service.clone(), Some(section.clone())),
        PolicyTarget::Service { service } => (TargetKind::Service, service.clone(), None),
        PolicyTarget::Namespace => (TargetKind::Namespace, key.namespace.to_string(), None),
    };
    AncestorRef { kind, name, section_name }
}

// === Accepted ===

fn accepted(index: &Index, conditions: Conditions, key: &Key, policy: &Policy, target: &PolicyTarget) -> Condition {
    let fails = |reason, message| conditions.fails(ACCEPTED, reason, message);
    match (&policy.fault, &policy.spec) {
        (fault, None) => return fails(reason::INVALID, closed(policy, fault.as_deref().unwrap_or_default())),
        (Some(fault), Some(_)) => {
            return fails(reason::INVALID, format!("the last good version stays in force: {fault}"));
        }
        (None, Some(_)) => {}
    }
    let holder = index.attached(&key.namespace, target).first().map(|holder| &holder.key);
    if let Some(holder) = holder.filter(|holder| *holder != key) {
        let message = format!("{holder} targets this too and is older; remove one of them, or merge their rules");
        return fails(reason::CONFLICTED, message);
    }
    match missing(index, key, target) {
        Some(missing) => fails(reason::TARGET_NOT_FOUND, missing),
        None => conditions.holds(ACCEPTED, ""),
    }
}

fn closed(policy: &Policy, fault: &str) -> String {
    let what = if policy.targets.is_some() { "its targets are" } else { "it may mean anything, so its namespace is" };
    format!("no version of it was ever good; {what} closed (policy_invalid): {fault}")
}

fn missing(index: &Index, key: &Key, target: &PolicyTarget) -> Option<String> {
    let (service, section) = match target {
        PolicyTarget::Section { service, section } => (service, Some(section)),
        PolicyTarget::Service { service } => (service, None),
        PolicyTarget::Namespace => return None,
    };
    let Some(found) = index.model().services.get(&Key::new(&key.namespace, service)) else {
        return Some(format!("there is no Service {}/{service}; make it, or mend the name", key.namespace));
    };
    let section = section.filter(|section| !found.ports.iter().any(|port| port.name == **section))?;
    let ports: Vec<&str> = found.ports.iter().map(|port| port.name.as_str()).collect();
    Some(format!("Service {} has no port {section}; it has {}", found.key, ports.join(", ")))
}

// === ResolvedRefs ===

/// Whether every FapiIssuer that it names may be used here; one that may not admits nothing, and the rest holds.
fn resolved(index: &Index, conditions: Conditions, key: &Key, policy: &Policy) -> Condition {
    let wanted = policy.spec.as_ref().map(|spec| spec.external.as_slice()).unwrap_or_default();
    match index.issuers().resolve_all(&key.namespace, wanted).find_map(Result::err) {
        Some((reason, message)) => conditions.fails(RESOLVED_REFS, reason, message),
        None => conditions.holds(RESOLVED_REFS, ""),
    }
}

// === Programmed ===

fn programmed(facts: &Facts<'_>, conditions: Conditions, key: &Key, target: &PolicyTarget) -> (Condition, PodCounts) {
    let index = facts.view.index();
    let (mut uids, mut versions, mut others) = (BTreeSet::new(), BTreeSet::new(), BTreeSet::new());
    for (uid, plan) in ports(index, key, target) {
        if plan.governor == Governor::Policy(key.clone()) {
            uids.insert(uid);
            versions.insert(plan.version.as_str());
        } else if let Governor::Policy(other) = &plan.governor {
            others.insert(other.to_string());
        }
    }
    if uids.is_empty() && !others.is_empty() {
        let others: Vec<String> = others.into_iter().collect();
        let message = format!("every port of it is governed by {}", others.join(", "));
        return (conditions.fails(PROGRAMMED, reason::OVERRIDDEN, message), PodCounts::default());
    }
    let versions: Vec<&str> = versions.into_iter().collect();
    facts.pods.programmed(conditions, uids, &versions.join(", "))
}

// === Audit ===

/// What the pods that it governs have let pass; `None` also if it does not let anything pass any more.
fn would_refuse(facts: &Facts<'_>, key: &Key, policy: &Policy, target: &PolicyTarget) -> Option<WouldRefuse> {
    policy.spec.as_ref().filter(|spec| spec.mode == Mode::Audit)?;
    let (name, governor) = (key.to_string(), Governor::Policy(key.clone()));
    let ports = ports(facts.view.index(), key, target).into_iter();
    let pods: BTreeSet<&str> = ports.filter(|(_, plan)| plan.governor == governor).map(|(uid, _)| uid).collect();
    let counted = pods.into_iter().filter_map(|uid| facts.counts.get(uid)?.get(&name));
    would_refuse::sum(counted.map(|counted| &**counted))
}

// === Ports ===

/// The ports that a target means: uid of the pod, and what governs it.
fn ports<'a>(index: &'a Index, key: &Key, target: &PolicyTarget) -> Vec<(&'a str, &'a PortPlan)> {
    let (service, section) = match target {
        PolicyTarget::Section { service, section } => (service, Some(section)),
        PolicyTarget::Service { service } => (service, None),
        PolicyTarget::Namespace => {
            let pods = index.pods_in(&key.namespace);
            let ports = pods.flat_map(|pod| index.plans_of(pod).map(|(_, plan)| (pod.uid.as_str(), &**plan)));
            return ports.collect();
        }
    };
    let service = Key::new(&key.namespace, service);
    let behind = index.pods_behind(&service);
    let meant = behind.filter(|(endpoint, _)| section.is_none_or(|section| endpoint.service_port == *section));
    meant.filter_map(|(endpoint, pod)| Some((pod.uid.as_str(), &**index.plan_of(endpoint)?))).collect()
}
