//! What a check found: in order, doubtful, or wrong, and then what to do about it.

use serde::Serialize;

use crate::cluster::{Seen, Unseen};

/// Everything that is checked. The ids are stable; `docs/fapictl.md` explains each.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Check {
    ApiServer,
    AdmissionApi,
    Nodes,
    NativeSidecars,
    Rights,
    PodSecurity,
    OtherWebhooks,
    Definitions,
    Operator,
    OperatorVersion,
    InjectionWebhook,
    ValidationWebhook,
    WebhookCertificate,
    WebhookAnswers,
    ImagePolicy,
    TrustBundle,
    Mesh,
    Issuers,
    Policies,
    Clients,
    Sidecars,
    SidecarVersions,
}

impl Check {
    /// The heading that it stands under, and its stable id.
    pub(crate) const fn names(self) -> (&'static str, &'static str) {
        match self {
            Self::ApiServer => ("kubernetes", "api-server"),
            Self::AdmissionApi => ("kubernetes", "admission-api"),
            Self::Nodes => ("kubernetes", "nodes"),
            Self::NativeSidecars => ("kubernetes", "native-sidecars"),
            Self::Rights => ("install", "rights"),
            Self::PodSecurity => ("install", "pod-security"),
            Self::OtherWebhooks => ("install", "other-webhooks"),
            Self::Definitions => ("install", "definitions"),
            Self::Operator => ("operator", "operator"),
            Self::OperatorVersion => ("operator", "operator-version"),
            Self::InjectionWebhook => ("webhooks", "injection-webhook"),
            Self::ValidationWebhook => ("webhooks", "validation-webhook"),
            Self::WebhookCertificate => ("webhooks", "webhook-certificate"),
            Self::WebhookAnswers => ("webhooks", "webhook-answers"),
            Self::ImagePolicy => ("webhooks", "image-policy"),
            Self::TrustBundle => ("trust", "trust-bundle"),
            Self::Mesh => ("objects", "mesh"),
            Self::Issuers => ("objects", "issuers"),
            Self::Policies => ("objects", "policies"),
            Self::Clients => ("objects", "clients"),
            Self::Sidecars => ("pods", "sidecars"),
            Self::SidecarVersions => ("pods", "sidecar-versions"),
        }
    }
}

/// How it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Outcome {
    /// In order.
    Ok,
    /// It works, or could not be seen; look at it.
    Warning,
    /// It must be mended.
    Failed,
}

/// One line.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Finding {
    pub(crate) check: Check,
    pub(crate) outcome: Outcome,
    /// What is found, and where.
    pub(crate) found: String,
    /// What to do about it; nothing where it is in order.
    pub(crate) remedy: Option<String>,
}

impl Finding {
    /// In order.
    pub(crate) fn ok(check: Check, found: impl Into<String>) -> Self {
        Self { check, outcome: Outcome::Ok, found: found.into(), remedy: None }
    }

    /// Doubtful.
    pub(crate) fn warning(check: Check, found: impl Into<String>, remedy: impl Into<String>) -> Self {
        Self { check, outcome: Outcome::Warning, found: found.into(), remedy: Some(remedy.into()) }
    }

    /// Wrong.
    pub(crate) fn failed(check: Check, found: impl Into<String>, remedy: impl Into<String>) -> Self {
        Self { check, outcome: Outcome::Failed, found: found.into(), remedy: Some(remedy.into()) }
    }

    /// What could not be looked at. That a user may not see something says nothing about it; that it is not there, where it
    /// should be, or that nothing is said about it, does.
    pub(crate) fn unseen(check: Check, what: &str, unseen: &Unseen) -> Self {
        let found = unseen.said(what);
        match unseen {
            Unseen::Forbidden(_) => Self::warning(check, found, "run it as a user who may read this"),
            Unseen::Absent => Self::failed(check, found, "install the charts of this version"),
            Unseen::Failed(_) => Self::failed(check, found, "look at the API server's log, and try again"),
        }
    }
}

/// The findings about what could be seen, or that it could not.
pub(crate) fn about<T>(
    check: Check,
    what: &str,
    seen: &Seen<T>,
    judge: impl FnOnce(&T) -> Vec<Finding>,
) -> Vec<Finding> {
    match seen {
        Ok(found) => judge(found),
        Err(unseen) => vec![Finding::unseen(check, what, unseen)],
    }
}

/// The first few of many names.
pub(crate) fn several<T: AsRef<str>>(names: &[T]) -> String {
    const SHOWN: usize = 5;
    let shown: Vec<&str> = names.iter().take(SHOWN).map(AsRef::as_ref).collect();
    let more = names.len().saturating_sub(SHOWN);
    let rest = if more > 0 { format!(" and {more} more") } else { String::new() };
    format!("{}{rest}", shown.join(", "))
}
