//! What a token review answers, whoever does the review.

use std::future::Future;
use std::pin::Pin;

use crate::model::Pod;

/// The audience of workload tokens: the operator, and nobody else.
pub(crate) const AUDIENCE: &str = "fapi-mesh.dev";

/// Whom a workload token stands for, as a TokenReview of the Kubernetes API tells it: the user
/// `system:serviceaccount:<namespace>:<service account>` and the pod in its `extra` fields.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Reviewed {
    /// The namespace of both.
    pub(crate) namespace: String,
    pub(crate) service_account: String,
    pub(crate) pod_name: String,
    pub(crate) pod_uid: String,
    /// The machine that the pod was on when the token was made, if it says so.
    pub(crate) node: Option<String>,
}

/// Why a token counts for nothing.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum TokenRefused {
    /// Not a compact JWT, or not with the claims of a pod's token.
    #[error("it is not the token of a pod")]
    Malformed,
    /// Nobody we trust signed it.
    #[error("its signature is not by the key in use; read the token file again")]
    Signature,
    /// The cluster does not take it: forged, expired, for another audience, or of a pod that is gone; it does not say which.
    #[error(
        "the cluster does not take it; read the token file again, and mount a token for the audience fapi-mesh.dev"
    )]
    NotAuthenticated,
    /// Made for somebody else.
    #[error("it was not made for the operator")]
    Audience,
    /// No longer, or not yet.
    #[error("it is expired or not yet valid; read the token file again")]
    Expired,
    /// The review itself did not work; the token may be good.
    #[error("it could not be reviewed; try again")]
    Unavailable,
}

impl TokenRefused {
    /// The stable reason id for logs.
    pub(crate) fn id(self) -> &'static str {
        match self {
            Self::Malformed => "token_malformed",
            Self::Signature => "token_signature_invalid",
            Self::NotAuthenticated => "token_not_authenticated",
            Self::Audience => "token_audience_mismatch",
            Self::Expired => "token_expired",
            Self::Unavailable => "token_review_unavailable",
        }
    }
}

/// The answer of a review, some time later.
pub(crate) type Review<'a> = Pin<Box<dyn Future<Output = Result<Reviewed, TokenRefused>> + Send + 'a>>;

/// A pod that lives, some time later; the error is that nobody could tell.
pub(crate) type LivePod<'a> = Pin<Box<dyn Future<Output = Result<Option<Pod>, TokenRefused>> + Send + 'a>>;

/// Tells whom a workload token stands for. An implementation accepts only tokens made for the operator's own
/// audience and bound to a pod; it caches nothing.
pub(crate) trait TokenReview: Send + Sync {
    /// Reviews one token.
    fn review<'a>(&'a self, token: &'a str) -> Review<'a>;

    /// Looks once for a pod that the view does not have yet. Where the view is all there is, there is none.
    fn look_for<'a>(&'a self, _reviewed: &'a Reviewed) -> LivePod<'a> {
        Box::pin(std::future::ready(Ok(None)))
    }
}
