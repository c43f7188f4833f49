//! The definitions of our kinds: there, served, and those of this version.

use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::CustomResourceDefinition;
use kube::api::Api;
use serde_json::Value as Json;

use super::finding::{Check, Finding, several};
use crate::cluster::{Cluster, Seen, Unseen, ask};

/// Each of our definitions, as this version has it and as it was found.
pub(super) type Definitions = Vec<(CustomResourceDefinition, Seen<CustomResourceDefinition>)>;

const UPGRADE: &str = "upgrade the chart fapi-mesh-crds before the chart fapi-mesh";

/// Asks for each of ours.
pub(super) async fn gather(cluster: &Cluster) -> Definitions {
    let definitions: Api<CustomResourceDefinition> = Api::all(cluster.client());
    let mut found = Vec::new();
    for ours in crds::all() {
        let answer = ask(definitions.get(&name(&ours))).await;
        found.push((ours, answer));
    }
    found
}

/// Before an installation none need be there; those that are must not be older than what comes.
pub(super) fn judge_before(definitions: &Definitions) -> Vec<Finding> {
    let there = definitions.iter().filter(|(_, found)| *found != Err(Unseen::Absent));
    let findings: Vec<Finding> = there.clone().filter_map(|(ours, found)| problem(ours, found, false)).collect();
    match there.count() {
        0 => vec![Finding::ok(Check::Definitions, "none yet; the chart fapi-mesh-crds brings them")],
        count if findings.is_empty() => {
            vec![Finding::ok(Check::Definitions, format!("{count} are there, of version {}", control::VERSION))]
        }
        _ => findings,
    }
}

/// After it, all must be there and served.
pub(super) fn judge(definitions: &Definitions) -> Vec<Finding> {
    let absent = definitions.iter().filter(|(_, found)| *found == Err(Unseen::Absent));
    let absent: Vec<String> = absent.map(|(ours, _)| name(ours)).collect();
    let mut findings = Vec::new();
    if !absent.is_empty() {
        let found = format!("not there: {}", several(&absent));
        findings.push(Finding::failed(Check::Definitions, found, "install the chart fapi-mesh-crds"));
    }
    let there = definitions.iter().filter(|(_, found)| *found != Err(Unseen::Absent));
    findings.extend(there.filter_map(|(ours, found)| problem(ours, found, true)));
    if findings.is_empty() {
        let found = format!("all {} are served, of version {}", definitions.len(), control::VERSION);
        findings.push(Finding::ok(Check::Definitions, found));
    }
    findings
}

/// What is wrong with one that is there, or should be looked at.
fn problem(
    ours: &CustomResourceDefinition,
    found: &Seen<CustomResourceDefinition>,
    installed: bool,
) -> Option<Finding> {
    let name = name(ours);
    let found = match found {
        Ok(found) => found,
        Err(unseen) => return Some(Finding::unseen(Check::Definitions, &name, unseen)),
    };
    let conditions = found.status.iter().flat_map(|status| status.conditions.iter().flatten());
    let mut established = conditions.filter(|condition| condition.type_ == "Established");
    if !established.any(|condition| condition.status == "True") {
        let remedy = format!("look at what its conditions say: kubectl describe crd {name}");
        return Some(Finding::failed(Check::Definitions, format!("{name} is not established"), remedy));
    }
    let (there, ours) = (schema(found), schema(ours));
    if let Some(place) = lacks(&there, &ours, "spec") {
        let found = format!("{name} is not of version {}: {place} is missing or another", control::VERSION);
        let make = if installed { Finding::failed } else { Finding::warning };
        return Some(make(Check::Definitions, found, UPGRADE.to_owned()));
    }
    let place = lacks(&ours, &there, "spec")?;
    let found = format!("{name} is newer than this fapictl, which does not know {place}");
    Some(Finding::warning(Check::Definitions, found, "use the fapictl of the mesh's version"))
}

fn name(definition: &CustomResourceDefinition) -> String {
    definition.metadata.name.clone().unwrap_or_default()
}

/// The schema of the version that we serve; nothing if it is not served.
fn schema(definition: &CustomResourceDefinition) -> Json {
    let version = definition.spec.versions.iter().find(|version| version.name == crds::VERSION && version.served);
    version.and_then(|version| serde_json::to_value(&version.schema).ok()).unwrap_or_default()
        ["openAPIV3Schema"]["properties"]["spec"]
        .take()
}

/// The first place where something that is wanted is not, or is something else.
fn lacks(found: &Json, wanted: &Json, place: &str) -> Option<String> {
    match (found, wanted) {
        (Json::Object(found), Json::Object(wanted)) => wanted.iter().find_map(|(key, wanted)| {
            // Descriptions are for people, and `properties` says nothing to them.
            let inner = if key == "properties" { place.to_owned() } else { format!("{place}.{key}") };
            match found.get(key) {
                _ if key == "description" => None,
                Some(found) => lacks(found, wanted, &inner),
                None => Some(inner),
            }
        }),
        (Json::Array(found), Json::Array(wanted)) if found.len() == wanted.len() => {
            found.iter().zip(wanted).find_map(|(found, wanted)| lacks(found, wanted, place))
        }
        _ => (found != wanted).then(|| place.to_owned()),
    }
}
