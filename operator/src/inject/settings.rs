//! What injection depends on beside the pod.

use std::collections::{BTreeMap, BTreeSet};

use crds::mesh::Loosening;
use fapi::TrustDomain;

/// What every sidecar of a mesh is told.
#[derive(Clone, Debug)]
pub struct Settings {
    /// The sidecar's image.
    pub image: Image,
    /// The operator's control server, host:port.
    pub control: String,
    /// The trust domain of the mesh.
    pub trust_domain: TrustDomain,
    /// The namespace that the operator runs in.
    pub operator_namespace: String,
    /// What authors of pods may loosen.
    pub allowed: Allowed,
}

/// The image of the sidecar; its entry point is `fapi-sidecar`.
#[derive(Clone, Debug)]
pub struct Image {
    /// Its name, with tag or digest.
    pub name: String,
    /// `Always`, `IfNotPresent` or `Never`.
    pub pull_policy: String,
}

/// The namespace of a pod, as far as it matters.
#[derive(Clone, Debug, Default)]
pub struct Namespace {
    /// Its name.
    pub name: String,
    /// Its labels.
    pub labels: BTreeMap<String, String>,
}

/// How calls come to the sidecar of a pod.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Interception {
    /// The kernel redirects them.
    Redirect,
    /// The sidecar has the ports of the pod, and the app uses it as its HTTP proxy.
    Proxy,
}

impl Interception {
    /// Its value in the annotation and for the sidecar.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Redirect => "redirect",
            Self::Proxy => "proxy",
        }
    }
}

/// Which loosening is allowed in which namespaces; none by default.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Allowed {
    everywhere: BTreeSet<Loosening>,
    somewhere: BTreeSet<(Loosening, String)>,
}

impl Allowed {
    /// The same in every namespace, for documents whose namespace is not known.
    pub fn everywhere(loosening: &[Loosening]) -> Self {
        Self { everywhere: loosening.iter().copied().collect(), ..Self::default() }
    }

    /// Whether a pod of this namespace may do it.
    pub fn allows(&self, loosening: Loosening, namespace: &str) -> bool {
        self.everywhere.contains(&loosening) || self.somewhere.contains(&(loosening, namespace.to_owned()))
    }
}

impl FromIterator<(Loosening, String)> for Allowed {
    fn from_iter<I: IntoIterator<Item = (Loosening, String)>>(pairs: I) -> Self {
        Self { somewhere: pairs.into_iter().collect(), ..Self::default() }
    }
}
