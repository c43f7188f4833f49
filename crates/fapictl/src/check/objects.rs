//! Our objects: what the operator says about each.

use crds::conditions::{READY, reason};
use crds::policy::{AncestorRef, AncestorStatus};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Condition;

use super::finding::{Check, Finding, about};
use crate::cluster::{Custom, Kind, Seen, Unseen, is_true, remedy, would_refuse};

/// What is wrong with the objects of a kind. A kind that is not there has none; [`Check::Definitions`] names it.
pub(super) fn judge(check: Check, kind: Kind, objects: &Seen<Vec<Custom>>) -> Vec<Finding> {
    if matches!(objects, Err(Unseen::Absent)) {
        return Vec::new();
    }
    about(check, &format!("the objects of kind {}", kind.name()), objects, |objects| {
        let findings: Vec<Finding> = objects.iter().flat_map(|object| of_object(check, kind, object)).collect();
        if !findings.is_empty() {
            return findings;
        }
        let found = match (kind, objects.len()) {
            (Kind::Mesh, 0) => "none: the defaults are in force".to_owned(),
            (_, 0) => "none".to_owned(),
            (_, count) => format!("{count}, all ready"),
        };
        vec![Finding::ok(check, found)]
    })
}

fn of_object(check: Check, kind: Kind, object: &Custom) -> Vec<Finding> {
    let name = format!("{} {}", kind.name(), object.key());
    let Some(ready) = object.ready() else {
        let found = format!("{name}: the operator has not said anything about it as it is now");
        return vec![Finding::failed(check, found, remedy(reason::PENDING))];
    };
    let audited = let_pass(check, &name, object);
    if is_true(&ready) {
        return audited;
    }
    let at_targets = object.ancestors().into_iter().flat_map(|ancestor| {
        let place = format!("{name} at {}", place(&ancestor));
        ancestor.conditions.into_iter().map(move |condition| (place.clone(), condition))
    });
    let of_all = object.conditions().into_iter().map(|condition| (name.clone(), condition));
    let causes: Vec<Finding> = at_targets
        .chain(of_all)
        .filter(|(_, condition)| condition.type_ != READY && !is_true(condition))
        .map(|(place, condition)| of_condition(check, &place, &condition))
        .collect();
    let causes = if causes.is_empty() { vec![of_condition(check, &name, &ready)] } else { causes };
    causes.into_iter().chain(audited).collect()
}

/// What a policy in `Audit` has let pass, at each target.
fn let_pass(check: Check, name: &str, object: &Custom) -> Vec<Finding> {
    let remedy = "have these callers come as the policy wants it, or the policy admit them, before mode: Enforce";
    let finding = |at: &AncestorStatus| {
        let found = format!("{name} at {}: calls that it would refuse: {}", place(at), would_refuse(at)?);
        Some(Finding::warning(check, found, remedy))
    };
    object.ancestors().iter().filter_map(finding).collect()
}

fn place(at: &AncestorStatus) -> String {
    let AncestorRef { name, section_name, .. } = &at.ancestor_ref;
    section_name.as_ref().map_or_else(|| name.clone(), |section| format!("{name}/{section}"))
}

fn of_condition(check: Check, place: &str, condition: &Condition) -> Finding {
    let Condition { type_, reason, message, .. } = condition;
    let colon = if message.is_empty() { "" } else { ": " };
    let found = format!("{place}: {type_} is not true ({reason}){colon}{message}");
    // Nothing is unguarded by it.
    let harmless = [reason::NO_PODS, reason::OVERRIDDEN].contains(&reason.as_str());
    if harmless {
        Finding::warning(check, found, remedy(reason))
    } else {
        Finding::failed(check, found, remedy(reason))
    }
}
