//! What operators ask of API servers: each request by its verb and what it is about, from the audit log of every cluster of a test.
//! A right that no test needs is one too many, or a thing that is not tested.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

use serde_json::{Value, json};

use super::folder::Folder;
use super::{operators, programs};

/// Where all operators of tests are at home.
const HOME: &str = "fapi-mesh";

/// Rights for what no test can bring about on a cluster: kind of the role, verb, resource, name, and when it is needed.
const RARELY: [([&str; 4], &str); 2] = [
    (["ClusterRole", "get", "pods", ""], "a pod enrols before the watch has told of it"),
    (["Role", "patch", "secrets", "fapi-mesh-webhook"], "the authority of the webhooks is replaced, after years"),
];

/// A request: where, API group, resource with subresource, name, verb.
type Request = [String; 5];

/// The flags of an API server that writes down what operators ask.
pub(super) fn flags(folder: &Folder) -> [(&'static str, String); 2] {
    let policy = json!({
        "apiVersion": "audit.k8s.io/v1",
        "kind": "Policy",
        "omitStages": ["RequestReceived"],
        "rules": [
            {"level": "Metadata", "users": [format!("system:serviceaccount:{HOME}:fapi-operator")]},
            {"level": "None"},
        ],
    });
    let path = folder.file("audit-policy.json");
    fs::write(&path, policy.to_string()).unwrap();
    [("audit-policy-file", path.display().to_string()), ("audit-log-path", log(folder).display().to_string())]
}

fn log(folder: &Folder) -> PathBuf {
    folder.file("audit.log")
}

/// Keeps what was asked of a cluster that goes.
pub(super) fn keep(folder: &Folder) {
    let log = fs::read(log(folder)).unwrap_or_default();
    // The last line may have been cut off in the middle of a character.
    let log = String::from_utf8_lossy(&log);
    let all: BTreeSet<Request> =
        log.lines().filter_map(|line| serde_json::from_str(line).ok()).flat_map(|event| requests(&event)).collect();
    let kept = programs::asked().join(folder.path().file_name().unwrap_or_default());
    if !all.is_empty() {
        let _ = fs::create_dir_all(programs::asked());
        let _ = fs::write(kept, json!(all).to_string());
    }
}

/// What an event of an audit log says that was asked and was allowed: two things where a patch has made an object, as that takes
/// the right to create it.
fn requests(event: &Value) -> Vec<Request> {
    let about = &event["objectRef"];
    let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    let resource = match text(&about["subresource"]) {
        sub if sub.is_empty() => text(&about["resource"]),
        sub => format!("{}/{sub}", text(&about["resource"])),
    };
    let request = |verb: &str| {
        [text(&about["namespace"]), text(&about["apiGroup"]), resource.clone(), text(&about["name"]), verb.to_owned()]
    };
    let (verb, code) = (text(&event["verb"]), &event["responseStatus"]["code"]);
    match code.as_u64() {
        Some(401 | 403) | None => Vec::new(),
        Some(201) if verb == "patch" => vec![request("patch"), request("create")],
        Some(_) => vec![request(&verb)],
    }
}

/// The rights of the manual that no request of any cluster has needed since the folder of what was asked was last removed.
///
/// # Panics
/// If nothing was kept, or it cannot be read.
pub fn not_asked() -> Vec<String> {
    let kept = fs::read_dir(programs::asked()).unwrap_or_else(|error| panic!("no cluster was asked anything: {error}"));
    let read = |path: &Path| -> Vec<Request> { serde_json::from_slice(&fs::read(path).unwrap()).unwrap() };
    let asked: BTreeSet<Request> = kept.flatten().flat_map(|entry| read(&entry.path())).collect();
    let roles = operators::roles();
    let roles = roles.iter().filter(|role| role["rules"].is_array());
    roles.flat_map(|role| of_role(role, &asked)).collect()
}

fn of_role(role: &Value, asked: &BTreeSet<Request>) -> Vec<String> {
    let list = |value: &Value| -> Vec<String> {
        value.as_array().into_iter().flatten().filter_map(Value::as_str).map(str::to_owned).collect()
    };
    let kind = role["kind"].as_str().unwrap_or_default();
    let in_home = kind == "Role";
    let mut unused = Vec::new();
    for rule in role["rules"].as_array().into_iter().flatten() {
        let group = &list(&rule["apiGroups"])[0];
        let names = match list(&rule["resourceNames"]) {
            names if names.is_empty() => vec![String::new()],
            names => names,
        };
        for (resource, verb) in list(&rule["resources"])
            .iter()
            .flat_map(|resource| list(&rule["verbs"]).into_iter().map(move |verb| (resource.clone(), verb)))
        {
            for name in &names {
                let fits = |[place, of, what, called, how]: &Request| {
                    (!in_home || place == HOME)
                        && of == group
                        && *what == resource
                        && (name.is_empty() || called == name)
                        && *how == verb
                };
                let rarely = RARELY.iter().any(|(right, _)| *right == [kind, &verb, &resource, name]);
                if !rarely && !asked.iter().any(fits) {
                    unused.push(format!("{kind}: {verb} {resource} {name} ({group})"));
                }
            }
        }
    }
    unused
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_request_is_what_an_event_is_about() {
        let event = |verb: &str, code: u32| {
            json!({
                "verb": verb,
                "objectRef": {"apiGroup": "fapi-mesh.dev", "resource": "fapimeshes", "subresource": "status", "name": "default"},
                "responseStatus": {"code": code},
            })
        };
        let request = |verb: &str| ["", "fapi-mesh.dev", "fapimeshes/status", "default", verb].map(str::to_owned);
        assert_eq!(requests(&event("patch", 200)), [request("patch")]);
        assert_eq!(requests(&event("patch", 201)), [request("patch"), request("create")]);
        assert!(requests(&event("patch", 403)).is_empty(), "nobody had the right");
    }

    #[test]
    fn a_right_is_unused_by_its_name_and_its_place() {
        let role = json!({
            "kind": "Role",
            "rules": [{"apiGroups": [""], "resources": ["secrets"], "resourceNames": ["a", "b"], "verbs": ["get"]}],
        });
        let asked = |place: &str, name: &str| [place, "", "secrets", name, "get"].map(str::to_owned);
        let all = [asked(HOME, "a"), asked("bank", "b")].into();
        assert_eq!(of_role(&role, &all), ["Role: get secrets b ()"]);
    }
}
