//! A connection of a peer to a port that takes no HTTP: by its certificate alone it is joined with the app, or closed.

use std::{net::SocketAddr, rc::Rc, sync::Arc, time::Duration};

use fapi::{AdmissionKind, ConnectionAdmission, PortPolicy, Refusal, Rejection};
use tokio::net::TcpStream;

use super::{Inbound, lifetime::Lifetime, serve::Met};
use crate::{
    detect::NotHttp,
    forward::Failure,
    log::{Decision, Direction, Outcome},
    state::AppliedPort,
    tunnel,
};

/// Both sides may be silent for this long: pools of databases are.
const SILENT_FOR: Duration = Duration::from_secs(2 * 3600);

/// A connection, for what is told about it.
struct Told<'a> {
    caller: &'a fapi::SpiffeId,
    address: SocketAddr,
}

impl Inbound {
    /// Whether a port takes no HTTP. The port decides, never what is spoken there.
    pub(super) fn is_opaque(&self, listen: SocketAddr) -> bool {
        let applied = self.local.shared.applied();
        let port = applied.as_deref().and_then(|applied| applied.port(listen));
        port.is_some_and(|port| matches!(port.policy, PortPolicy::Tcp(_)))
    }

    /// Joins a peer with the app for as long as it may be.
    pub(super) async fn serve_opaque(&self, met: Met, listen: SocketAddr, address: SocketAddr) {
        let Met { stream, peer, root } = met;
        let lifetime = Rc::new(Lifetime::new(peer.clone(), root, None));
        self.lifetimes.watch(&lifetime);
        lifetime.upgrade();
        let told = Told { caller: &peer.spiffe_id, address };
        let app = match self.judge(&peer, listen) {
            Ok((admission, port)) => {
                if let (AdmissionKind::Observed(reason), Some(audit)) = (admission.kind(), &port.audit) {
                    audit.count(reason, &peer.spiffe_id);
                }
                match self.open(port.app).await {
                    Ok(stream) => {
                        self.tell(&told, Ok(&admission), None);
                        stream
                    }
                    Err(failure) => return self.tell(&told, Ok(&admission), Some(failure.id())),
                }
            }
            Err(refusal) => return self.tell(&told, Err(&refusal), None),
        };
        let (stream, found) = NotHttp::new(stream);
        tokio::select! {
            () = tunnel::join_within(SILENT_FOR, stream, app) => {}
            refusal = self.until_refused(&peer, listen) => self.tell(&told, Err(&refusal), None),
            () = lifetime.over() => {}
        }
        if found.get() {
            self.tell(&told, Err(&Refusal::of(Rejection::OpaqueNotAllowed)), None);
        }
    }

    fn judge(&self, peer: &fapi::Peer, listen: SocketAddr) -> Result<(ConnectionAdmission, Arc<AppliedPort>), Refusal> {
        let shared = &self.local.shared;
        let applied = shared.applied();
        let port = applied.as_deref().and_then(|applied| applied.port(listen));
        let port = port.ok_or_else(|| Refusal::of(Rejection::PolicyMissing))?;
        let now = shared.clock.now();
        Ok((fapi::decide_connection(&port.policy, peer, &shared.revocations(), now)?, Arc::clone(port)))
    }

    /// Judges again whenever something changes, and returns when that is a refusal.
    async fn until_refused(&self, peer: &fapi::Peer, listen: SocketAddr) -> Refusal {
        let mut changes = self.local.shared.changes();
        loop {
            if let Err(refusal) = self.judge(peer, listen) {
                return refusal;
            }
            if changes.changed().await.is_err() {
                return Refusal::of(Rejection::PolicyMissing);
            }
        }
    }

    async fn open(&self, app: SocketAddr) -> Result<TcpStream, Failure> {
        self.apps.app(app).connect().await
    }

    fn tell(&self, told: &Told<'_>, judged: Result<&ConnectionAdmission, &Refusal>, upstream: Option<&'static str>) {
        let (outcome, reason, policy) = match judged {
            Ok(admission) => match admission.kind() {
                AdmissionKind::Proven => (Outcome::Admitted, None, Some(admission.policy())),
                AdmissionKind::Observed(reason) => (Outcome::WouldRefuse, Some(reason), Some(admission.policy())),
            },
            Err(refusal) => (Outcome::Refused, Some(refusal.rejection), refusal.policy.as_deref()),
        };
        let shared = &self.local.shared;
        shared.metrics.decisions(Direction::Inbound).count(outcome, reason);
        let applied = shared.applied();
        self.local.log.decision(&Decision {
            direction: Direction::Inbound,
            outcome,
            reason,
            caller: Some(told.caller.as_str()),
            client_id: None,
            subject: None,
            interaction_id: None,
            method: None,
            path: None,
            policy_version: applied.as_ref().map(|applied| &*applied.version),
            policy,
            token: None,
            status: None,
            peer: Some(told.address),
            destination: None,
            upstream,
        });
    }
}
