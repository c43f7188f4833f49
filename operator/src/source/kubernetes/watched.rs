//! What is watched in a cluster.

use kube::core::{ApiResource, GroupVersionKind};

use crate::source::Kind;

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
}

impl Watched {
    pub(crate) const ALL: [Self; 8] = [
        Self::Client,
        Self::Issuer,
        Self::Mesh,
        Self::Policy,
        Self::Namespace,
        Self::Pod,
        Self::Service,
        Self::EndpointSlice,
    ];

    /// Ours, if it is one of ours.
    pub(super) const fn custom(self) -> Option<Kind> {
        match self {
            Self::Client => Some(Kind::FapiClient),
            Self::Issuer => Some(Kind::FapiIssuer),
            Self::Mesh => Some(Kind::FapiMesh),
            Self::Policy => Some(Kind::FapiPolicy),
            Self::Namespace | Self::Pod | Self::Service | Self::EndpointSlice => None,
        }
    }

    /// The kind, as it stands in a document.
    pub(crate) const fn name(self) -> &'static str {
        match (self.custom(), self) {
            (Some(kind), _) => kind.name(),
            (None, Self::Namespace) => "Namespace",
            (None, Self::Pod) => "Pod",
            (None, Self::Service) => "Service",
            (None, _) => "EndpointSlice",
        }
    }

    /// Where an API server has it.
    pub(crate) fn resource(self) -> ApiResource {
        let (group, version) = match self {
            Self::Client | Self::Issuer | Self::Mesh | Self::Policy => (crds::GROUP, crds::VERSION),
            Self::Namespace | Self::Pod | Self::Service => ("", "v1"),
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
