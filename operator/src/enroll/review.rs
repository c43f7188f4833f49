//! What a token review answers, whoever does the review.

use std::future::Future;
use std::pin::Pin;

/// Whom a workload token stands for, as a TokenReview of the Kubernetes API tells it: the user
/// `system:serviceaccount:<namespace>:<service account>` and the pod in its `extra` fields.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Reviewed {
    /// The namespace of both.
    pub(crate) namespace: String,
    pub(crate) service_account: String,
    pub(crate) pod_name: String,
    pub(crate) pod_uid: String,
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
            Self::Audience => "token_audience_mismatch",
            Self::Expired => "token_expired",
            Self::Unavailable => "token_review_unavailable",
        }
    }
}

/// The answer of a review, some time later.
pub(crate) type Review<'a> = Pin<Box<dyn Future<Output = Result<Reviewed, TokenRefused>> + Send + 'a>>;

/// Tells whom a workload token stands for. An implementation accepts only tokens made for the operator's own
/// audience and bound to a pod; it caches nothing.
pub(crate) trait TokenReview: Send + Sync {
    /// Reviews one token.
    fn review<'a>(&'a self, token: &'a str) -> Review<'a>;
}
