//! A small API server: objects by path, versions that must fit, and a list of what was asked.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};

use http::Method;
use kube::Client;
use serde_json::{Value as Json, json};

use super::api::{self, Answer, Asked, failure};

/// The cluster of one test.
#[derive(Clone, Default)]
pub(crate) struct Cluster(Arc<Mutex<Contents>>);

#[derive(Default)]
struct Contents {
    objects: BTreeMap<String, Json>,
    version: u64,
    writes: Vec<String>,
    down: bool,
    /// What somebody else writes after the next answer.
    meanwhile: Vec<(String, Json)>,
}

impl Cluster {
    pub(crate) fn client(&self) -> Client {
        let contents = self.0.clone();
        api::client(move |asked| {
            let mut contents = contents.lock().unwrap();
            let answer = contents.answer(&asked);
            for (path, object) in std::mem::take(&mut contents.meanwhile) {
                contents.keep(&path, object);
            }
            answer
        })
    }

    /// An object by its path.
    pub(crate) fn object(&self, path: &str) -> Option<Json> {
        self.0.lock().unwrap().objects.get(path).cloned()
    }

    /// Somebody else writes.
    pub(crate) fn put(&self, path: &str, object: Json) {
        self.0.lock().unwrap().keep(path, object);
    }

    /// Somebody else writes all of this after the next answer.
    pub(crate) fn put_meanwhile(&self, objects: impl IntoIterator<Item = (String, Json)>) {
        self.0.lock().unwrap().meanwhile.extend(objects);
    }

    /// Somebody else deletes.
    pub(crate) fn remove(&self, path: &str) {
        self.0.lock().unwrap().objects.remove(path).unwrap();
    }

    /// Method and path of every write since the last look.
    pub(crate) fn writes(&self) -> Vec<String> {
        std::mem::take(&mut self.0.lock().unwrap().writes)
    }

    /// Whether it answers at all.
    pub(crate) fn answers(&self, whether: bool) {
        self.0.lock().unwrap().down = !whether;
    }
}

impl Contents {
    fn keep(&mut self, path: &str, mut object: Json) -> Answer {
        self.version += 1;
        object["metadata"]["resourceVersion"] = self.version.to_string().into();
        self.objects.insert(path.to_owned(), object.clone());
        (200, object.to_string())
    }

    fn answer(&mut self, asked: &Asked) -> Answer {
        if self.down {
            return failure(503);
        }
        if asked.method != Method::GET {
            self.writes.push(format!("{} {}", asked.method, asked.path));
        }
        let (path, body) = (asked.path.strip_suffix("/status").unwrap_or(&asked.path), asked.body.clone());
        let found = self.objects.get(path).cloned();
        let stale = |found: &Json| {
            let wanted = &body["metadata"]["resourceVersion"];
            !wanted.is_null() && *wanted != found["metadata"]["resourceVersion"]
        };
        match (asked.method.clone(), found) {
            (Method::POST, _) => {
                let path = format!("{path}/{}", body["metadata"]["name"].as_str().unwrap());
                if self.objects.contains_key(&path) { failure(409) } else { self.keep(&path, body) }
            }
            (Method::GET, Some(found)) => (200, found.to_string()),
            (Method::GET, None) if path.matches('/').count() == 3 => self.list(path, &asked.query),
            (Method::PUT | Method::PATCH, Some(found)) if stale(&found) => failure(409),
            (Method::PUT, Some(_)) => self.keep(path, body),
            (Method::DELETE, Some(_)) => {
                self.objects.remove(path);
                (200, json!({"kind": "Status", "apiVersion": "v1", "status": "Success"}).to_string())
            }
            (Method::PATCH, found)
                if asked.query.contains("fieldManager") && (found.is_some() || path == asked.path) =>
            {
                self.merge(path, found.unwrap_or_else(|| json!({})), &body)
            }
            (Method::PATCH, Some(found)) => self.merge(path, found, &body),
            _ => failure(404),
        }
    }

    /// Objects of a kind of the core group in all namespaces, of the one name that is asked for.
    fn list(&self, path: &str, query: &str) -> Answer {
        let ours =
            |found: &&Json| query.contains(&format!("metadata.name%3D{}", found["metadata"]["name"].as_str().unwrap()));
        let kind = path.replace("/api/v1/", "/");
        let of_kind =
            self.objects.iter().filter(|(path, _)| path.rsplit_once('/').is_some_and(|(of, _)| of.ends_with(&kind)));
        let items: Vec<&Json> = of_kind.map(|(_, object)| object).filter(ours).collect();
        (200, json!({"metadata": {}, "items": items}).to_string())
    }

    /// RFC 7386, one level deep; more is not asked for.
    fn merge(&mut self, path: &str, mut found: Json, patch: &Json) -> Answer {
        for (field, value) in patch.as_object().unwrap() {
            match (field.as_str(), value) {
                ("metadata" | "data", Json::Object(members)) => {
                    for (name, value) in members {
                        match found[field].as_object_mut() {
                            Some(known) if value.is_null() && name != "resourceVersion" => drop(known.remove(name)),
                            _ => found[field][name] = value.clone(),
                        }
                    }
                }
                _ => found[field] = value.clone(),
            }
        }
        self.keep(path, found)
    }
}
