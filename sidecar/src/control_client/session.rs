//! One stream to the operator, from its opening to its end.

use std::{collections::HashSet, sync::Arc, time::Duration};

use control::{
    features,
    pb::{Hello, Lookup, OperatorMessage, SidecarMessage, sidecar_message::Kind},
    tls::Identity,
};
use fapi::SigningKey;
use tokio::{sync::mpsc, time::timeout};
use tokio_stream::wrappers::ReceiverStream;
use tonic::{Code, Streaming};

use super::{Lookups, channel, dial::DialError, lookups::MAX_AUTHORITIES};
use crate::{
    audit::Heard,
    identity::Settings,
    state::{MAX_PORTS, Shared},
};

const OPEN_WITHIN: Duration = Duration::from_secs(10);
/// Room for every lookup at once, what policies of all ports have let pass, and acknowledgements.
const QUEUE: usize = MAX_AUTHORITIES + MAX_PORTS + 64;

/// Why a stream could not be opened, or ended.
#[derive(Debug, thiserror::Error)]
pub(super) enum SessionError {
    #[error("there is no certificate or no trust bundle yet")]
    NotCertified,
    #[error(transparent)]
    Dial(#[from] DialError),
    #[error("the operator ended the stream: {}: {}", .0.code(), .0.message())]
    Ended(#[from] Box<tonic::Status>),
    #[error("the operator did not open the stream within {OPEN_WITHIN:?}")]
    TooSlow,
    #[error("the operator closed the stream")]
    Closed,
    #[error("the operator does not read what is sent")]
    Stuck,
}

impl SessionError {
    /// Whether another certificate is what it takes: the one in use has ended or was revoked.
    pub(super) fn wants_certificate(&self) -> bool {
        matches!(self, Self::Ended(status) if status.code() == Code::Unauthenticated)
    }
}

/// An open stream. Dropping it ends it.
pub(super) struct Session {
    /// The certificate that it was opened with.
    identity: Arc<Identity>,
    to_operator: mpsc::Sender<SidecarMessage>,
    from_operator: Streaming<OperatorMessage>,
    asked: HashSet<Arc<str>>,
    heard: Heard,
}

impl Session {
    /// Opens a stream, says who we are and asks for every destination in use.
    pub(super) async fn open(
        shared: Arc<Shared>,
        settings: Settings,
        lookups: Arc<Lookups>,
    ) -> Result<Self, SessionError> {
        timeout(OPEN_WITHIN, Self::try_open(&shared, &settings, &lookups)).await.unwrap_or(Err(SessionError::TooSlow))
    }

    async fn try_open(shared: &Shared, settings: &Settings, lookups: &Lookups) -> Result<Self, SessionError> {
        let (Some(generation), Some(bundle)) = (shared.identity(), shared.bundle()) else {
            return Err(SessionError::NotCertified);
        };
        let identity = generation.identity.clone();
        let mut client = channel::connect(&settings.control, &bundle, Some(&identity), &settings.operator).await?;
        let (to_operator, queue) = mpsc::channel(QUEUE);
        send(&to_operator, hello(shared))?;
        let from_operator = client.connect(ReceiverStream::new(queue)).await.map_err(Box::new)?.into_inner();
        let mut session = Self { identity, to_operator, from_operator, asked: HashSet::new(), heard: Heard::default() };
        session.ask(lookups.take_all())?;
        Ok(session)
    }

    /// The next message of the operator.
    pub(super) async fn next(&mut self) -> Result<OperatorMessage, SessionError> {
        self.from_operator.message().await.map_err(Box::new)?.ok_or(SessionError::Closed)
    }

    /// Sends a message without waiting.
    pub(super) fn send(&self, message: SidecarMessage) -> Result<(), SessionError> {
        send(&self.to_operator, message)
    }

    /// Asks for what this stream was not asked for yet.
    pub(super) fn ask(&mut self, authorities: Vec<Arc<str>>) -> Result<(), SessionError> {
        for authority in authorities {
            if self.asked.insert(authority.clone()) {
                let lookup = Lookup { authority: authority.to_string() };
                self.send(SidecarMessage { kind: Some(Kind::Lookup(lookup)) })?;
            }
        }
        Ok(())
    }

    /// Tells what policies in `Audit` have let pass, as far as this stream was not told.
    pub(super) fn tell(&mut self, shared: &Shared) -> Result<(), SessionError> {
        let applied = shared.applied();
        let news = self.heard.news(applied.iter().flat_map(|applied| applied.audits.told()));
        news.into_iter().try_for_each(|told| self.send(SidecarMessage { kind: Some(Kind::WouldRefuse(told)) }))
    }

    /// Whether it was opened with another certificate than the one in use.
    pub(super) fn is_outdated(&self, shared: &Shared) -> bool {
        shared.identity().is_some_and(|current| !Arc::ptr_eq(&current.identity, &self.identity))
    }

    /// Whether it has used up the lookups that the operator answers on one stream, most of them for destinations that
    /// nobody uses any more. There is no way to take one back, so another stream must take over.
    pub(super) fn is_used_up(&self, lookups: &Lookups) -> bool {
        const SPARE: usize = MAX_AUTHORITIES / 8;
        self.asked.len() + SPARE >= MAX_AUTHORITIES && lookups.len() + SPARE <= self.asked.len()
    }
}

fn send(queue: &mpsc::Sender<SidecarMessage>, message: SidecarMessage) -> Result<(), SessionError> {
    queue.try_send(message).map_err(|_| SessionError::Stuck)
}

fn public_jwk(key: &SigningKey) -> Vec<u8> {
    let mut jwk = key.public_jwk();
    if let Some(members) = jwk.as_object_mut() {
        members.insert("kid".to_owned(), key.kid().into());
    }
    jwk.to_string().into_bytes()
}

fn hello(shared: &Shared) -> SidecarMessage {
    let applied = shared.applied().map(|applied| applied.order.clone()).unwrap_or_default();
    let hello = Hello {
        version: control::VERSION.to_owned(),
        features: features::SUPPORTED.iter().map(|&feature| feature.to_owned()).collect(),
        applied_order: applied.number,
        applied_versions: applied.versions,
        revocation_epoch: shared.revocation_epoch(),
        assertion_key: public_jwk(&shared.assertion_key),
    };
    SidecarMessage { kind: Some(Kind::Hello(hello)) }
}
