//! Our side of a connection: the certificate and the roots in use, as this worker last saw them.

use std::{cell::RefCell, collections::HashMap, rc::Rc, sync::Arc};

use control::{
    identity::LeafError,
    tls::{TlsError, TrustBundle},
};
use fapi::SpiffeId;
use rustls::ClientConfig;

use super::pool::Number;
use crate::{identity::Certificate, state::Generation};

/// Which HTTP is spoken on a connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(super) enum Protocol {
    H1,
    H2,
}

impl Protocol {
    /// Its name in a TLS handshake. Only this one is offered.
    pub(super) fn alpn(self) -> &'static [u8] {
        match self {
            Self::H1 => b"http/1.1",
            Self::H2 => b"h2",
        }
    }
}

/// One generation, with the TLS configurations that this worker made of it.
pub(super) struct Own {
    pub(super) number: Number,
    pub(super) certificate: Certificate,
    bundle: Arc<TrustBundle>,
    /// As many as there are identities to call, thrice.
    configs: RefCell<HashMap<Toward, Arc<ClientConfig>>>,
}

/// Whom a connection is for, and what it carries if that is HTTP.
type Toward = (SpiffeId, Option<Protocol>);

impl Own {
    pub(super) fn new(generation: &Generation) -> Result<Rc<Self>, LeafError> {
        let certificate = Certificate::new(generation.identity.clone())?;
        let bundle = generation.bundle.clone();
        Ok(Rc::new(Self { number: generation.number, certificate, bundle, configs: RefCell::default() }))
    }

    /// For connections to exactly `expect`; `None`: which carry no HTTP.
    pub(super) fn client_config(
        &self,
        expect: &SpiffeId,
        protocol: Option<Protocol>,
    ) -> Result<Arc<ClientConfig>, TlsError> {
        let key = (expect.clone(), protocol);
        if let Some(config) = self.configs.borrow().get(&key) {
            return Ok(config.clone());
        }
        let config =
            self.certificate.client_config(&self.bundle, expect.clone(), protocol.map(Protocol::alpn).as_slice())?;
        self.configs.borrow_mut().insert(key, config.clone());
        Ok(config)
    }
}
