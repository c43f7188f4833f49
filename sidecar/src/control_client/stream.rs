//! Keeps a stream to the operator open: opens it, follows it, replaces it before it ends when it can.

use std::{future::Future, pin::Pin, sync::Arc, time::Duration};

use tokio::{
    sync::{Notify, watch},
    time::{MissedTickBehavior, interval, sleep},
};

use super::{
    Lookups,
    apply::Applier,
    backoff::Backoff,
    session::{Session, SessionError},
};
use crate::{
    identity::Settings,
    issuers::{Keepers, Pace},
    state::Shared,
    tokens::Tokens,
};

/// How often it is told what policies in `Audit` let pass, if that has changed.
const COUNTS_EVERY: Duration = Duration::from_secs(30);

type Opening = Pin<Box<dyn Future<Output = Result<Session, SessionError>> + Send>>;

/// Follows the operator, for ever.
pub(super) async fn keep(
    shared: Arc<Shared>,
    settings: Settings,
    lookups: Arc<Lookups>,
    tokens: Arc<Tokens>,
    renew: Arc<Notify>,
) {
    let keepers = Keepers::new(shared.clone(), settings.roots.clone(), Pace::default());
    let applier = Applier::new(shared.clone(), lookups.clone(), tokens.clone(), renew.clone(), keepers);
    let changes = shared.changes();
    Follower { shared, settings, lookups, tokens, applier, renew, changes, backoff: Backoff::new() }.run().await;
}

struct Follower {
    shared: Arc<Shared>,
    settings: Settings,
    lookups: Arc<Lookups>,
    tokens: Arc<Tokens>,
    applier: Applier,
    renew: Arc<Notify>,
    changes: watch::Receiver<u64>,
    backoff: Backoff,
}

impl Follower {
    async fn run(mut self) {
        loop {
            self.certified().await;
            let ended = match self.open().await {
                Ok(session) => self.follow(session).await,
                Err(error) => error,
            };
            if ended.wants_certificate() {
                self.renew.notify_one();
            }
            let wait = self.backoff.next();
            tracing::warn!(error = %ended, retry_ms = wait.as_millis(), "no control stream; the last good state stays");
            sleep(wait).await;
        }
    }

    /// Waits for the first certificate.
    async fn certified(&mut self) {
        while self.shared.identity().is_none() {
            // An error would be the end of the process: `shared` holds the other end.
            let _ = self.changes.changed().await;
        }
    }

    fn open(&self) -> Opening {
        Box::pin(Session::open(self.shared.clone(), self.settings.clone(), self.lookups.clone()))
    }

    /// Follows a stream until it ends. After a rotation another one, over the new certificate, takes over before it does.
    async fn follow(&mut self, mut session: Session) -> SessionError {
        let shared = self.shared.clone();
        let _up = shared.metrics.control_stream.enter();
        tracing::info!(control = self.settings.control, "the control stream is open");
        self.tokens.operator_is_back();
        let mut successor: Option<Opening> = None;
        let mut counts = interval(COUNTS_EVERY);
        counts.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            let step = tokio::select! {
                message = session.next() => message.and_then(|message| self.take(message, &session)),
                () = self.lookups.added() => session.ask(self.lookups.take_new()),
                _ = self.changes.changed() => Ok(()),
                _ = counts.tick() => session.tell(&self.shared),
                opened = next_of(&mut successor) => {
                    successor = None;
                    match opened {
                        Ok(opened) => {
                            session = opened;
                            // Whatever only the old one was asked while this one opened.
                            session.ask(self.lookups.take_all()).and_then(|()| session.tell(&self.shared))
                        }
                        Err(error) => {
                            tracing::warn!(%error, "no control stream over the new certificate yet");
                            Ok(())
                        }
                    }
                }
            };
            if let Err(error) = step {
                return error;
            }
            if successor.is_none() && (session.is_outdated(&self.shared) || session.is_used_up(&self.lookups)) {
                successor = Some(self.successor());
            }
        }
    }

    fn take(&mut self, message: control::pb::OperatorMessage, session: &Session) -> Result<(), SessionError> {
        self.backoff.reset();
        self.applier.apply(message).map_or(Ok(()), |answer| session.send(answer))
    }

    /// Opens another stream, after a wait: a failure must not become a storm.
    fn successor(&mut self) -> Opening {
        let (wait, opening) = (self.backoff.next(), self.open());
        Box::pin(async move {
            sleep(wait).await;
            opening.await
        })
    }
}

/// The outcome of the opening, or never.
async fn next_of(opening: &mut Option<Opening>) -> Result<Session, SessionError> {
    match opening {
        Some(opening) => opening.await,
        None => std::future::pending().await,
    }
}
