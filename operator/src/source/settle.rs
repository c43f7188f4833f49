//! From what stands in the files and what was good before to what is in force. Pure, and indifferent to the order of files.
//!
//! What was good stays in force until it is replaced by something good or removed on purpose: a file that is gone, or in order
//! without the object, is on purpose; a file with something unreadable in it is not.

#[cfg(test)]
mod tests;

use std::collections::{BTreeMap, BTreeSet};

use fapi::TrustDomain;

use super::object::{Body, Closes, Kind, ObjectId, Parsed, Written};
use super::problem::{Finding, Problem};

/// A file, read.
#[derive(Clone, Debug)]
pub(super) struct ReadFile {
    pub(super) name: String,
    /// Its documents, or why there are none.
    pub(super) documents: Result<Vec<Parsed>, Finding>,
}

/// An object in force.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Good {
    pub(super) file: String,
    pub(super) line: u32,
    /// Grows with each change of the content.
    pub(super) generation: i64,
    /// Seconds since 1970; 0 in a folder, which knows no age.
    pub(super) created: u64,
    pub(super) content: serde_json::Value,
    pub(super) body: Body,
}

/// An object whose last version is not in force.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Broken {
    /// What is wrong, in one line.
    pub(super) fault: String,
    /// As in [`Good`], where a broken version has one too.
    pub(super) generation: Option<i64>,
    pub(super) created: u64,
    pub(super) closes: Closes,
}

/// The outcome.
#[derive(Clone, Debug, Default, PartialEq)]
pub(super) struct Settled {
    /// What is in force.
    pub(super) good: BTreeMap<ObjectId, Good>,
    /// What has a version that is not; it may have an older one in `good`.
    pub(super) broken: BTreeMap<ObjectId, Broken>,
    /// Everything that is wrong, by place.
    pub(super) problems: Vec<Problem>,
}

/// One occurrence of an object.
pub(super) type Place<'a> = (&'a str, &'a Parsed);

/// Settles what is in force. A FapiMesh of another trust domain than `fixed` is refused.
pub(super) fn settle(before: &BTreeMap<ObjectId, Good>, files: &[ReadFile], fixed: Option<&TrustDomain>) -> Settled {
    let mut settled = Settled::default();
    let mut places: BTreeMap<&ObjectId, Vec<Place<'_>>> = BTreeMap::new();
    // Files in which any object might stand unread.
    let mut unread: BTreeSet<&str> = BTreeSet::new();
    for file in files {
        let documents = file.documents.as_ref().map(Vec::as_slice).unwrap_or_else(|finding| {
            unread.insert(&file.name);
            settled.problems.push(finding.clone().in_file(&file.name));
            &[]
        });
        for parsed in documents {
            if let Parsed::Bad(bad) = parsed {
                settled.problems.extend(bad.findings.iter().map(|finding| finding.clone().in_file(&file.name)));
                if bad.guessed || bad.id.is_none() {
                    unread.insert(&file.name);
                }
            }
            if let Some(id) = parsed.id() {
                places.entry(id).or_default().push((&file.name, parsed));
            }
        }
    }
    for (id, places) in &places {
        place(&mut settled, id, places, before.get(id), fixed);
    }
    for (id, good) in before {
        if !places.contains_key(id) && unread.contains(good.file.as_str()) {
            settled.good.insert(id.clone(), good.clone());
        }
    }
    settled.problems.sort();
    settled
}

/// Puts one object in force, or keeps what was.
pub(super) fn place(
    settled: &mut Settled,
    id: &ObjectId,
    places: &[Place<'_>],
    before: Option<&Good>,
    fixed: Option<&TrustDomain>,
) {
    let fault = match places {
        [(file, Parsed::Good(written))] => match refused(written, before, fixed) {
            None => {
                settled.good.insert(id.clone(), good(file, written, before));
                return;
            }
            Some(finding) => vec![finding.in_file(file)],
        },
        // Its findings are listed already.
        [(file, Parsed::Bad(bad))] => {
            let first = bad.findings.first().map(|finding| finding.clone().in_file(file).to_string());
            settled.break_object(id, first.unwrap_or_default(), bad.closes.clone(), before);
            return;
        }
        several => twice(id, several),
    };
    let closes = closed_by(places);
    settled.break_object(id, fault.first().map(Problem::to_string).unwrap_or_default(), closes, before);
    settled.problems.extend(fault);
}

fn good(file: &str, written: &Written, before: Option<&Good>) -> Good {
    let generation = before.map_or(1, |before| before.generation + i64::from(before.content != written.content));
    Good {
        file: file.to_owned(),
        line: written.line,
        generation,
        created: 0,
        content: written.content.clone(),
        body: written.body.clone(),
    }
}

/// What may not change in the life of an object.
fn refused(written: &Written, before: Option<&Good>, fixed: Option<&TrustDomain>) -> Option<Finding> {
    match (&written.body, before.map(|before| &before.body)) {
        (Body::Client(now), Some(Body::Client(was))) if now.service_account != was.service_account => {
            let field = "spec.serviceAccountName";
            let message = format!("immutable; it was {}", was.service_account);
            Some(Finding::new(
                written.node.line_at(field),
                field,
                message,
                "make another FapiClient, and remove this one",
            ))
        }
        (Body::Issuer(now), Some(Body::Issuer(was))) if now.server.issuer != was.server.issuer => {
            let field = "spec.issuer";
            let message = format!("immutable; it was {}", was.server.issuer);
            let remedy = "make another FapiIssuer, and remove this one";
            Some(Finding::new(written.node.line_at(field), field, message, remedy))
        }
        (Body::Mesh(now), _) => {
            let (named, fixed) = (now.trust_domain.as_deref()?, fixed?);
            let field = "spec.trustDomain";
            let message = format!("immutable; this mesh was made as {fixed}");
            let remedy = format!("write {fixed}, or start the operator with another state folder: a new mesh");
            (named != fixed.as_str()).then(|| Finding::new(written.node.line_at(field), field, message, remedy))
        }
        _ => None,
    }
}

/// The problem of an object that stands in several places: each names the others.
fn twice(id: &ObjectId, places: &[Place<'_>]) -> Vec<Problem> {
    let at = |(file, parsed): &Place<'_>| format!("{file}:{}", parsed.line());
    let problem = |place: &Place<'_>| {
        let others: Vec<String> = places.iter().map(at).filter(|other| *other != at(place)).collect();
        let message = format!("{id} stands also at {}", others.join(", "));
        Finding::new(place.1.line(), "metadata.name", message, "keep one of them").in_file(place.0)
    };
    places.iter().map(problem).collect()
}

/// Everything that any of the versions closes.
fn closed_by(places: &[Place<'_>]) -> Closes {
    let all: Vec<Closes> = places.iter().map(|(_, parsed)| parsed.closes()).collect();
    let unmeshed = all.iter().any(|closes| closes.unmeshed);
    let targets: Option<Vec<_>> = all.into_iter().map(|closes| closes.targets).collect();
    let targets = targets.map(|all| BTreeSet::from_iter(all.into_iter().flatten()).into_iter().collect());
    Closes { targets, unmeshed }
}

impl Settled {
    fn break_object(&mut self, id: &ObjectId, fault: String, closes: Closes, before: Option<&Good>) {
        if let Some(before) = before {
            self.good.insert(id.clone(), before.clone());
        }
        self.broken.insert(id.clone(), Broken { fault, generation: None, created: 0, closes });
    }

    /// What is wrong with the FapiMesh object, if no version of it is in force.
    pub(super) fn broken_mesh(&self) -> Option<&str> {
        let (_, broken) =
            self.broken.iter().find(|(id, _)| id.kind == Kind::FapiMesh && !self.good.contains_key(id))?;
        Some(&broken.fault)
    }
}

impl Parsed {
    fn id(&self) -> Option<&ObjectId> {
        match self {
            Self::Good(written) => Some(&written.id),
            Self::Bad(bad) => bad.id.as_ref(),
        }
    }

    fn line(&self) -> u32 {
        match self {
            Self::Good(written) => written.line,
            Self::Bad(bad) => bad.line,
        }
    }
}
