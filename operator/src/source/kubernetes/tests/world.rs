//! A cluster that tests make of YAML.

use kube::core::DynamicObject;
use serde_json::{Value as Json, json};

use super::super::facts;
use super::super::objects::{Change, News, Objects};
use super::super::watched::Watched;
use crate::model::{Key, Model};
use crate::source::documents;
use crate::testing::domain;
use crate::view::View;

/// Everything listed, and told at once.
pub(super) struct World {
    pub(super) objects: Objects,
    version: u64,
}

impl World {
    /// An empty cluster.
    pub(super) fn new() -> Self {
        let mut objects = Objects::new(domain());
        objects.fix(domain());
        for watched in Watched::ALL {
            objects.take(News { watched, change: Change::Listed(Vec::new()), version: 1 });
        }
        Self { objects, version: 1 }
    }

    /// A cluster of these documents.
    pub(super) fn of(yaml: &str) -> Self {
        let mut world = Self::new();
        world.put(yaml);
        world
    }

    /// Creates or replaces.
    pub(super) fn put(&mut self, yaml: &str) {
        for document in documents::split(yaml) {
            let mut object: Json = serde_saphyr::from_str(document.text).unwrap();
            let watched = watched(&object);
            let name = object["metadata"]["name"].as_str().unwrap().to_owned();
            if object["metadata"]["uid"].is_null() {
                object["metadata"]["uid"] = format!("uid-of-{name}").into();
            }
            if object["metadata"]["generation"].is_null() {
                object["metadata"]["generation"] = self.version.into();
            }
            self.tell(watched, Change::Put, object);
        }
    }

    /// Deletes.
    pub(super) fn remove(&mut self, watched: Watched, namespace: &str, name: &str) {
        self.tell(watched, |key, _| Change::Gone(key), json!({"metadata": {"name": name, "namespace": namespace}}));
    }

    fn tell(&mut self, watched: Watched, change: impl FnOnce(Key, facts::Fact) -> Change, object: Json) {
        self.version += 1;
        let object: DynamicObject = serde_json::from_value(object).unwrap();
        let (key, version) = (facts::key(&object), self.version);
        let change = change(key, facts::read(watched, object));
        self.objects.take(News { watched, change, version });
    }

    pub(super) fn model(&mut self) -> Model {
        self.objects.desired().model
    }

    pub(super) fn view(&mut self) -> View {
        View::empty(domain()).next(1, self.model())
    }
}

pub(super) fn watched(object: &Json) -> Watched {
    let kind = object["kind"].as_str().unwrap();
    Watched::ALL.into_iter().find(|watched| watched.name() == kind).unwrap()
}

/// A pod with a sidecar, labelled with its service account, which serves at 8080.
pub(super) fn pod(name: &str, account: &str, address: &str) -> String {
    format!(
        "kind: Pod
metadata: {{name: {name}, namespace: bank, uid: uid-of-{name}, labels: {{app: {account}}}}}
spec:
  serviceAccountName: {account}
  nodeName: node-1
  initContainers: [{{name: fapi-sidecar, restartPolicy: Always, ports: [{{containerPort: 15020}}]}}]
  containers: [{{name: app, ports: [{{name: http, containerPort: 8080}}]}}]
status: {{phase: Running, podIPs: [{{ip: {address}}}]}}
"
    )
}

/// One without.
pub(super) fn bare(name: &str, account: &str, address: &str) -> String {
    pod(name, account, address).replace("fapi-sidecar", "setup")
}

/// A Service of port 80 before the pods of an app.
pub(super) fn service(name: &str, app: &str, address: &str) -> String {
    format!(
        "kind: Service
metadata: {{name: {name}, namespace: bank}}
spec:
  clusterIPs: [{address}]
  selector: {{app: {app}}}
  ports: [{{name: web, port: 80, targetPort: http}}]
"
    )
}

/// A slice that says this of a pod.
pub(super) fn slice(service: &str, pod: &str, address: &str, conditions: &str) -> String {
    format!(
        "kind: EndpointSlice
metadata: {{name: {service}-{pod}, namespace: bank, labels: {{kubernetes.io/service-name: {service}}}}}
addressType: IPv4
ports: [{{name: web, port: 8080, protocol: TCP}}]
endpoints:
- addresses: [{address}]
  conditions: {{{conditions}}}
  targetRef: {{kind: Pod, namespace: bank, name: {pod}, uid: uid-of-{pod}}}
"
    )
}

pub(super) const READY: &str = "ready: true, serving: true, terminating: false";
