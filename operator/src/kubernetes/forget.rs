//! The end of a mesh: what operators have made in a cluster goes.

use k8s_openapi::api::coordination::v1::Lease;
use k8s_openapi::api::core::v1::{ConfigMap, Secret};
use kube::api::{DeleteParams, ListParams};
use kube::{Api, Client};

use super::secret;
use crate::names::{OPERATOR, STATE, TRUST_BUNDLE};

/// Deletes the roots in every namespace, then the Lease, the keys and what is recorded of them in `namespace`. What is gone
/// already is no error, so it can be asked for again.
///
/// # Errors
/// The API server refuses, or does not answer.
pub(crate) async fn forget(client: Client, namespace: &str) -> kube::Result<()> {
    let one = DeleteParams::default();
    let roots = ListParams::default().fields(&format!("metadata.name={TRUST_BUNDLE}"));
    for map in Api::<ConfigMap>::all(client.clone()).list(&roots).await? {
        let maps = Api::<ConfigMap>::namespaced(client.clone(), map.metadata.namespace.as_deref().unwrap_or_default());
        gone(maps.delete(TRUST_BUNDLE, &one).await)?;
    }
    gone(Api::<Lease>::namespaced(client.clone(), namespace).delete(OPERATOR, &one).await)?;
    let secrets = Api::<Secret>::namespaced(client.clone(), namespace);
    for name in [secret::AUTHORITY, secret::ISSUER, secret::REVOCATIONS, secret::WEBHOOK] {
        gone(secrets.delete(name, &one).await)?;
    }
    // Last: as long as it stands, nobody takes a mesh without keys for a new one.
    gone(Api::<ConfigMap>::namespaced(client, namespace).delete(STATE, &one).await)
}

fn gone<T>(answer: kube::Result<T>) -> kube::Result<()> {
    match answer {
        Err(kube::Error::Api(status)) if status.code == 404 => Ok(()),
        other => other.map(drop),
    }
}
