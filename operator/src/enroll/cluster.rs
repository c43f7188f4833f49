//! Workload tokens in a cluster: projected service account tokens, reviewed by the API server.

#[cfg(test)]
mod tests;

use k8s_openapi::api::authentication::v1::{TokenReview as Request, TokenReviewSpec, TokenReviewStatus, UserInfo};
use kube::api::PostParams;
use kube::core::{ApiResource, DynamicObject};
use kube::{Api, Client};

use super::review::{AUDIENCE, LivePod, Review};
use super::{Reviewed, TokenRefused, TokenReview};
use crate::source::{pod_of, pods};

/// The user of a service account, before namespace and name.
const USER: &str = "system:serviceaccount:";
const POD_NAME: &str = "authentication.kubernetes.io/pod-name";
const POD_UID: &str = "authentication.kubernetes.io/pod-uid";
const NODE_NAME: &str = "authentication.kubernetes.io/node-name";

/// Has tokens reviewed by the API server, and asks it for pods that are too new.
pub(crate) struct ClusterTokens {
    client: Client,
    pods: ApiResource,
}

impl ClusterTokens {
    /// Reviews by way of this client.
    pub(crate) fn new(client: Client) -> Self {
        Self { client, pods: pods() }
    }

    async fn ask(&self, token: &str) -> Result<Reviewed, TokenRefused> {
        let spec = TokenReviewSpec { token: token.to_owned(), audiences: Some(vec![AUDIENCE.to_owned()]) };
        let request = Request { spec, ..Request::default() };
        let answer = Api::<Request>::all(self.client.clone()).create(&PostParams::default(), &request).await;
        match answer {
            Ok(answer) => read(answer.status.unwrap_or_default()),
            Err(error) => {
                tracing::warn!(event = "token_review", %error, "the API server does not review tokens");
                Err(TokenRefused::Unavailable)
            }
        }
    }

    async fn get(&self, reviewed: &Reviewed) -> Result<Option<crate::model::Pod>, TokenRefused> {
        let pods = Api::<DynamicObject>::namespaced_with(self.client.clone(), &reviewed.namespace, &self.pods);
        match pods.get_opt(&reviewed.pod_name).await {
            Ok(found) => Ok(found.and_then(pod_of)),
            Err(error) => {
                tracing::warn!(event = "token_review", %error, "the API server does not tell of a pod");
                Err(TokenRefused::Unavailable)
            }
        }
    }
}

impl TokenReview for ClusterTokens {
    fn review<'a>(&'a self, token: &'a str) -> Review<'a> {
        Box::pin(self.ask(token))
    }

    fn look_for<'a>(&'a self, reviewed: &'a Reviewed) -> LivePod<'a> {
        Box::pin(self.get(reviewed))
    }
}

/// What an answer of the API server means.
fn read(status: TokenReviewStatus) -> Result<Reviewed, TokenRefused> {
    if status.authenticated != Some(true) {
        return Err(TokenRefused::NotAuthenticated);
    }
    // A server that does not know of audiences takes any token, and names none.
    if !status.audiences.unwrap_or_default().iter().any(|audience| audience == AUDIENCE) {
        return Err(TokenRefused::Audience);
    }
    let user = status.user.unwrap_or_default();
    let account =
        user.username.as_deref().and_then(|name| name.strip_prefix(USER)).and_then(|rest| rest.split_once(':'));
    let (namespace, service_account) = account.ok_or(TokenRefused::Malformed)?;
    Ok(Reviewed {
        namespace: namespace.to_owned(),
        service_account: service_account.to_owned(),
        pod_name: only(&user, POD_NAME).ok_or(TokenRefused::Malformed)?,
        pod_uid: only(&user, POD_UID).ok_or(TokenRefused::Malformed)?,
        node: only(&user, NODE_NAME),
    })
}

/// What the user is said to be, if that is one thing.
fn only(user: &UserInfo, what: &str) -> Option<String> {
    match user.extra.as_ref()?.get(what)?.as_slice() {
        [one] if !one.is_empty() => Some(one.clone()),
        _ => None,
    }
}
