//! From a document to an object of the neutral model, with everything that is wrong found at once.

mod body;
mod guess;
mod id;
mod schemas;
#[cfg(test)]
mod tests;

use fapi::TrustDomain;

pub(super) use self::body::{Body, WorkloadBody};
pub(crate) use self::id::{Kind, ObjectId};
pub(crate) use self::schemas::Schemas;
use super::documents::Document;
use super::located::{self, Node};
use super::problem::Finding;
use crate::model::PolicyTarget;

/// What a document turned out to be.
#[derive(Clone, Debug)]
pub(super) enum Parsed {
    /// An object that can be put in force.
    Good(Box<Written>),
    /// Not one.
    Bad(Bad),
}

/// A good object as it was written.
#[derive(Clone, Debug)]
pub(super) struct Written {
    pub(super) id: ObjectId,
    /// The line on which it starts.
    pub(super) line: u32,
    /// The document, to see whether it changed and to keep it.
    pub(super) content: serde_json::Value,
    /// The same with lines.
    pub(super) node: Node,
    pub(super) body: Body,
}

/// A document that is no good, and what could be read of it all the same.
#[derive(Clone, Debug)]
pub(super) struct Bad {
    /// Which object it is, if that can be read.
    pub(super) id: Option<ObjectId>,
    /// True if `id` was guessed from text that is not even YAML.
    pub(super) guessed: bool,
    /// The line on which it starts.
    pub(super) line: u32,
    pub(super) closes: Closes,
    /// Never empty.
    pub(super) findings: Vec<Finding>,
}

/// What an object closes while no version of it is good: as much as can be read, else everything.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Closes {
    /// What a policy targets, if that can be read.
    pub(super) targets: Option<Vec<PolicyTarget>>,
    /// Whether calls out of the mesh end, as far as a FapiMesh says.
    pub(super) unmeshed: bool,
}

impl Closes {
    const EVERYTHING: Self = Self { targets: None, unmeshed: true };
}

impl Parsed {
    /// What this version closes if it cannot be put in force.
    pub(super) fn closes(&self) -> Closes {
        let body = match self {
            Self::Good(written) => &written.body,
            Self::Bad(bad) => return bad.closes.clone(),
        };
        let targets = if let Body::Policy(policy) = body { policy.targets.clone() } else { Vec::new() };
        let unmeshed = matches!(body, Body::Mesh(mesh) if mesh.unmeshed_refused);
        Closes { targets: Some(targets), unmeshed }
    }
}

/// Reads one document.
pub(super) fn parse(schemas: &Schemas, trust_domain: &TrustDomain, document: Document<'_>) -> Parsed {
    match located::read(document.text, document.line) {
        Ok(node) => parse_node(schemas, trust_domain, node),
        Err(finding) => Parsed::Bad(Bad {
            id: guess::id(document.text),
            guessed: true,
            line: document.line,
            closes: Closes::EVERYTHING,
            findings: vec![finding],
        }),
    }
}

/// Reads a document that is YAML.
pub(super) fn parse_node(schemas: &Schemas, trust_domain: &TrustDomain, node: Node) -> Parsed {
    let id = ObjectId::of(&node);
    let (line, mut findings) = (node.line, schemas.check(&node));
    if let (true, Some(id)) = (findings.is_empty(), &id) {
        let content = node.to_json();
        match body::read(id, &content, trust_domain) {
            Ok(body) => {
                return Parsed::Good(Box::new(Written { id: id.clone(), line, content, node, body }));
            }
            Err(problems) => findings.extend(problems.into_iter().map(|problem| problem.locate(&node))),
        }
    }
    if findings.is_empty() {
        findings.push(Finding::new(
            line,
            "metadata",
            "cannot be read as a name",
            "write metadata.name and metadata.namespace",
        ));
    }
    let closes = id.as_ref().map_or(Closes::EVERYTHING, |id| Closes {
        targets: schemas.readable_targets(id, &node).filter(|_| id.kind == Kind::FapiPolicy),
        unmeshed: body::may_refuse_unmeshed(&node),
    });
    Parsed::Bad(Bad { id, guessed: false, line, closes, findings })
}
