//! Why a pod gets no sidecar. Every id is stable; every message says what is wrong, where, and what to do.

use super::{INJECT, Interception, Loosening};

/// Why a pod stays as it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Skip {
    /// Nobody asked.
    #[error("nobody asked for one")]
    NotRequested,
    /// Its author asked to go without, and the FapiMesh allows it.
    #[error("it asked to go without, and the FapiMesh allows that in its namespace")]
    OptedOut,
}

impl Skip {
    /// The stable name.
    pub const fn id(self) -> &'static str {
        match self {
            Self::NotRequested => "not_requested",
            Self::OptedOut => "opted_out",
        }
    }
}

/// Why a pod that asked for a sidecar must not start.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Refusal {
    /// An annotation of ours that cannot be read.
    #[error("{key}: {value:?} is not possible; write {wanted}")]
    AnnotationInvalid {
        /// The annotation or label.
        key: &'static str,
        /// Its value.
        value: String,
        /// What it may be.
        wanted: String,
    },
    /// A loosening that the mesh does not allow here.
    #[error(
        "{key}: pods of namespace {namespace} may not do this; remove it, or have {loosening:?} allowed for the namespace in spec.podAnnotations of the FapiMesh"
    )]
    AnnotationNotAllowed {
        /// The annotation or label.
        key: &'static str,
        /// What it would do.
        loosening: Loosening,
        /// The namespace of the pod.
        namespace: String,
    },
    /// Capabilities that undo the interception or read the sidecar's memory.
    #[error(
        "container {container} adds capability {capability}, with which it can go past its sidecar; remove it from capabilities.add"
    )]
    Capability {
        /// The container.
        container: String,
        /// The capability.
        capability: String,
    },
    /// The network of the node would be intercepted.
    #[error(
        "spec.hostNetwork: a pod in the network of its node cannot be in the mesh; remove hostNetwork, or {INJECT}"
    )]
    HostNetwork,
    /// Processes of the node see the pod's, and the other way round.
    #[error("spec.hostPID: the app could read the sidecar's keys; remove hostPID, or {INJECT}")]
    HostPid,
    /// A resolver that is the pod's own choice.
    #[error(
        "spec.dnsConfig.nameservers has {address}, and nothing that goes to port 53 there is redirected; leave name servers to dnsPolicy, or have SkipPorts allowed for namespace {namespace} in spec.podAnnotations of the FapiMesh"
    )]
    NameServer {
        /// The first of them.
        address: String,
        /// The namespace of the pod.
        namespace: String,
    },
    /// A name that the injector needs.
    #[error("the pod has a {what} {name} of its own; rename it")]
    NameTaken {
        /// `container` or `volume`.
        what: &'static str,
        /// The name.
        name: String,
    },
    /// A system without network namespaces.
    #[error("spec.os.name {0}: there is a sidecar for linux only; remove {INJECT}")]
    OperatingSystem(String),
    /// What the mode needs is forbidden in the namespace.
    #[error(
        "interception {}: Pod Security level {level} of the namespace forbids NET_ADMIN to the init container that it needs; annotate the pod with fapi-mesh.dev/interception: proxy",
        Interception::Redirect.name()
    )]
    PodSecurity {
        /// The level that is enforced.
        level: String,
    },
    /// A port of the sidecar's.
    #[error("container {container} declares port {port}, which is the sidecar's; have the app listen on another")]
    PortTaken {
        /// The container.
        container: String,
        /// The port.
        port: i32,
    },
    /// A container that is the node's root.
    #[error("container {0} is privileged and can go past its sidecar; remove securityContext.privileged")]
    Privileged(String),
    /// A header that no probe can send.
    #[error(
        "container {container}: {probe} sends the header {header:?}, whose name or value no HTTP request can hold; correct it in httpHeaders"
    )]
    ProbeHeader {
        /// The container.
        container: String,
        /// The path of the field.
        probe: &'static str,
        /// Its name.
        header: String,
    },
    /// A probe whose port does not exist.
    #[error(
        "container {container}: {probe} names port {port:?}, which the container does not declare; add it to its ports, or write the number"
    )]
    ProbePort {
        /// The container.
        container: String,
        /// The path of the field.
        probe: &'static str,
        /// The port as written.
        port: String,
    },
    /// A probe over a protocol that the sidecar does not speak.
    #[error(
        "container {container}: {probe} wants {protocol}, which the sidecar does not speak; it performs probes over HTTP/1.1 and gRPC in plaintext, and HTTP/1.1 over TLS"
    )]
    ProbeProtocol {
        /// The container.
        container: String,
        /// The path of the field.
        probe: &'static str,
        /// The protocol as written.
        protocol: String,
    },
    /// A proxy of the app's own, which proxy mode needs for itself.
    #[error("container {container} sets {variable}, which leads to the sidecar where interception is proxy; remove it")]
    ProxyVariable {
        /// The container.
        container: String,
        /// The variable.
        variable: String,
    },
    /// Processes of the pod see each other.
    #[error("spec.shareProcessNamespace: the app could read the sidecar's keys; remove shareProcessNamespace")]
    SharedProcesses,
    /// The sidecar's user or group, whose calls are not redirected.
    #[error("{place} is {id}, the sidecar's; choose another")]
    SidecarId {
        /// The path of the field.
        place: String,
        /// The user and group of the sidecar.
        id: u32,
    },
    /// A container that would share the sidecar's processes.
    #[error(
        "container {container} has targetContainerName {target}, whose keys it could read; name a container of the app, or none"
    )]
    SidecarTarget {
        /// The container.
        container: String,
        /// Whose processes it would see.
        target: String,
    },
    /// The sidecar's proof of who the pod is, in other hands.
    #[error("{place} would have the token or the roots that are the sidecar's alone; remove it")]
    SidecarToken {
        /// What has it.
        place: String,
    },
}

impl Refusal {
    /// The stable name.
    pub const fn id(&self) -> &'static str {
        match self {
            Self::AnnotationInvalid { .. } => "annotation_invalid",
            Self::AnnotationNotAllowed { .. } => "annotation_not_allowed",
            Self::Capability { .. } => "capability",
            Self::HostNetwork => "host_network",
            Self::HostPid => "host_pid",
            Self::NameServer { .. } => "name_server",
            Self::NameTaken { .. } => "name_taken",
            Self::OperatingSystem(_) => "operating_system",
            Self::PodSecurity { .. } => "pod_security",
            Self::PortTaken { .. } => "port_taken",
            Self::Privileged(_) => "privileged",
            Self::ProbeHeader { .. } => "probe_header",
            Self::ProbePort { .. } => "probe_port",
            Self::ProbeProtocol { .. } => "probe_protocol",
            Self::ProxyVariable { .. } => "proxy_variable",
            Self::SharedProcesses => "shared_processes",
            Self::SidecarId { .. } => "sidecar_id",
            Self::SidecarTarget { .. } => "sidecar_target",
            Self::SidecarToken { .. } => "sidecar_token",
        }
    }
}
