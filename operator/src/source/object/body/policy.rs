use std::time::Duration;

use crds::policy::{
    AcceptedIssuer, Actors, AuthorizationDetail, Caller, Exemption, MESH_ISSUER, Mode, PolicyRule, Protocol,
    TargetKind, TargetRef,
};
use crds::{FapiPolicySpec, SenderConstraint};
use fapi::{Origin, TrustDomain, WireActors, WireCaller, WireClient, WireDetail, WireExemption, WireRule};

use super::{BodyProblem, ObjectId, all_or};
use crate::index;
use crate::model::{IssuerRef, PolicySpec, PolicyTarget};

/// What a FapiPolicy says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct PolicyBody {
    pub(crate) targets: Vec<PolicyTarget>,
    pub(crate) spec: PolicySpec,
}

/// Reads a FapiPolicy: resolves its targets, fills in callers, and compiles the rules as a sidecar would.
pub(super) fn read(
    id: &ObjectId,
    spec: FapiPolicySpec,
    trust_domain: &TrustDomain,
) -> Result<PolicyBody, Vec<BodyProblem>> {
    let (targets, mut problems) = match targets(id, spec.target_refs.clone()) {
        Ok(targets) => (targets, Vec::new()),
        Err(problems) => (Vec::new(), problems),
    };
    let namespace = id.key().namespace;
    let opaque = spec.protocol == Protocol::Tcp;
    if opaque {
        problems.extend(tcp_problem(&spec, &targets));
    }
    let takes_mesh = spec.issuers.iter().any(|issuer| issuer.name == MESH_ISSUER);
    let external = issuers(spec.issuers, &targets, &mut problems);
    let origins = origins(spec.origins, &targets, &mut problems);
    let mut rules = Vec::new();
    for (position, rule) in spec.rules.into_iter().enumerate() {
        rules.push(wire_rule(rule, &namespace, &external, &format!("spec.rules[{position}]"), &mut problems));
    }
    let mode = match spec.mode {
        Mode::Enforce => fapi::Mode::Enforce,
        Mode::Audit => fapi::Mode::Audit,
    };
    let sender_constraints = spec.sender_constraints.into_iter().map(constraint).collect();
    let exempt = spec.exempt.into_iter().map(exemption).collect();
    let spec = PolicySpec { mode, opaque, sender_constraints, takes_mesh, external, origins, rules, exempt };
    if problems.is_empty() {
        let compiled = index::check(trust_domain, &id.key(), &spec).err().unwrap_or_default();
        problems.extend(compiled.into_iter().map(|problem| {
            let remedy = "change it, or the rule that it is in; sidecars read the rules in the same way";
            BodyProblem::new(format!("spec.{}", problem.field), problem.message, remedy)
        }));
    }
    all_or(PolicyBody { targets, spec }, problems)
}

/// What a policy for ports that are not HTTP must not say.
fn tcp_problem(spec: &FapiPolicySpec, targets: &[PolicyTarget]) -> Option<BodyProblem> {
    let callers_alone = |rule: &PolicyRule| {
        let known = PolicyRule { callers: rule.callers.clone(), ..PolicyRule::default() };
        *rule == known && !rule.callers.is_empty() && rule.callers.iter().all(|caller| caller.client_id.is_none())
    };
    if targets.contains(&PolicyTarget::Namespace) {
        let message = "protocol TCP is for the ports of Services: a namespace has ports of both kinds";
        Some(BodyProblem::new("spec.targetRefs", message, "target Services, or ports of them by sectionName"))
    } else if spec.issuers.iter().any(|issuer| issuer.name != MESH_ISSUER) {
        Some(BodyProblem::new("spec.issuers", "protocol TCP takes no tokens, so no FapiIssuer", "remove it"))
    } else if !spec.origins.is_empty() {
        Some(BodyProblem::new("spec.origins", "protocol TCP takes no proofs, so no origins", "remove them"))
    } else if !spec.exempt.is_empty() {
        Some(BodyProblem::new("spec.exempt", "protocol TCP takes no HTTP, so there is nothing to exempt", "remove it"))
    } else if !spec.rules.iter().all(callers_alone) {
        let message = "protocol TCP knows callers and nothing else";
        Some(BodyProblem::new("spec.rules", message, "give rules with callers alone: service accounts or namespaces"))
    } else {
        None
    }
}

/// The same exemption in the rules.
fn exemption(Exemption { port, paths, sources }: Exemption) -> WireExemption {
    WireExemption { port, paths, sources }
}

/// The targets of a policy: ports, Services, or its own namespace.
pub(in crate::source::object) fn targets(
    id: &ObjectId,
    refs: Vec<TargetRef>,
) -> Result<Vec<PolicyTarget>, Vec<BodyProblem>> {
    let own = id.key().namespace;
    let mut problems = Vec::new();
    let mut targets = Vec::new();
    for (position, target) in refs.into_iter().enumerate() {
        let field = |name: &str| format!("spec.targetRefs[{position}].{name}");
        let read = match (target.kind, target.section_name) {
            (TargetKind::Service, Some(section)) => PolicyTarget::Section { service: target.name, section },
            (TargetKind::Service, None) => PolicyTarget::Service { service: target.name },
            (TargetKind::Namespace, section) => {
                if section.is_some() {
                    let message = "sectionName is the name of a Service's port: only a Service has it";
                    problems.push(BodyProblem::new(field("sectionName"), message, "remove it, or target the Service"));
                }
                if target.name != *own {
                    let remedy = format!("write {own}, or move the policy to {}", target.name);
                    problems.push(BodyProblem::new(field("name"), "a policy targets only its own namespace", remedy));
                }
                PolicyTarget::Namespace
            }
        };
        if !targets.contains(&read) {
            targets.push(read);
        }
    }
    all_or(targets, problems)
}

/// The same word in the rules.
pub(super) fn constraint(constraint: SenderConstraint) -> fapi::SenderConstraint {
    match constraint {
        SenderConstraint::Mtls => fapi::SenderConstraint::Mtls,
        SenderConstraint::Dpop => fapi::SenderConstraint::Dpop,
    }
}

fn is_one_service(targets: &[PolicyTarget]) -> bool {
    matches!(targets, [PolicyTarget::Service { .. } | PolicyTarget::Section { .. }])
}

/// Other names of the one Service that a policy targets.
fn origins(listed: Vec<String>, targets: &[PolicyTarget], problems: &mut Vec<BodyProblem>) -> Vec<String> {
    if !listed.is_empty() && !is_one_service(targets) {
        let remedy = "target exactly one Service";
        problems.push(BodyProblem::new("spec.origins", "origins are names of one Service", remedy));
    }
    for (position, origin) in listed.iter().enumerate() {
        if let Err(error) = Origin::parse(origin) {
            let remedy = "write https://host or https://host:port";
            problems.push(BodyProblem::new(format!("spec.origins[{position}]"), error.to_string(), remedy));
        }
    }
    listed
}

/// The FapiIssuers among the issuers of a policy, each once and with audiences. Whether they are there is told in the status.
fn issuers(accepted: Vec<AcceptedIssuer>, targets: &[PolicyTarget], problems: &mut Vec<BodyProblem>) -> Vec<IssuerRef> {
    let one_service = is_one_service(targets);
    let mut names: Vec<String> = Vec::new();
    let mut external = Vec::new();
    for (position, AcceptedIssuer { name, audiences }) in accepted.into_iter().enumerate() {
        let mut problem = |field: &str, message: &str, remedy: &str| {
            problems.push(BodyProblem::new(format!("spec.issuers[{position}]{field}"), message, remedy));
        };
        if names.contains(&name) {
            problem(".name", "stands above already", "name each issuer once");
        } else if (name == MESH_ISSUER) != audiences.is_empty() {
            let message = "audiences are for FapiIssuers, which need them; the mesh's own issuer derives them";
            problem("", message, "write audiences, or remove them");
        } else if name != MESH_ISSUER {
            if !one_service {
                problem(".audiences", "audiences stand for one Service", "target exactly one Service");
            }
            external.push(IssuerRef { name: name.clone(), audiences });
        }
        names.push(name);
    }
    external
}

fn wire_rule(
    rule: PolicyRule,
    namespace: &str,
    external: &[IssuerRef],
    path: &str,
    problems: &mut Vec<BodyProblem>,
) -> WireRule {
    let (mut callers, mut clients) = (Vec::new(), Vec::new());
    for (position, caller) in rule.callers.into_iter().enumerate() {
        let field = format!("{path}.callers[{position}]");
        match read_caller(caller, namespace, external) {
            Ok(Named::Workload(caller)) => callers.push(caller),
            Ok(Named::Client(client)) => clients.push(client),
            Err((message, remedy)) => problems.push(BodyProblem::new(field, message, remedy)),
        }
    }
    if callers.is_empty() && clients.is_empty() {
        callers.push(WireCaller { namespace: namespace.to_owned(), service_account: None });
    }
    WireRule {
        methods: rule.methods.iter().map(|method| method.as_str().to_owned()).collect(),
        paths: rule.paths,
        path_prefixes: rule.path_prefixes,
        callers,
        clients,
        scopes: rule.scopes,
        authorization_details: rule.authorization_details.into_iter().map(detail).collect(),
        max_token_age: rule.max_token_age.map(|text| token_age(&text, path, problems)),
        actors: rule.actors.map(|Actors { min, max }| WireActors { min, max }),
    }
}

/// The same detail in the rules.
pub(super) fn detail(detail: AuthorizationDetail) -> WireDetail {
    let AuthorizationDetail { kind, locations, actions, datatypes, identifier, privileges } = detail;
    WireDetail { kind, locations, actions, datatypes, identifier, privileges }
}

/// Whole seconds: a part of one would only make the bound stricter than `iat` can tell.
fn token_age(text: &str, path: &str, problems: &mut Vec<BodyProblem>) -> u64 {
    let age = crds::duration::parse(text).unwrap_or_default();
    if !(Duration::from_secs(5)..=Duration::from_secs(3600)).contains(&age) {
        let field = format!("{path}.maxTokenAge");
        problems.push(BodyProblem::new(field, format!("{text} is out of bounds"), "write a duration from 5s to 1h"));
    }
    age.as_secs()
}

/// Who an entry of `callers` means.
enum Named {
    Workload(WireCaller),
    Client(WireClient),
}

/// Reads an entry of `callers`; else what is wrong with it and what to do.
fn read_caller(caller: Caller, own: &str, external: &[IssuerRef]) -> Result<Named, (&'static str, &'static str)> {
    let Caller { service_account_name: service_account, namespace, issuer_name, client_id } = caller;
    let is_workload = service_account.is_some() || namespace.is_some();
    let workload = WireCaller { namespace: namespace.unwrap_or_else(|| own.to_owned()), service_account };
    match (issuer_name, client_id) {
        (None, None) if is_workload => Ok(Named::Workload(workload)),
        (None, None) => Err(("an empty caller would be anyone", "name a service account, a namespace, or a client")),
        (Some(issuer), Some(client_id)) => {
            if !external.iter().any(|known| known.name == issuer) {
                return Err(("the policy does not take tokens of this FapiIssuer", "add it to spec.issuers"));
            }
            Ok(Named::Client(WireClient { issuer, client_id, caller: is_workload.then_some(workload) }))
        }
        _ => Err(("a client id means nothing without its issuer", "give issuerName and clientId together")),
    }
}
