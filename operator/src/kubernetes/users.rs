//! Who needs the mesh: pods that have a sidecar.

use std::fmt;

use kube::api::ListParams;
use kube::core::DynamicObject;
use kube::{Api, Client};

use crate::source::{pod_of, pods};

/// Pods of one answer.
const PAGE: u32 = 500;
/// Half a million pods; a server that gives more gives the same ones again.
const PAGES: usize = 1000;
/// How many are named: enough to find the rest by.
const NAMED: usize = 5;

/// Pods of a cluster that have a sidecar and go on.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct Users {
    /// How many.
    pub(crate) count: usize,
    /// Some of them, as NAMESPACE/NAME.
    some: Vec<String>,
}

/// Counts them. Pods that have ended, or are being deleted, need nobody any more.
///
/// # Errors
/// The API server refuses, or does not answer.
pub(crate) async fn users(client: Client) -> kube::Result<Users> {
    let (pods, mut users) = (Api::<DynamicObject>::all_with(client, &pods()), Users::default());
    let mut params = ListParams::default().fields("status.phase!=Succeeded,status.phase!=Failed").limit(PAGE);
    for _ in 0..PAGES {
        let page = pods.list(&params).await?;
        for pod in page.items.into_iter().filter_map(pod_of).filter(|pod| pod.meshed && !pod.terminating) {
            users.count += 1;
            if users.some.len() < NAMED {
                users.some.push(format!("{}/{}", pod.namespace, pod.name));
            }
        }
        match page.metadata.continue_.filter(|token| !token.is_empty()) {
            Some(token) => params = params.continue_token(&token),
            None => break,
        }
    }
    Ok(users)
}

impl fmt::Display for Users {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let verb = if self.count == 1 { "pod has" } else { "pods have" };
        write!(f, "{} {verb} a sidecar ({}", self.count, self.some.join(", "))?;
        match self.count - self.some.len() {
            0 => f.write_str(")"),
            more => write!(f, " and {more} more)"),
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a failed step fails the test")]

    use serde_json::{Value as Json, json};

    use super::*;
    use crate::testing::api::{client, failure};

    fn pod(name: &str) -> Json {
        json!({
            "apiVersion": "v1", "kind": "Pod", "metadata": {"name": name, "namespace": "bank", "uid": name},
            "spec": {"initContainers": [{"name": "fapi-sidecar", "restartPolicy": "Always"}], "containers": []},
            "status": {"phase": "Running"},
        })
    }

    /// A server that gives one pod after the other, a page each.
    fn server(pods: Vec<Json>) -> Client {
        client(move |asked| {
            assert_eq!(asked.path, "/api/v1/pods");
            let query: Vec<(&str, &str)> = asked.query.split('&').filter_map(|pair| pair.split_once('=')).collect();
            let page = query.iter().find(|(name, _)| *name == "continue").map_or(0, |(_, page)| page.parse().unwrap());
            let next = if page + 1 < pods.len() { (page + 1).to_string() } else { String::new() };
            let items: Vec<&Json> = pods.get(page).into_iter().collect();
            (200, json!({"metadata": {"continue": next}, "items": items}).to_string())
        })
    }

    #[tokio::test]
    async fn pods_with_a_sidecar_are_counted_and_some_are_named() {
        let all: Vec<Json> = (1..=7).map(|number| pod(&format!("shop-{number}"))).collect();
        let users = users(server(all)).await.unwrap();
        assert_eq!(users.count, 7);
        let said = users.to_string();
        assert_eq!(
            said,
            "7 pods have a sidecar (bank/shop-1, bank/shop-2, bank/shop-3, bank/shop-4, bank/shop-5 and 2 more)"
        );
        assert_eq!(super::users(server(vec![pod("a")])).await.unwrap().to_string(), "1 pod has a sidecar (bank/a)");
    }

    #[tokio::test]
    async fn who_has_none_or_is_gone_does_not_count() {
        let (mut bare, mut ending, mut ended) = (pod("bare"), pod("ending"), pod("ended"));
        bare["spec"]["initContainers"] = json!([]);
        bare["metadata"]["annotations"] = json!({"fapi-mesh.dev/inject": "enabled"});
        ending["metadata"]["deletionTimestamp"] = "2026-01-01T00:00:00Z".into();
        ended["status"]["phase"] = "Failed".into();
        assert_eq!(users(server(vec![bare, ending, ended])).await.unwrap(), Users::default());
        assert_eq!(users(server(Vec::new())).await.unwrap(), Users::default());
    }

    #[tokio::test]
    async fn without_an_answer_nobody_says_that_there_are_none() {
        assert!(users(client(|_| failure(500))).await.is_err());
    }
}
