//! Who is at the other end of a connection to the operator, and which pod that is.

use fapi::Peer;
use rustls::pki_types::CertificateDer;

use crate::model::Pod;
use crate::view::View;

/// A caller that has proven to hold the key of a certificate of the mesh.
#[derive(Debug)]
pub(crate) struct Caller {
    /// Who it is.
    pub(crate) peer: Peer,
    /// Its leaf, DER.
    pub(crate) leaf: CertificateDer<'static>,
}

impl Caller {
    /// The pod that the certificate was issued to, if it still lives under the same identity. A certificate
    /// outlives its pod; nothing that it could still get outlives this check.
    pub(crate) fn pod<'a>(&self, view: &'a View) -> Option<&'a Pod> {
        let id = &self.peer.spiffe_id;
        let pod = view.pod(self.peer.pod_uid.as_deref()?)?;
        let same = pod.meshed
            && id.trust_domain() == view.trust_domain().as_str()
            && id.namespace() == pod.namespace
            && id.service_account() == pod.service_account;
        same.then_some(pod)
    }
}
