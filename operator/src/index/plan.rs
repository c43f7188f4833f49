//! What governs a port, compiled: the document for the sidecar and the same rules for the issuer.

use std::collections::HashMap;
use std::sync::Arc;

use control::PortPolicyDoc;
use fapi::{
    Audience, Mode, SenderConstraint, TcpPolicy, TrustDomain, WireCaller, WireExternal, WirePolicy, WireResource,
    WireRule, WireTcpPolicy,
};

use super::attach::Attachments;
use super::issuers::{self, Issuers};
use crate::crypto;
use crate::model::{Allowed, IssuerRef, IssuerSpec, Key, Model, Policy, PolicySpec, Table};

/// The name of the policy of a port that no object governs.
const BUILT_IN: &str = "built-in";
/// The issuer is known only when a snapshot is written; documents are checked with this one in its place.
const ANY_ISSUER: &str = "https://issuer.invalid";
/// Enough of a hash to tell the versions of one policy apart.
const VERSION_DIGITS: usize = 8;

/// What governs one port. Ports with the same policy and the same audiences share one.
#[derive(Debug)]
pub(crate) struct PortPlan {
    /// Where it comes from.
    pub(crate) governor: Governor,
    /// What the sidecar gets, without the mesh's own issuer.
    doc: PortPolicyDoc,
    /// The same rules, for the issuer; `None` if the port is closed, or takes no tokens.
    pub(crate) policy: Option<Arc<fapi::Policy>>,
    /// Whether tokens of the mesh's own issuer are taken.
    pub(crate) takes_mesh: bool,
    /// A short hash of the document.
    pub(crate) version: String,
}

/// What a port's policy comes from.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) enum Governor {
    /// No object: closed to other namespaces.
    BuiltIn {
        /// The namespace that it is open to.
        namespace: String,
    },
    /// This FapiPolicy.
    Policy(Key),
}

impl Governor {
    /// Whether it is the policy that snapshots know by this name.
    pub(crate) fn is_policy(&self, name: &str) -> bool {
        matches!(self, Self::Policy(key) if name.split_once('/') == Some((&*key.namespace, &*key.name)))
    }
}

impl PortPlan {
    /// The document for a sidecar of a mesh with this issuer.
    pub(crate) fn document(&self, issuer: &str) -> PortPolicyDoc {
        let mut doc = self.doc.clone();
        if let PortPolicyDoc::Policy(wire) = &mut doc {
            wire.issuers = if self.takes_mesh { vec![issuer.to_owned()] } else { Vec::new() };
            // Nobody outside can be the mesh's own issuer, whose tokens name workloads.
            wire.external.retain(|external| external.issuer != issuer);
            if wire.issuers.is_empty() && wire.external.is_empty() {
                return PortPolicyDoc::Invalid { name: std::mem::take(&mut wire.name) };
            }
        }
        doc
    }

    /// Whether the port takes no HTTP.
    pub(crate) fn is_opaque(&self) -> bool {
        matches!(self.doc, PortPolicyDoc::Tcp(_))
    }

    /// Whether tokens bound in this way are taken. A closed port takes none.
    pub(crate) fn accepts(&self, constraint: SenderConstraint) -> bool {
        self.policy.as_ref().is_some_and(|policy| policy.accepts(constraint))
    }
}

/// Makes plans, each once.
pub(super) struct Planner<'a> {
    trust_domain: &'a TrustDomain,
    policies: &'a Table<Key, Policy>,
    issuers: Issuers<'a>,
    attachments: &'a Attachments,
    made: HashMap<(Governor, Vec<Audience>), Arc<PortPlan>>,
}

impl<'a> Planner<'a> {
    pub(super) fn new(trust_domain: &'a TrustDomain, model: &'a Model, attachments: &'a Attachments) -> Self {
        let (policies, issuers) = (&model.policies, Issuers(&model.issuers));
        Self { trust_domain, policies, issuers, attachments, made: HashMap::new() }
    }

    /// The plan of a port of a pod in `namespace` behind these Service ports, all of the same namespace.
    pub(super) fn plan(&mut self, namespace: &str, fronts: &[(&Key, &str)]) -> Arc<PortPlan> {
        let governor = match self.attachments.governing(fronts) {
            Some(key) => Governor::Policy(key.clone()),
            None => Governor::BuiltIn { namespace: namespace.to_owned() },
        };
        let mut audiences: Vec<Audience> = fronts
            .iter()
            .filter_map(|(service, _)| Audience::for_service(&service.name, &service.namespace).ok())
            .collect();
        audiences.sort_by(|a, b| a.as_str().cmp(b.as_str()));
        audiences.dedup();
        let made = self.made.entry((governor, audiences));
        let (trust_domain, policies, issuers) = (self.trust_domain, self.policies, self.issuers);
        made.or_insert_with_key(|(governor, audiences)| {
            let (name, spec) = specification(policies, governor);
            Arc::new(make(trust_domain, issuers, (governor, name, spec), audiences))
        })
        .clone()
    }
}

/// The name of what governs, and what it says; `None` if it is closed.
fn specification(policies: &Table<Key, Policy>, governor: &Governor) -> (String, Option<PolicySpec>) {
    match governor {
        Governor::BuiltIn { namespace } => (BUILT_IN.to_owned(), Some(built_in(namespace))),
        Governor::Policy(key) => (key.to_string(), policies.get(key).and_then(|policy| policy.spec.clone())),
    }
}

fn make(
    trust_domain: &TrustDomain,
    issuers: Issuers<'_>,
    (governor, name, spec): (&Governor, String, Option<PolicySpec>),
    audiences: &[Audience],
) -> PortPlan {
    if let Some(spec) = spec.as_ref().filter(|spec| spec.opaque) {
        return make_tcp(trust_domain, governor, name, spec);
    }
    let takes_mesh = spec.as_ref().is_some_and(|spec| spec.takes_mesh);
    // Where no Service leads there is nothing that a token could be for: the port is closed, and nobody has made a mistake.
    let compiled = spec.filter(|_| !audiences.is_empty()).and_then(|spec| {
        let external = external(issuers, governor, &spec, audiences);
        if !takes_mesh && external.is_empty() {
            // None of its issuers may be used, so there is nobody to take a token of; the status says why.
            return None;
        }
        let wire = wire(name.clone(), spec, audiences, external);
        // What the sidecar would refuse is never sent: the port is closed instead, under the policy's own name.
        match fapi::Policy::compile(trust_domain, &wire) {
            Ok(policy) => Some((wire, Arc::new(policy))),
            Err(problems) => {
                tracing::error!(
                    policy = name,
                    ?problems,
                    "a policy that was accepted does not compile; its ports are closed"
                );
                None
            }
        }
    });
    let (doc, policy) = match compiled {
        Some((wire, policy)) => (PortPolicyDoc::Policy(wire), Some(policy)),
        None => (PortPolicyDoc::Invalid { name }, None),
    };
    PortPlan { governor: governor.clone(), version: version(&doc), doc, policy, takes_mesh }
}

/// The plan of a port that takes no HTTP.
fn make_tcp(trust_domain: &TrustDomain, governor: &Governor, name: String, spec: &PolicySpec) -> PortPlan {
    let wire = tcp(name.clone(), spec);
    let doc = match TcpPolicy::compile(trust_domain, &wire) {
        Ok(_) => PortPolicyDoc::Tcp(wire),
        Err(problems) => {
            tracing::error!(
                policy = name,
                ?problems,
                "a policy that was accepted does not compile; its ports are closed"
            );
            PortPolicyDoc::Invalid { name }
        }
    };
    PortPlan { governor: governor.clone(), version: version(&doc), doc, policy: None, takes_mesh: false }
}

/// Any of the rules admits, and they know nothing but callers.
fn tcp(name: String, spec: &PolicySpec) -> WireTcpPolicy {
    let callers = spec.rules.iter().flat_map(|rule| rule.callers.clone()).collect();
    WireTcpPolicy { name, mode: spec.mode, callers }
}

/// What the issuers that a policy names say; one that it may not use admits nothing, and the rest of the policy holds.
fn external(issuers: Issuers<'_>, governor: &Governor, spec: &PolicySpec, audiences: &[Audience]) -> Vec<WireExternal> {
    let Governor::Policy(key) = governor else { return Vec::new() };
    let resolved = issuers.resolve_all(&key.namespace, &spec.external).flatten();
    let origins = origins(audiences, &spec.origins);
    resolved.map(|(wanted, found, allowed)| issuers::wire(wanted, found, allowed, &origins)).collect()
}

/// All defaults: open to the own namespace, to bound tokens of the mesh only.
fn built_in(namespace: &str) -> PolicySpec {
    let anyone = WireRule {
        callers: vec![WireCaller { namespace: namespace.to_owned(), service_account: None }],
        ..WireRule::default()
    };
    PolicySpec {
        mode: Mode::Enforce,
        opaque: false,
        sender_constraints: vec![SenderConstraint::Mtls, SenderConstraint::Dpop],
        takes_mesh: true,
        external: Vec::new(),
        origins: Vec::new(),
        rules: vec![anyone],
        exempt: Vec::new(),
    }
}

/// The origins of a port: the derived ones, which are also its audiences, and those that its policy lists.
fn origins(derived: &[Audience], listed: &[String]) -> Vec<String> {
    let mut origins: Vec<String> = derived.iter().map(ToString::to_string).collect();
    origins.extend(listed.iter().filter(|listed| !derived.iter().any(|known| known.as_str() == **listed)).cloned());
    origins
}

fn wire(name: String, spec: PolicySpec, audiences: &[Audience], external: Vec<WireExternal>) -> WirePolicy {
    let resource = |audience: &Audience| WireResource {
        audience: audience.to_string(),
        origins: origins(std::slice::from_ref(audience), &spec.origins),
    };
    WirePolicy {
        name,
        mode: spec.mode,
        resources: audiences.iter().map(resource).collect(),
        issuers: vec![ANY_ISSUER.to_owned()],
        external,
        sender_constraints: spec.sender_constraints,
        rules: spec.rules,
        exempt: spec.exempt,
    }
}

/// Compiles a specification by itself, before it is attached to anything, to find what is wrong with it.
pub(crate) fn check(trust_domain: &TrustDomain, name: &Key, spec: &PolicySpec) -> Result<(), Vec<fapi::PolicyProblem>> {
    if spec.opaque {
        return TcpPolicy::compile(trust_domain, &tcp(name.to_string(), spec)).map(drop);
    }
    let audience = Audience::for_service("service", "namespace").ok();
    let wire = wire(name.to_string(), spec.clone(), audience.as_slice(), Vec::new());
    fapi::Policy::compile(trust_domain, &wire).map(drop)
}

/// Compiles a FapiIssuer as the part of a policy that it will be, to find what is wrong with it.
pub(crate) fn check_issuer(
    trust_domain: &TrustDomain,
    name: &str,
    spec: &IssuerSpec,
) -> Result<(), Vec<fapi::PolicyProblem>> {
    const PART: &str = "external[0].";
    let audience = Audience::for_service("service", "namespace").ok();
    let audiences: Vec<String> = spec.allow.values().flat_map(|allowed| allowed.audiences.clone()).collect();
    let scopes = spec.allow.values().flat_map(|allowed| allowed.scopes.clone()).collect();
    let allowed = Allowed { audiences: audiences.clone(), scopes };
    // One that allows nobody is in order, and of no use.
    let audiences = if audiences.is_empty() { vec![ANY_ISSUER.to_owned()] } else { audiences };
    let wanted = IssuerRef { name: name.to_owned(), audiences };
    let external = issuers::wire(&wanted, spec, &allowed, &origins(audience.as_slice(), &[]));
    let wire = wire(BUILT_IN.to_owned(), built_in("namespace"), audience.as_slice(), vec![external]);
    let compiled = fapi::Policy::compile(trust_domain, &wire).map(drop);
    compiled.map_err(|problems| {
        let own = problems.into_iter().map(|problem| {
            let field = problem.field.strip_prefix(PART).unwrap_or(&problem.field).to_owned();
            fapi::PolicyProblem { field, ..problem }
        });
        own.collect()
    })
}

fn version(doc: &PortPolicyDoc) -> String {
    // A document of strings and lists always becomes JSON; an empty one would only make versions look equal.
    let json = serde_json::to_vec(doc).unwrap_or_default();
    let mut hash = crypto::sha256_hex(&json);
    hash.truncate(VERSION_DIGITS);
    hash
}
