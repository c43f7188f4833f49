//! What governs a port, compiled: the document for the sidecar and the same rules for the issuer.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use control::PortPolicyDoc;
use fapi::{Audience, Mode, SenderConstraint, TrustDomain, WireCaller, WirePolicy, WireResource, WireRule};

use super::attach::Attachments;
use crate::crypto;
use crate::model::{Key, Policy, PolicySpec};

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
    /// What the sidecar gets, without the issuer.
    doc: PortPolicyDoc,
    /// The same rules, for the issuer; `None` if the port is closed.
    pub(crate) policy: Option<Arc<fapi::Policy>>,
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

impl PortPlan {
    /// The document for a sidecar of a mesh with this issuer.
    pub(crate) fn document(&self, issuer: &str) -> PortPolicyDoc {
        let mut doc = self.doc.clone();
        if let PortPolicyDoc::Policy(wire) = &mut doc {
            wire.issuers = vec![issuer.to_owned()];
        }
        doc
    }

    /// Whether tokens bound in this way are taken. A closed port takes none.
    pub(crate) fn accepts(&self, constraint: SenderConstraint) -> bool {
        self.policy.as_ref().is_some_and(|policy| policy.accepts(constraint))
    }
}

/// Makes plans, each once.
pub(super) struct Planner<'a> {
    trust_domain: &'a TrustDomain,
    policies: &'a BTreeMap<Key, Policy>,
    attachments: &'a Attachments,
    made: HashMap<(Governor, Vec<Audience>), Arc<PortPlan>>,
}

impl<'a> Planner<'a> {
    pub(super) fn new(
        trust_domain: &'a TrustDomain,
        policies: &'a BTreeMap<Key, Policy>,
        attachments: &'a Attachments,
    ) -> Self {
        Self { trust_domain, policies, attachments, made: HashMap::new() }
    }

    /// The plan of a port of a pod in `namespace` behind these Service ports.
    pub(super) fn plan(&mut self, namespace: &str, fronts: &[(&Key, &str)]) -> Arc<PortPlan> {
        // A Service of another namespace cannot open a port, nor give it a name.
        let own: Vec<_> = fronts.iter().copied().filter(|(service, _)| *service.namespace == *namespace).collect();
        let governor = match self.attachments.governing(namespace, &own) {
            Some(key) => Governor::Policy(key.clone()),
            None => Governor::BuiltIn { namespace: namespace.to_owned() },
        };
        let mut audiences: Vec<Audience> = own
            .iter()
            .filter_map(|(service, _)| Audience::for_service(&service.name, &service.namespace).ok())
            .collect();
        audiences.sort_by(|a, b| a.as_str().cmp(b.as_str()));
        audiences.dedup();
        let made = self.made.entry((governor, audiences));
        let (trust_domain, policies) = (self.trust_domain, self.policies);
        made.or_insert_with_key(|(governor, audiences)| Arc::new(make(trust_domain, policies, governor, audiences)))
            .clone()
    }
}

fn make(
    trust_domain: &TrustDomain,
    policies: &BTreeMap<Key, Policy>,
    governor: &Governor,
    audiences: &[Audience],
) -> PortPlan {
    let (name, spec) = match governor {
        Governor::BuiltIn { namespace } => (BUILT_IN.to_owned(), Some(built_in(namespace))),
        Governor::Policy(key) => (key.to_string(), policies.get(key).and_then(|policy| policy.spec.clone())),
    };
    let compiled = spec.and_then(|spec| {
        let wire = wire(name.clone(), spec, audiences);
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
    PortPlan { governor: governor.clone(), version: version(&doc), doc, policy }
}

/// All defaults: open to the own namespace, to bound tokens of the mesh only.
fn built_in(namespace: &str) -> PolicySpec {
    let anyone = WireRule {
        callers: vec![WireCaller { namespace: namespace.to_owned(), service_account: None }],
        ..WireRule::default()
    };
    PolicySpec {
        mode: Mode::Enforce,
        sender_constraints: vec![SenderConstraint::Mtls, SenderConstraint::Dpop],
        rules: vec![anyone],
    }
}

fn wire(name: String, spec: PolicySpec, audiences: &[Audience]) -> WirePolicy {
    let resource =
        |audience: &Audience| WireResource { audience: audience.to_string(), origins: vec![audience.to_string()] };
    WirePolicy {
        name,
        mode: spec.mode,
        resources: audiences.iter().map(resource).collect(),
        issuers: vec![ANY_ISSUER.to_owned()],
        sender_constraints: spec.sender_constraints,
        rules: spec.rules,
    }
}

/// Compiles a specification by itself, before it is attached to anything, to find what is wrong with it.
pub(crate) fn check(trust_domain: &TrustDomain, name: &Key, spec: &PolicySpec) -> Result<(), Vec<fapi::PolicyProblem>> {
    let audience = Audience::for_service("service", "namespace").ok();
    let wire = wire(name.to_string(), spec.clone(), audience.as_slice());
    fapi::Policy::compile(trust_domain, &wire).map(drop)
}

fn version(doc: &PortPolicyDoc) -> String {
    // A document of strings and lists always becomes JSON; an empty one would only make versions look equal.
    let json = serde_json::to_vec(doc).unwrap_or_default();
    let mut hash = crypto::sha256_hex(&json);
    hash.truncate(VERSION_DIGITS);
    hash
}
