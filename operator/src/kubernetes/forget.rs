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

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a failed step fails the test")]

    use serde_json::json;

    use super::*;
    use crate::testing::cluster::Cluster;

    const HOME: &str = "/api/v1/namespaces/fapi-mesh";
    const LEASE: &str = "/apis/coordination.k8s.io/v1/namespaces/fapi-mesh/leases/fapi-operator";

    /// A cluster with all that operators make, in two namespaces of users, and with things of others.
    fn used() -> Cluster {
        let cluster = Cluster::default();
        let put = |path: &str| {
            let mut parts = path.rsplit('/');
            let (name, namespace) = (parts.next().unwrap(), parts.nth(1).unwrap());
            cluster.put(path, json!({"metadata": {"name": name, "namespace": namespace}}));
        };
        for name in ["fapi-mesh-ca", "fapi-mesh-issuer", "fapi-mesh-revocations", "fapi-mesh-webhook", "of-others"] {
            put(&format!("{HOME}/secrets/{name}"));
        }
        for namespace in ["bank", "web"] {
            put(&format!("/api/v1/namespaces/{namespace}/configmaps/fapi-mesh-trust-bundle"));
            put(&format!("/api/v1/namespaces/{namespace}/configmaps/of-others"));
        }
        put(&format!("{HOME}/configmaps/fapi-mesh-state"));
        put(LEASE);
        cluster
    }

    #[tokio::test]
    async fn what_operators_have_made_goes_and_nothing_else_and_the_record_last() {
        let cluster = used();
        forget(cluster.client(), "fapi-mesh").await.unwrap();
        let roots = |namespace| format!("DELETE /api/v1/namespaces/{namespace}/configmaps/fapi-mesh-trust-bundle");
        let key = |name| format!("DELETE {HOME}/secrets/fapi-mesh-{name}");
        let expected = [roots("bank"), roots("web"), format!("DELETE {LEASE}")];
        let expected = expected.into_iter().chain(["ca", "issuer", "revocations", "webhook"].map(key));
        let record = format!("DELETE {HOME}/configmaps/fapi-mesh-state");
        assert_eq!(cluster.writes(), expected.chain([record]).collect::<Vec<_>>());
        for others in ["fapi-mesh/secrets/of-others", "bank/configmaps/of-others", "web/configmaps/of-others"] {
            assert!(cluster.object(&format!("/api/v1/namespaces/{others}")).is_some(), "{others}");
        }
    }

    #[tokio::test]
    async fn it_goes_on_where_it_stopped_and_says_when_it_cannot() {
        let cluster = used();
        cluster.remove(LEASE);
        cluster.remove(&format!("{HOME}/secrets/fapi-mesh-ca"));
        forget(cluster.client(), "fapi-mesh").await.unwrap();
        forget(cluster.client(), "fapi-mesh").await.unwrap();
        let left = used();
        left.answers(false);
        assert!(forget(left.client(), "fapi-mesh").await.is_err());
        left.answers(true);
        assert!(left.object(&format!("{HOME}/configmaps/fapi-mesh-state")).is_some());
    }
}
