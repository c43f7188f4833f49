//! An API server alone, for what needs no pods: schemas, admission, watches, tokens. It takes no rights and no Linux.

use super::control_plane::{ControlPlane, ready};
use super::folder::Folder;
use super::kubectl::Kubectl;
use super::pki::Authority;
use super::{Owned, programs};
use crate::{repository, wait_for};

/// Each by itself: the category has those that are known.
const OUR_KINDS: &str = "fapiclients,fapiissuers,fapimeshes,fapipolicies,revocations";

/// An API server and its etcd, gone when this is dropped. There are no controllers: nothing makes a service account, not even
/// `default`, and nothing ends when its owner does.
pub struct ApiServer {
    folder: Owned,
    control_plane: ControlPlane,
    kubectl: Kubectl,
}

impl ApiServer {
    /// Starts one.
    ///
    /// # Panics
    /// If something is missing, with what to do; or if it is not ready in two minutes.
    pub fn start(name: &str) -> Self {
        let missing = programs::missing_for_api_server();
        assert!(missing.is_empty(), "an API server cannot run here; missing:\n  {}", missing.join("\n  "));
        let mut folder = Owned::new(Folder::of_this_process(name));
        let control_plane = ControlPlane::on_loopback();
        control_plane.certify(&Authority::make(folder.path()));
        let kubectl = Kubectl::new(folder.file("admin.kubeconfig"));
        control_plane.start_etcd(&mut folder);
        control_plane.start_api_server(&mut folder);
        ready(&mut folder, &kubectl);
        Self { folder, control_plane, kubectl }
    }

    /// Starts one that has our kinds and these namespaces.
    ///
    /// # Panics
    /// As [`start`](Self::start).
    pub fn with_resources(name: &str, namespaces: &[&str]) -> Self {
        let server = Self::start(name);
        let kubectl = server.kubectl();
        let chart = repository().join("charts/fapi-mesh-crds/templates");
        kubectl.run(&["apply", "--server-side", "-f", &chart.display().to_string()]);
        kubectl.run(&["wait", "--for=condition=Established", "--timeout=60s", "crd", "--all"]);
        wait_for("the API server to serve our kinds", 60, || kubectl.attempt(&["get", OUR_KINDS, "-A"]).ok());
        for namespace in namespaces {
            kubectl.run(&["create", "namespace", namespace]);
        }
        server
    }

    /// kubectl, as administrator.
    pub fn kubectl(&self) -> &Kubectl {
        &self.kubectl
    }

    /// Ends the API server and starts it again: every watch breaks, and nothing is forgotten.
    ///
    /// # Panics
    /// If it is not ready again in two minutes.
    pub fn restart(&mut self) {
        self.folder.stop("kube-apiserver");
        self.control_plane.start_api_server(&mut self.folder);
        ready(&mut self.folder, &self.kubectl);
    }
}
