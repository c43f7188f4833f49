//! What the control thread publishes to the data workers: immutable values behind pointers that are swapped whole.

mod compile;
mod listeners;
mod pod;
#[cfg(test)]
mod tests;

use std::{
    net::SocketAddr,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
};

use arc_swap::{ArcSwap, ArcSwapOption};
use control::{
    Order, Snapshot,
    tls::{ClientAuth, Identity, TlsError, TrustBundle},
};
use fapi::{
    Issuer, IssuerKeys, KeySet, NonceMinter, PortPolicy, ReplaySet, Revocations, SigningKey, SpiffeId, TrustDomain,
    UnixTime,
};
use rustls::ServerConfig;
use tokio::sync::{mpsc, watch};

pub(crate) use compile::MAX_PORTS;
pub(crate) use listeners::NewListener;
pub(crate) use pod::OwnCall;

use crate::{
    audit::{Book, Books},
    bypass::Bypass,
    clock::Clock,
    contexts::Contexts,
    interception::Interception,
    issuers::Issuers,
    log::{Log, Writer},
    metrics::{Facts, Metrics},
    random,
};

/// Proofs remembered at once: 120 seconds, which is as long as any is kept, of 6,600 DPoP requests a second. Some 30 MiB then, and
/// nothing before.
const REPLAY_CAPACITY: usize = 800_000;
/// ... of which one caller may hold half, so that no caller can close the others out.
const REPLAY_PER_CALLER: usize = REPLAY_CAPACITY / 2;

/// Connections of the process to itself that no worker has taken yet.
const OWN_CALLS: usize = 128;

/// Protocols offered to peers inbound, the preferred one first.
pub(crate) const ALPN: [&[u8]; 2] = [b"h2", b"http/1.1"];

/// The state of the process. The control thread writes, workers read; a reader never waits.
pub(crate) struct Shared {
    pub(crate) clock: Clock,
    pub(crate) metrics: Metrics,
    pub(crate) log: Log,
    pub(crate) nonces: NonceMinter,
    pub(crate) replay: ReplaySet,
    pub(crate) issuers: Issuers,
    /// Signs our client assertions. In memory only, for the life of the process; the operator publishes its public half.
    pub(crate) assertion_key: SigningKey,
    pub(crate) contexts: Contexts,
    trust_domain: TrustDomain,
    applied: ArcSwapOption<Applied>,
    identity: ArcSwapOption<Generation>,
    keys: ArcSwap<IssuerKeys>,
    revocations: ArcSwap<Revocations>,
    /// Of the revocations in force; 0 before the first have come.
    revocation_epoch: AtomicU64,
    bundle: ArcSwapOption<TrustBundle>,
    bypass: ArcSwap<Bypass>,
    generation: AtomicU64,
    changed: watch::Sender<u64>,
    listeners: listeners::Listeners,
    interception: Interception,
    own_calls: mpsc::Sender<OwnCall>,
}

/// The snapshot in force.
#[derive(Debug)]
pub(crate) struct Applied {
    pub(crate) version: Arc<str>,
    pub(crate) order: Order,
    pub(crate) snapshot: Snapshot,
    pub(crate) ports: Vec<Arc<AppliedPort>>,
    /// What its policies in `Audit` let pass.
    pub(crate) audits: Books,
}

/// One guarded port, ready to judge.
#[derive(Debug)]
pub(crate) struct AppliedPort {
    /// As the snapshot names it; also the key of the port's connections.
    pub(crate) listen: SocketAddr,
    /// Its number in the pod.
    pub(crate) number: u16,
    pub(crate) app: SocketAddr,
    pub(crate) policy: PortPolicy,
    /// Whether callers may come with DPoP proofs: every answer then carries a nonce.
    pub(crate) takes_dpop: bool,
    /// Where it is counted what is let pass because the policy is in `Audit`.
    pub(crate) audit: Option<Arc<Book>>,
}

/// A certificate with everything that was made from it.
pub(crate) struct Generation {
    /// Part of every key of a pool or a token cache; never used twice in a process.
    pub(crate) number: u64,
    pub(crate) identity: Arc<Identity>,
    pub(crate) spiffe_id: SpiffeId,
    pub(crate) not_after: UnixTime,
    pub(crate) bundle: Arc<TrustBundle>,
    /// For inbound connections; requires a client certificate.
    pub(crate) server_config: Arc<ServerConfig>,
}

/// What starts with a [`Shared`]: each end goes to one thread.
pub(crate) struct Ends {
    /// Listeners to accept from.
    pub(crate) new_listeners: mpsc::Receiver<NewListener>,
    /// Connections of the process to itself.
    pub(crate) own_calls: mpsc::Receiver<OwnCall>,
    /// The reading end of the log.
    pub(crate) log_writer: Writer,
}

/// Why a certificate or a bundle was not taken.
#[derive(Debug, thiserror::Error)]
pub(crate) enum StateError {
    /// There is no bundle yet to verify peers with.
    #[error("the certificate cannot be used yet: no trust bundle is loaded; load one first")]
    NoBundle,
    /// The leaf breaks the rules of the mesh.
    #[error("the new certificate is not a workload certificate of this mesh: {0}; check the operator's issuing CA")]
    Leaf(#[from] control::identity::LeafError),
    /// No TLS configuration can be made of it.
    #[error("the new certificate cannot serve TLS: {0}; check that key and certificate belong together")]
    Tls(#[from] TlsError),
    /// The chain is empty.
    #[error("the new certificate chain is empty; check what the operator answered")]
    NoLeaf,
}

impl Shared {
    /// An empty state: no identity, no policy, everything refused.
    ///
    /// # Errors
    /// The random generator of the system failed.
    pub(crate) fn new(
        trust_domain: TrustDomain,
        interception: Interception,
    ) -> Result<(Arc<Self>, Ends), rustls::crypto::GetRandomFailed> {
        let (log, log_writer) = Log::new();
        let (listeners, new_listeners) = listeners::Listeners::new(interception);
        let (own_calls, own_calls_end) = mpsc::channel(OWN_CALLS);
        let shared = Self {
            clock: Clock::default(),
            metrics: Metrics::default(),
            log,
            nonces: NonceMinter::new(random::bytes()?),
            replay: ReplaySet::new(REPLAY_CAPACITY, REPLAY_PER_CALLER),
            issuers: Issuers::default(),
            assertion_key: SigningKey::generate().map_err(|_| rustls::crypto::GetRandomFailed)?,
            contexts: Contexts::new(),
            trust_domain,
            applied: ArcSwapOption::empty(),
            identity: ArcSwapOption::empty(),
            keys: ArcSwap::from_pointee(IssuerKeys::new()),
            revocations: ArcSwap::from_pointee(Revocations::none()),
            revocation_epoch: AtomicU64::new(0),
            bundle: ArcSwapOption::empty(),
            // Nobody has looked yet.
            bypass: ArcSwap::from_pointee(match interception {
                Interception::Proxy => Bypass::Unknown,
                Interception::None | Interception::Redirect => Bypass::Closed,
            }),
            generation: AtomicU64::new(0),
            changed: watch::channel(0).0,
            listeners,
            interception,
            own_calls,
        };
        Ok((Arc::new(shared), Ends { new_listeners, own_calls: own_calls_end, log_writer }))
    }

    /// The trust domain that this process belongs to, for ever.
    pub(crate) fn trust_domain(&self) -> &TrustDomain {
        &self.trust_domain
    }

    /// The snapshot in force; none before the first.
    pub(crate) fn applied(&self) -> Option<Arc<Applied>> {
        self.applied.load_full()
    }

    /// The certificate in use; none before enrolment.
    pub(crate) fn identity(&self) -> Option<Arc<Generation>> {
        self.identity.load_full()
    }

    /// Keys of issuers.
    pub(crate) fn keys(&self) -> Arc<IssuerKeys> {
        self.keys.load_full()
    }

    /// What was revoked.
    pub(crate) fn revocations(&self) -> Arc<Revocations> {
        self.revocations.load_full()
    }

    /// The epoch of the revocations in force; 0 before the first have come.
    pub(crate) fn revocation_epoch(&self) -> u64 {
        self.revocation_epoch.load(Ordering::Acquire)
    }

    /// Roots that vouch for peers.
    pub(crate) fn bundle(&self) -> Option<Arc<TrustBundle>> {
        self.bundle.load_full()
    }

    /// A number that changes with policy, keys, revocations or bundle: what was proven under another is void.
    /// Read it before the values that it stands for.
    pub(crate) fn generation(&self) -> u64 {
        self.generation.load(Ordering::Acquire)
    }

    /// Tells when [`Shared::generation`] or the identity changes.
    pub(crate) fn changes(&self) -> watch::Receiver<u64> {
        self.changed.subscribe()
    }

    /// Puts a snapshot in force, its listeners bound, or changes nothing.
    ///
    /// # Errors
    /// The reason for the NACK: all problems of the snapshot, or a listener that cannot be bound.
    pub(crate) fn apply(&self, version: &str, order: Order, snapshot: Snapshot) -> Result<(), String> {
        let result = self.try_apply(version, order, snapshot);
        let attempts = &self.metrics.snapshots;
        if result.is_ok() {
            attempts.succeeded.add(1);
        } else {
            attempts.failed.add(1);
        }
        result
    }

    fn try_apply(&self, version: &str, order: Order, snapshot: Snapshot) -> Result<(), String> {
        let before = self.applied();
        if let Some(applied) = &before
            && order.is_behind(&applied.order)
        {
            return Err(format!("{order:?} is behind the applied {:?}; the newer snapshot is kept", applied.order));
        }
        let own = self.identity().map(|generation| generation.spiffe_id.clone());
        let audits = before.as_deref().map(|before| (&before.snapshot, &before.audits));
        let audits = Books::of(&snapshot, audits, self.clock.now());
        let ports = compile::ports(&self.trust_domain, own.as_ref(), &snapshot, &audits)
            .map_err(|problems| problems.join("; "))?;
        let bound = self.listeners.bind(ports.iter().map(|port| port.listen))?;
        self.applied.store(Some(Arc::new(Applied { version: version.into(), order, snapshot, ports, audits })));
        self.bump();
        self.listeners.publish(bound);
        Ok(())
    }

    /// Serves and calls with this certificate from now on.
    ///
    /// # Errors
    /// See [`StateError`]; the previous certificate then stays in use.
    pub(crate) fn install_identity(&self, identity: Arc<Identity>) -> Result<Arc<Generation>, StateError> {
        let bundle = self.bundle().ok_or(StateError::NoBundle)?;
        self.install(identity, bundle)
    }

    /// Trusts these roots from now on, and no others. The same roots again change nothing: connections that were
    /// verified by them stay.
    ///
    /// # Errors
    /// See [`StateError`]; the previous roots then stay in use.
    pub(crate) fn install_bundle(&self, bundle: Arc<TrustBundle>) -> Result<(), StateError> {
        if self.bundle().is_some_and(|current| current.is_same(&bundle)) {
            return Ok(());
        }
        if let Some(current) = self.identity() {
            self.install(Arc::clone(&current.identity), Arc::clone(&bundle))?;
        }
        self.bundle.store(Some(bundle));
        self.bump();
        Ok(())
    }

    /// Takes these keys of an issuer in place of those known.
    pub(crate) fn install_keys(&self, issuer: Issuer, keys: KeySet) {
        let mut next = (**self.keys.load()).clone();
        next.insert(issuer, keys);
        self.keys.store(Arc::new(next));
        self.bump();
    }

    /// Holds these revocations in force in place of those known.
    ///
    /// # Errors
    /// They are older than those in force, which stay.
    pub(crate) fn install_revocations(&self, epoch: u64, revocations: Revocations) -> Result<(), String> {
        let known = self.revocation_epoch();
        if epoch < known {
            return Err(format!("epoch {epoch} is older than {known}, which is in force"));
        }
        self.revocations.store(Arc::new(revocations));
        self.revocation_epoch.store(epoch, Ordering::Release);
        self.bump();
        Ok(())
    }

    /// Uses no key of this issuer any more.
    pub(crate) fn forget_keys(&self, issuer: &Issuer) {
        if self.keys.load().get(issuer).is_none() {
            return;
        }
        let mut next = (**self.keys.load()).clone();
        next.remove(issuer);
        self.keys.store(Arc::new(next));
        self.bump();
    }

    /// All metrics as text.
    pub(crate) fn render_metrics(&self) -> String {
        self.metrics.render(Facts {
            certificate_not_after: self.identity.load().as_ref().map(|generation| generation.not_after.as_secs()),
            snapshot_order: self.applied.load().as_ref().map(|applied| applied.order.number),
            revocations: self.revocations.load().len() as u64,
            revocation_epoch: self.revocation_epoch(),
            replay_entries: self.replay.remembered() as u64,
            contexts: self.contexts.len() as u64,
            lost_lines: self.log.lost_ever(),
            bypasses: self.bypasses(),
        })
    }

    fn install(&self, identity: Arc<Identity>, bundle: Arc<TrustBundle>) -> Result<Arc<Generation>, StateError> {
        let leaf = identity.leaf().ok_or(StateError::NoLeaf)?;
        let own = control::identity::peer_from_leaf(leaf)?;
        let server_config = control::tls::server_config(&bundle, &identity, ClientAuth::Required, &ALPN)?;
        let generation = Arc::new(Generation {
            number: self.identity().map_or(1, |current| current.number + 1),
            identity,
            spiffe_id: own.spiffe_id,
            not_after: own.not_after,
            bundle,
            server_config: Arc::new(server_config),
        });
        self.identity.store(Some(Arc::clone(&generation)));
        self.changed.send_replace(self.generation());
        Ok(generation)
    }

    /// Only the control thread writes, so there is no other bump to collide with.
    fn bump(&self) {
        let next = self.generation.fetch_add(1, Ordering::Release) + 1;
        self.changed.send_replace(next);
    }
}

impl Applied {
    /// The port that connections of this listener belong to.
    pub(crate) fn port(&self, listen: SocketAddr) -> Option<&Arc<AppliedPort>> {
        self.ports.iter().find(|port| port.listen == listen)
    }
}
