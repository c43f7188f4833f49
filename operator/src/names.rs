//! What the objects of a mesh are called in a cluster: by the chart that makes them, by the operator that keeps them, and by
//! whoever looks for them.

/// The Deployment of the operator, the Service before it, its Lease, and both webhook configurations. Sidecars know the operator by its
/// service account, so none of these is a matter of taste.
pub const OPERATOR: &str = control::OPERATOR_SERVICE_ACCOUNT;
/// The namespace that the operator runs in, if nobody says otherwise.
pub const NAMESPACE: &str = "fapi-mesh";
/// The label of the Deployment with its version.
pub const VERSION_LABEL: &str = "app.kubernetes.io/version";

/// The ConfigMap in the operator's namespace that says what was made, and how the rotation of the root goes on.
pub const STATE: &str = "fapi-mesh-state";

/// The ConfigMap with the roots of the mesh, in each namespace that has pods of it.
pub const TRUST_BUNDLE: &str = "fapi-mesh-trust-bundle";
/// Where in it they stand, PEM.
pub const TRUST_BUNDLE_KEY: &str = "root.pem";

/// The entries of the configuration that injects: for namespaces, labels and annotations that ask. At most one matches a pod.
pub const INJECTORS: [&str; 3] =
    ["namespace.inject.fapi-mesh.dev", "label.inject.fapi-mesh.dev", "annotation.inject.fapi-mesh.dev"];
/// The entries of the configuration that validates: objects of ours, and what is put into a pod that has a sidecar.
pub const VALIDATORS: [&str; 2] = ["validate.fapi-mesh.dev", "ephemeral.fapi-mesh.dev"];

/// The ValidatingAdmissionPolicy, and its binding, that keeps the images of our containers in pods that run.
pub const IMAGES: &str = "images.fapi-mesh.dev";

/// The label with which a namespace says what Pod Security enforces in it.
pub const POD_SECURITY: &str = "pod-security.kubernetes.io/enforce";
/// The namespace of the cluster's own parts, in which nothing is ever injected.
pub const SYSTEM_NAMESPACE: &str = "kube-system";
