//! What is watched in a cluster.

use kube::core::{ApiResource, GroupVersionKind};

use crate::{names::TRUST_BUNDLE, source::Kind};

/// A kind that is watched. The order is the one in which they stand in a list of versions.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Watched {
    Client,
    Issuer,
    Mesh,
    Policy,
    Namespace,
    Pod,
    Service,
    EndpointSlice,
    /// The ConfigMaps of one name.
    TrustBundle,
    Revocation,
}

impl Watched {
    pub(crate) const ALL: [Self; 10] = [
        Self::Client,
        Self::Issuer,
        Self::Mesh,
        Self::Policy,
        Self::Namespace,
        Self::Pod,
        Self::Service,
        Self::EndpointSlice,
        Self::TrustBundle,
        Self::Revocation,
    ];

    /// Ours, if it is one of ours.
    pub(super) const fn custom(self) -> Option<Kind> {
        match self {
            Self::Client => Some(Kind::FapiClient),
            Self::Issuer => Some(Kind::FapiIssuer),
            Self::Mesh => Some(Kind::FapiMesh),
            Self::Policy => Some(Kind::FapiPolicy),
            Self::Revocation => Some(Kind::Revocation),
            Self::Namespace | Self::Pod | Self::Service | Self::EndpointSlice | Self::TrustBundle => None,
        }
    }

    /// The kind, as it stands in a document.
    pub(crate) const fn name(self) -> &'static str {
        match (self.custom(), self) {
            (Some(kind), _) => kind.name(),
            (None, Self::Namespace) => "Namespace",
            (None, Self::Pod) => "Pod",
            (None, Self::Service) => "Service",
            (None, Self::EndpointSlice) => "EndpointSlice",
            (None, _) => "ConfigMap",
        }
    }

    /// Which of its kind are watched, if not all.
    pub(super) fn fields(self) -> Option<String> {
        (self == Self::TrustBundle).then(|| format!("metadata.name={TRUST_BUNDLE}"))
    }

    /// Ours of this kind, if a cluster has it.
    pub(crate) fn of(kind: Kind) -> Option<Self> {
        Self::ALL.into_iter().find(|watched| watched.custom() == Some(kind))
    }

    /// Whether snapshots are made of it. Not of revocations, which have epochs of their own: a kind that came later must not
    /// make the order of snapshots of an earlier version look old.
    pub(super) const fn is_in_snapshots(self) -> bool {
        !matches!(self, Self::Revocation)
    }

    /// Where an API server has it.
    pub(crate) fn resource(self) -> ApiResource {
        let (group, version) = match self {
            Self::Client | Self::Issuer | Self::Mesh | Self::Policy | Self::Revocation => (crds::GROUP, crds::VERSION),
            Self::Namespace | Self::Pod | Self::Service | Self::TrustBundle => ("", "v1"),
            Self::EndpointSlice => ("discovery.k8s.io", "v1"),
        };
        let plural = match self {
            Self::Client => "fapiclients",
            Self::Issuer => "fapiissuers",
            Self::Mesh => "fapimeshes",
            Self::Policy => "fapipolicies",
            Self::Namespace => "namespaces",
            Self::Pod => "pods",
            Self::Service => "services",
            Self::EndpointSlice => "endpointslices",
            Self::TrustBundle => "configmaps",
            Self::Revocation => "revocations",
        };
        ApiResource::from_gvk_with_plural(&GroupVersionKind::gvk(group, version, self.name()), plural)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_names_are_those_of_the_definitions() {
        for crd in crds::all() {
            let ours = Watched::ALL.into_iter().find(|watched| watched.name() == crd.spec.names.kind);
            assert_eq!(ours.map(|watched| watched.resource().plural), Some(crd.spec.names.plural));
        }
    }
}
