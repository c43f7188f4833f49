//! The sidecar's side of the control protocol, and everything else that the control thread does.
//!
//! One stream to the operator brings snapshots, roots, keys and answers to lookups; what is good is published through
//! [`Shared`] and the [`Lookups`], and acknowledged. When the stream ends it is opened again, and everything that was
//! asked is asked again; until then the last good state stays in force for ever.

mod apply;
pub(crate) mod backoff;
pub(crate) mod channel;
pub(crate) mod destination;
pub(crate) mod dial;
mod lookups;
mod session;
mod stream;

pub(crate) use lookups::{DestinationCell, Lookups};

use std::sync::Arc;

use tokio::sync::Notify;

use crate::{
    identity::{self, Settings},
    state::Shared,
    tokens::Tokens,
};

/// What runs on the control thread.
pub(crate) struct ControlPlane {
    shared: Arc<Shared>,
    settings: Settings,
    lookups: Arc<Lookups>,
}

impl ControlPlane {
    pub(crate) fn new(shared: Arc<Shared>, settings: Settings) -> Self {
        Self { shared, settings, lookups: Arc::new(Lookups::new()) }
    }

    /// Where the workers' outbound side asks for destinations.
    pub(crate) fn lookups(&self) -> Arc<Lookups> {
        self.lookups.clone()
    }

    /// Enrols, renews, follows the operator and keeps tokens. Never ends by itself: a draining process still needs
    /// tokens, so it is dropped last.
    pub(crate) async fn run(self) {
        let Self { shared, settings, lookups } = self;
        let tokens = Tokens::new(shared.clone(), settings.operator.clone(), settings.roots.clone());
        let renew = Arc::new(Notify::new());
        tokio::join!(
            identity::keep(shared.clone(), settings.clone(), tokens.clone(), renew.clone()),
            lookups.keep_swept(),
            tokens.keep_swept(),
            stream::keep(shared, settings, lookups.clone(), tokens.clone(), renew),
        );
    }
}

#[cfg(test)]
mod tests;
