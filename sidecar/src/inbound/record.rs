//! What is told about a request: one line and one count, whatever becomes of it.

use std::{rc::Rc, sync::Arc};

use fapi::{Admission, AdmissionKind, Refusal, Rejection, TokenHash};
use http::{HeaderValue, Method, StatusCode, Uri, request};

use super::connection::{Connection, View};
use crate::log::{Decision, Direction, Outcome};

/// A request that will be reported when this is dropped: with its answer, or without one when the caller has left.
pub(super) struct Record {
    pub(super) connection: Rc<Connection>,
    pub(super) view: Rc<View>,
    pub(super) interaction: HeaderValue,
    method: Method,
    uri: Uri,
    verdict: Option<Judged>,
    status: Option<StatusCode>,
    upstream: Option<&'static str>,
}

enum Judged {
    Admitted(Admission),
    Refused { rejection: Rejection, client_id: Option<Arc<str>>, token: Option<TokenHash>, policy: Option<Arc<str>> },
}

impl Record {
    /// Nothing is reported before a verdict.
    pub(super) fn begin(connection: &Rc<Connection>, view: &Rc<View>, request: &request::Parts) -> Self {
        Self {
            connection: Rc::clone(connection),
            view: Rc::clone(view),
            interaction: connection.inbound.local.interaction_id(&request.headers),
            method: request.method.clone(),
            uri: request.uri.clone(),
            verdict: None,
            status: None,
            upstream: None,
        }
    }

    pub(super) fn admitted(&mut self, admission: Admission) {
        self.verdict = Some(Judged::Admitted(admission));
    }

    pub(super) fn refused(&mut self, refusal: Refusal) {
        let Refusal { rejection, answer, client_id, token_hash: token, policy } = refusal;
        self.status = Some(answer.status);
        self.verdict = Some(Judged::Refused { rejection, client_id, token, policy });
    }

    /// The app has answered.
    pub(super) fn answered(&mut self, status: StatusCode) {
        self.status = Some(status);
    }

    /// The app has not.
    pub(super) fn failed(&mut self, status: StatusCode, upstream: &'static str) {
        self.status = Some(status);
        self.upstream = Some(upstream);
    }
}

impl Drop for Record {
    fn drop(&mut self) {
        let Some(verdict) = &self.verdict else { return };
        let subject = match verdict {
            Judged::Admitted(admission) => admission.subject(),
            Judged::Refused { .. } => None,
        };
        let (outcome, reason, client_id, token, policy) = match verdict {
            Judged::Admitted(admission) => {
                let (outcome, reason) = match admission.kind() {
                    AdmissionKind::Proven => (Outcome::Admitted, None),
                    AdmissionKind::Observed(rejection) => {
                        if let Some(audit) = self.view.audit() {
                            audit.count(rejection, &self.connection.peer.spiffe_id);
                        }
                        (Outcome::WouldRefuse, Some(rejection))
                    }
                };
                (outcome, reason, admission.client_id(), admission.token_hash(), Some(admission.policy()))
            }
            Judged::Refused { rejection, client_id, token, policy } => {
                (Outcome::Refused, Some(*rejection), client_id.as_deref(), token.as_ref(), policy.as_deref())
            }
        };
        let connection = &*self.connection;
        connection.shared().metrics.decisions(Direction::Inbound).count(outcome, reason);
        connection.inbound.local.log.decision(&Decision {
            direction: Direction::Inbound,
            outcome,
            reason,
            interaction_id: self.interaction.to_str().ok(),
            caller: Some(connection.peer.spiffe_id.as_str()),
            client_id,
            subject,
            method: Some(self.method.as_str()),
            path: Some(self.uri.path()),
            policy_version: self.view.version.as_deref(),
            policy,
            token,
            status: self.status.map(|status| status.as_u16()),
            peer: Some(connection.address),
            destination: None,
            upstream: self.upstream,
        });
    }
}
