//! The roots of the mesh in every namespace in which a sidecar may start: what it verifies the operator by before it says
//! anything.

use std::future::Future;
use std::sync::Arc;
use std::time::Duration;

use k8s_openapi::api::core::v1::ConfigMap;
use kube::api::{DeleteParams, Patch, PatchParams};
use kube::{Api, Client};
use serde_json::json;
use tokio::sync::watch;
use tokio::time::{sleep, timeout};

use super::Leadership;
use crate::names::{TRUST_BUNDLE, TRUST_BUNDLE_KEY};
use crate::pki::Roots;
use crate::source::Desired;

/// Who owns the fields.
const MANAGER: &str = "fapi-mesh/trust-bundle";
/// One question.
const ANSWER: Duration = Duration::from_secs(5);
/// What failed is tried again.
const AGAIN: Duration = Duration::from_secs(5);

/// Keeps the ConfigMaps as they should be, also when somebody changes or removes them.
pub(crate) struct TrustBundles {
    client: Client,
    roots: watch::Receiver<Arc<Roots>>,
    leadership: Leadership,
}

impl TrustBundles {
    /// Keeps these roots, as they are now and after each change.
    pub(crate) fn new(client: Client, roots: watch::Receiver<Arc<Roots>>, leadership: Leadership) -> Self {
        Self { client, roots, leadership }
    }

    /// Writes, restores and removes until `shutdown` says true. What is right is not written.
    pub(crate) async fn run(mut self, mut desired: watch::Receiver<Arc<Desired>>, mut shutdown: watch::Receiver<bool>) {
        loop {
            let wanted = desired.borrow_and_update().clone();
            let pem = self.roots.borrow_and_update().pem.clone();
            let failed = self.step(&wanted, &pem).await;
            tokio::select! {
                changed = desired.changed() => if changed.is_err() { return },
                changed = self.roots.changed() => if changed.is_err() { return },
                () = self.leadership.changed() => {}
                () = sleep(AGAIN), if failed => {}
                _ = shutdown.wait_for(|end| *end) => return,
            }
        }
    }

    /// Brings all namespaces in line. True if that failed anywhere.
    pub(super) async fn step(&self, desired: &Desired, pem: &str) -> bool {
        let mut failed = false;
        for namespace in desired.outdated(pem) {
            // What cannot be changed is made anew.
            let in_the_way = desired.bundles.get(namespace).is_some_and(|bundle| bundle.immutable);
            failed |= (in_the_way && self.remove(namespace).await) || self.write(namespace, pem).await;
        }
        for namespace in desired.bundles.keys().filter(|namespace| !desired.opted_in.contains(*namespace)) {
            failed |= self.remove(namespace).await;
        }
        failed
    }

    async fn write(&self, namespace: &str, pem: &str) -> bool {
        let object = json!({
            "apiVersion": "v1",
            "kind": "ConfigMap",
            "metadata": {"name": TRUST_BUNDLE, "labels": {"app.kubernetes.io/part-of": "fapi-mesh"}},
            "data": {TRUST_BUNDLE_KEY: pem},
        });
        let params = PatchParams::apply(MANAGER).force();
        self.done(namespace, self.maps(namespace).patch(TRUST_BUNDLE, &params, &Patch::Apply(object))).await
    }

    async fn remove(&self, namespace: &str) -> bool {
        self.done(namespace, self.maps(namespace).delete(TRUST_BUNDLE, &DeleteParams::default())).await
    }

    /// Waits for an answer. True if it should be asked again.
    async fn done<T>(&self, namespace: &str, answer: impl Future<Output = kube::Result<T>>) -> bool {
        if !self.leadership.holds() {
            return false;
        }
        let error = match timeout(ANSWER, answer).await {
            Ok(Ok(_)) => return false,
            // The map or the whole namespace is gone, and with it the wish.
            Ok(Err(kube::Error::Api(status))) if status.code == 404 => return false,
            Ok(Err(error)) => error.to_string(),
            Err(_) => "no answer".to_owned(),
        };
        tracing::warn!(
            event = "trust_bundle",
            namespace,
            error,
            "sidecars that start there may not find the roots; it is tried again"
        );
        true
    }

    fn maps(&self, namespace: &str) -> Api<ConfigMap> {
        Api::namespaced(self.client.clone(), namespace)
    }
}
