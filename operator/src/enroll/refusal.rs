//! Why an enrolment is refused: a closed list, each with a stable id for the log.

use super::TokenRefused;
use crate::pki::{CsrError, PkiError};

/// Why no certificate is issued. The text goes to the caller too, so it names nobody but the caller.
#[derive(Debug, thiserror::Error)]
pub(crate) enum EnrollRefusal {
    /// The desired state has not been read.
    #[error("the operator has not read the desired state yet; try again")]
    NotReady,
    /// There is no place for its review.
    #[error("too many enrolments are in progress; try again in a few seconds")]
    Busy,
    /// The token says nothing we believe.
    #[error("the workload token is refused: {0}")]
    Token(#[source] TokenRefused),
    /// A token may outlive its pod by minutes.
    #[error("the mesh has no such pod; if it is new, try again")]
    PodUnknown,
    /// It has no use for a first certificate any more.
    #[error("the pod is being deleted: it may renew its certificate, and gets no first one")]
    Terminating,
    /// Another pod, or another service account, than the token says.
    #[error("the pod of the token is not the pod of this name and service account")]
    PodMismatch,
    /// The pod has not opted in.
    #[error("the pod is not in the mesh; annotate it with fapi-mesh.dev/inject: enabled")]
    NotMeshed,
    /// The operator's own service account.
    #[error("this service account is the operator's own and is never enrolled; run the pod as another")]
    Reserved,
    /// The certificate request is unusable.
    #[error("the certificate request is refused: {0}")]
    Csr(#[from] CsrError),
    /// Every certificate has a key of its own.
    #[error("the key is in use already; make a new one for each certificate")]
    KeyReused,
    /// Certificate and token disagree.
    #[error("the certificate of this connection is not of the pod that the token names")]
    OtherPod,
    /// A connection may outlive its certificate.
    #[error("the certificate of this connection has ended; enrol without it")]
    CertificateEnded,
    /// A connection may outlive the revocation of its certificate.
    #[error("the certificate of this connection is revoked; enrol without it")]
    CertificateRevoked,
    /// The pod or its identity.
    #[error("the pod or its identity is revoked")]
    Revoked,
    /// Our side.
    #[error("the certificate could not be made; see the operator's log")]
    Authority(#[source] PkiError),
    /// Our side, until a person has put it back.
    #[error(
        "the operator has lost the mesh's certificate authority and issues nothing until it is put back; its log says how"
    )]
    AuthorityLost,
}

impl From<PkiError> for EnrollRefusal {
    fn from(error: PkiError) -> Self {
        if matches!(error, PkiError::Lost(_)) { Self::AuthorityLost } else { Self::Authority(error) }
    }
}

impl EnrollRefusal {
    /// The stable reason id for logs.
    pub(crate) fn id(&self) -> &'static str {
        match self {
            Self::NotReady => "not_ready",
            Self::Busy => "busy",
            Self::Token(refused) => refused.id(),
            Self::PodUnknown => "pod_unknown",
            Self::Terminating => "pod_terminating",
            Self::PodMismatch => "pod_mismatch",
            Self::NotMeshed => "pod_not_meshed",
            Self::Reserved => "identity_reserved",
            Self::Csr(CsrError::TooLarge | CsrError::Malformed) => "csr_malformed",
            Self::Csr(CsrError::KeyType) => "csr_key_type",
            Self::Csr(CsrError::Signature) => "csr_signature_invalid",
            Self::KeyReused => "key_reused",
            Self::OtherPod => "certificate_of_other_pod",
            Self::CertificateEnded => "certificate_ended",
            Self::CertificateRevoked => "certificate_revoked",
            Self::Revoked => "revoked",
            Self::Authority(_) => "authority_unavailable",
            Self::AuthorityLost => "authority_lost",
        }
    }
}
