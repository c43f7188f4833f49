//! The status of a FapiClient: what it asks for, and what the called side gives.

use std::ops::RangeInclusive;

use control::GrantType;
use crds::client::{FapiClientStatus, TargetStatus};
use crds::conditions::{GRANTED, PROGRAMMED, READY, RESOLVED_REFS, reason};
use fapi::{Audience, Grant, ScopeSet, SenderConstraint, SpiffeId};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Condition;

use super::condition::{Conditions, shorten};
use super::documents::Facts;
use crate::compile::{NotAsked, external, preferred_constraint};
use crate::index::Index;
use crate::issuer::{Asked, LONGEST_CHAIN, NotGranted, granted};
use crate::model::{Client, ClientSpec, ClientTarget, ExternalClient, Key};

pub(super) fn status(facts: &Facts<'_>, key: &Key, client: &Client) -> FapiClientStatus {
    let conditions = Conditions { generation: client.generation, now: facts.now };
    let Some(spec) = &client.spec else {
        let fault = client.fault.as_deref().unwrap_or_default();
        let message = format!("no version of it was ever good, so it asks for nothing: {fault}");
        let invalid = |kind: &&str| conditions.fails(kind, reason::INVALID, message.clone());
        let conditions = [READY, RESOLVED_REFS, GRANTED, PROGRAMMED].iter().map(invalid).collect();
        return FapiClientStatus { conditions, ..FapiClientStatus::default() };
    };
    let index = facts.view.index();
    let identity = SpiffeId::new(index.trust_domain(), &key.namespace, &spec.service_account).ok();
    let targets: Vec<TargetStatus> =
        spec.targets.iter().map(|target| target_status(index, key, spec, identity.as_ref(), target)).collect();
    let resolved = resolved(conditions, &targets);
    let granted = summary(conditions, &targets);
    let programmed = programmed(facts, conditions, key, spec);
    let ready = match &client.fault {
        Some(fault) => {
            conditions.fails(READY, reason::INVALID, format!("the last good version stays in force: {fault}"))
        }
        None => conditions.ready([&resolved, &granted, &programmed]),
    };
    FapiClientStatus {
        conditions: vec![ready, resolved, granted, programmed],
        client_id: match &spec.external {
            Some(client) => Some(client.client_id.clone()),
            None => identity.map(|identity| identity.as_str().to_owned()),
        },
        targets,
    }
}

// === Conditions ===

fn resolved(conditions: Conditions, targets: &[TargetStatus]) -> Condition {
    match targets.iter().find(|target| target.reason == reason::TARGET_NOT_FOUND) {
        Some(target) => conditions.fails(RESOLVED_REFS, &target.reason, told(target)),
        None => conditions.holds(RESOLVED_REFS, ""),
    }
}

fn summary(conditions: Conditions, targets: &[TargetStatus]) -> Condition {
    let mut refused = targets.iter().filter(|target| target.reason != reason::GRANTED);
    match refused.next() {
        None => conditions.holds(GRANTED, ""),
        Some(first) => {
            let more = match refused.count() {
                0 => String::new(),
                more => format!(" (and {more} more)"),
            };
            conditions.fails(GRANTED, &first.reason, told(first) + &more)
        }
    }
}

fn told(target: &TargetStatus) -> String {
    target.message.clone().unwrap_or_default()
}

/// The pods of the service account are those that call.
fn programmed(facts: &Facts<'_>, conditions: Conditions, key: &Key, spec: &ClientSpec) -> Condition {
    let own = facts.view.index().pods_as(&key.namespace, &spec.service_account);
    facts.pods.programmed(conditions, own.map(|pod| pod.uid.as_str()), "what they were last told").0
}

// === Targets ===

/// Why a target gives nothing: the reason, and what to do.
type Refusal = (&'static str, String);

fn target_status(
    index: &Index,
    key: &Key,
    spec: &ClientSpec,
    identity: Option<&SpiffeId>,
    target: &ClientTarget,
) -> TargetStatus {
    let service = &target.service;
    let found = index.model().services.contains_key(service);
    let bound = target.sender_constraint.or_else(|| found.then(|| preferred_constraint(index, service, |_| true)));
    let outcome = owned(index, key, spec, service)
        .and_then(|()| answered(index, service))
        .and_then(|()| given(index, spec, identity, target, bound));
    let own = || Audience::for_service(&service.name, &service.namespace).map(|own| own.to_string());
    let (audience, scopes, reason, message) = match outcome {
        Ok((audience, grant)) => (audience, grant.scopes.iter().map(str::to_owned).collect(), reason::GRANTED, None),
        Err((reason, message)) => (None, Vec::new(), reason, Some(shorten(&message))),
    };
    TargetStatus {
        service_name: service.name.to_string(),
        namespace: service.namespace.to_string(),
        audience: audience.map_or_else(own, Ok).unwrap_or_default(),
        sender_constraint: bound.map(spelled),
        grant_type: match target.grant_type {
            GrantType::ClientCredentials => None,
            GrantType::TokenExchange => Some(crds::client::GrantType::TokenExchange),
        },
        scopes,
        reason: reason.to_owned(),
        message,
    }
}

/// A target that is there, and that no older FapiClient of the same service account names.
fn owned(index: &Index, key: &Key, spec: &ClientSpec, service: &Key) -> Result<(), Refusal> {
    if !index.model().services.contains_key(service) {
        let message = format!("there is no Service {service}; make it, or mend the name");
        return Err((reason::TARGET_NOT_FOUND, message));
    }
    match index.client_target(&key.namespace, &spec.service_account, service) {
        Some((owner, ..)) if owner != key => {
            let message = format!("the FapiClient {owner} names it too and is older; remove it from one of them");
            Err((reason::CONFLICTED, message))
        }
        _ => Ok(()),
    }
}

/// A target for which a sidecar answers: only behind one is there a port that takes tokens.
fn answered(index: &Index, service: &Key) -> Result<(), Refusal> {
    if index.endpoints_of(service).next().is_some() {
        return Ok(());
    }
    let message = match index.pods_behind(service).count() {
        0 => format!("no pod stands behind {service}; start its pods, with a sidecar"),
        _ => format!(
            "no pod behind {service} has a sidecar; annotate their template with fapi-mesh.dev/inject: enabled, and have them made anew"
        ),
    };
    Err((reason::NOT_MESHED, message))
}

/// What the issuer gives, by the very function that it asks; and of an issuer outside the mesh the audience, and what it is
/// asked for.
fn given(
    index: &Index,
    spec: &ClientSpec,
    identity: Option<&SpiffeId>,
    target: &ClientTarget,
    bound: Option<SenderConstraint>,
) -> Result<(Option<String>, Grant), Refusal> {
    let ClientTarget { service, scopes, details, .. } = target;
    let (Some(identity), Some(bound)) = (identity, bound) else {
        return Err((reason::CALLER_NOT_ALLOWED, not_named(index, service)));
    };
    let scopes = match scopes.as_slice() {
        [] => None,
        scopes => {
            let unread = |_| (reason::SCOPE_NOT_ALLOWED, format!("a scope for {service} cannot be read"));
            Some(ScopeSet::from_list(scopes).map_err(unread)?)
        }
    };
    if let Some(client) = &spec.external {
        return match external(index, identity, client, target, |_| true) {
            Ok(asked) => Ok((Some(asked.audience.to_owned()), asked.grant)),
            Err(NotAsked::Issuer(message)) => Err((reason::ISSUER_NOT_ACCEPTED, message)),
            Err(NotAsked::Rules(NotGranted::Caller)) => Err((reason::CALLER_NOT_ALLOWED, not_mapped(client, service))),
            Err(NotAsked::Rules(refusal)) => Err(refused(index, service, refusal)),
        };
    }
    let asked = Asked { scopes, details: details.clone() };
    let (policies, chains) = (index.policies_of(service), chains(index, identity, target)?);
    // A call may come here by any number of hands; one of the ways has to be open.
    let attempts = chains.map(|actors| granted(&policies, identity, actors, bound, &asked));
    let best = attempts.reduce(|best, next| if best.is_ok() { best } else { next });
    let given = best.unwrap_or(Err(NotGranted::Caller));
    given.map(|grant| (None, grant)).map_err(|refusal| refused(index, service, refusal))
}

/// A refusal of the target's rules: the reason, and what to do.
fn refused(index: &Index, service: &Key, refusal: NotGranted) -> Refusal {
    match refusal {
        NotGranted::Caller => (reason::CALLER_NOT_ALLOWED, not_named(index, service)),
        NotGranted::Scopes(missing) => {
            let message = format!("no rule of {service} gives it {missing}; ask for less, or have a rule name it");
            (reason::SCOPE_NOT_ALLOWED, message)
        }
        NotGranted::Details => {
            let message = format!(
                "no rule of {service} gives it all of these authorizationDetails; ask for less, or have a rule name them"
            );
            (reason::DETAIL_NOT_ALLOWED, message)
        }
        NotGranted::Constraint(_) => {
            let message = format!("{service} takes no tokens bound this way; leave senderConstraint out to follow it");
            (reason::SENDER_CONSTRAINT_MISMATCH, message)
        }
    }
}

fn not_mapped(client: &ExternalClient, service: &Key) -> String {
    let ExternalClient { issuer, client_id } = client;
    format!(
        "the FapiIssuer {issuer} does not map {client_id} to this service account, or no rule of {service} names it; see both"
    )
}

/// How many actors a token for the target may name.
fn chains(index: &Index, identity: &SpiffeId, target: &ClientTarget) -> Result<RangeInclusive<u8>, Refusal> {
    match target.grant_type {
        GrantType::ClientCredentials => Ok(0..=0),
        GrantType::TokenExchange if index.is_called(identity) => Ok(1..=LONGEST_CHAIN),
        GrantType::TokenExchange => {
            let message =
                "no Service stands before this service account, so it gets no calls to hand on; leave grantType out";
            Err((reason::CALLER_NOT_ALLOWED, message.to_owned()))
        }
    }
}

fn not_named(index: &Index, service: &Key) -> String {
    let mut plans = index.endpoints_of(service).filter_map(|(endpoint, _)| index.plan_of(endpoint));
    if plans.any(|plan| plan.is_opaque()) && index.policies_of(service).is_empty() {
        return format!("{service} is not HTTP and takes no tokens; its callers need no FapiClient: remove the target");
    }
    if index.policies_of(service).is_empty() {
        return format!("every port of {service} is closed; see the status of the FapiPolicy that governs it");
    }
    format!("no rule of {service} names this service account; have a FapiPolicy there name it under callers")
}

fn spelled(constraint: SenderConstraint) -> crds::SenderConstraint {
    match constraint {
        SenderConstraint::Mtls => crds::SenderConstraint::Mtls,
        SenderConstraint::Dpop => crds::SenderConstraint::Dpop,
    }
}
