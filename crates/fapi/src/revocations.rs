//! What counts no more before its end: one set, looked at on every request, in constant time and without allocation.

mod wire;

use std::{collections::HashMap, sync::Arc};

use serde::{Deserialize, Serialize};

use crate::{
    peer::Peer,
    rejection::Rejection,
    token::{Claims, IssuedToken},
    value::{CertThumbprint, InvalidValue, Issuer, SpiffeId, UnixTime},
};
use wire::WireRevocation;

/// What can be revoked.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Revoked {
    /// One token, by the `jti` that its issuer gave it.
    Token {
        /// The issuer.
        issuer: Issuer,
        /// The `jti`.
        id: Arc<str>,
    },
    /// One certificate.
    Certificate(CertThumbprint),
    /// A pod, by its uid: every certificate that it has or gets.
    Pod(Arc<str>),
    /// An identity: the certificates and tokens of all its pods.
    SpiffeId(SpiffeId),
    /// All tokens of a client. Its id is unique only within its issuer.
    Client {
        /// The issuer.
        issuer: Issuer,
        /// The `client_id`.
        id: Arc<str>,
    },
}

/// One revocation.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "WireRevocation", into = "WireRevocation")]
pub struct Revocation {
    revoked: Revoked,
    issued_before: Option<UnixTime>,
    expires: UnixTime,
}

impl Revocation {
    /// Revokes, up to `expires`, what was issued before `issued_before`; `None`: whatever is issued until then too.
    ///
    /// # Errors
    /// An id that is empty or too long, or a pod with a time: a pod is never issued anew, and a renewed certificate must
    /// not escape.
    pub fn new(revoked: Revoked, issued_before: Option<UnixTime>, expires: UnixTime) -> Result<Self, InvalidValue> {
        let id = match &revoked {
            Revoked::Pod(_) if issued_before.is_some() => {
                return Err(InvalidValue::new("revocation", "a pod is revoked as a whole; leave issuedBefore out"));
            }
            Revoked::Token { id, .. } | Revoked::Client { id, .. } | Revoked::Pod(id) => Some(id),
            Revoked::Certificate(_) | Revoked::SpiffeId(_) => None,
        };
        if id.is_some_and(|id| id.is_empty() || id.len() > MAX_ID) {
            return Err(InvalidValue::new("revocation", "want an id of 1 to 512 bytes"));
        }
        Ok(Self { revoked, issued_before, expires })
    }

    /// Revokes, up to `expires`, the tokens that `issuer` has issued before `issued_before` to the client of this name.
    #[must_use]
    pub fn of_client(issuer: &Issuer, client: &SpiffeId, issued_before: UnixTime, expires: UnixTime) -> Self {
        let revoked = Revoked::Client { issuer: issuer.clone(), id: client.as_str().into() };
        Self { revoked, issued_before: Some(issued_before), expires }
    }

    /// What it revokes.
    #[must_use]
    pub const fn revoked(&self) -> &Revoked {
        &self.revoked
    }

    /// When it ends: by then nothing that it hits may be alive.
    #[must_use]
    pub const fn expires(&self) -> UnixTime {
        self.expires
    }
}

/// All revocations in force, collected from [`Revocation`]s. Several of one thing hold beside each other.
#[derive(Debug, Default)]
pub struct Revocations {
    tokens: ByIssuer,
    clients: ByIssuer,
    certificates: HashMap<CertThumbprint, Terms>,
    pods: HashMap<Arc<str>, Terms>,
    spiffe_ids: HashMap<Arc<str>, Terms>,
    count: usize,
}

type ByIssuer = HashMap<Arc<str>, HashMap<Arc<str>, Terms>>;

impl Revocations {
    /// None.
    #[must_use]
    pub fn none() -> Self {
        Self::default()
    }

    /// How many there are, the ended ones too.
    #[must_use]
    pub const fn len(&self) -> usize {
        self.count
    }

    /// Whether there is none, which makes every question free.
    #[must_use]
    pub const fn is_empty(&self) -> bool {
        self.count == 0
    }

    /// Whether the holder of a certificate is shut out: by the certificate, its pod or its identity.
    #[must_use]
    pub fn hit_peer(&self, peer: &Peer, now: UnixTime) -> bool {
        !self.is_empty()
            && (hit(self.certificates.get(&peer.thumbprint), peer.issued, now)
                || self.hit_workload(&peer.spiffe_id, peer.pod_uid.as_deref(), peer.issued, now))
    }

    /// Whether a certificate that is issued to this identity and pod at `issued` would be shut out.
    #[must_use]
    pub fn hit_workload(&self, id: &SpiffeId, pod_uid: Option<&str>, issued: UnixTime, now: UnixTime) -> bool {
        !self.is_empty()
            && (hit(self.spiffe_ids.get(id.as_str()), issued, now)
                || pod_uid.is_some_and(|uid| hit(self.pods.get(uid), issued, now)))
    }

    /// Whether a token of `issuer` that is issued to this client at `issued` would count for nothing.
    #[must_use]
    pub fn hit_client(&self, issuer: &str, client_id: &str, issued: UnixTime, now: UnixTime) -> bool {
        !self.is_empty() && hit(of_issuer(&self.clients, issuer, client_id), issued, now)
    }

    /// Whether a token that its issuer knows again would count for nothing: by itself, with its client, with the certificate
    /// that it is bound to, or with one of those who handed the call on.
    #[must_use]
    pub fn hit_token(&self, token: &IssuedToken, now: UnixTime) -> bool {
        if self.is_empty() {
            return false;
        }
        let claims = token.read();
        let certificate = claims.confirmation.certificate.and_then(|thumbprint| self.certificates.get(&thumbprint));
        self.hit_id(claims, now)
            || self.hit_client(&claims.issuer, &claims.client_id, claims.issued, now)
            || hit(certificate, claims.issued, now)
            || hit(self.spiffe_ids.get(&*claims.actor), claims.issued, now)
            || self.hit_behind(claims, now)
    }

    /// Refuses the holder of a revoked certificate, whatever it sends.
    pub(crate) fn check_peer(&self, peer: &Peer, now: UnixTime) -> Result<(), Rejection> {
        if self.hit_peer(peer, now) { Err(Rejection::Revoked) } else { Ok(()) }
    }

    /// Refuses a signed token that is revoked by itself, with its client, or with the identity that holds it: a token bound
    /// to a key outlives the certificate that it was got with. It counts for nothing either when one of those who handed the
    /// call on does.
    pub(crate) fn check_token(&self, claims: &Claims, peer: &Peer, now: UnixTime) -> Result<(), Rejection> {
        let (issuer, issued) = (&*claims.issuer, claims.issued);
        let revoked = !self.is_empty()
            && (self.hit_id(claims, now)
                || self.hit_client(issuer, &claims.client_id, issued, now)
                || self.hit_workload(&peer.spiffe_id, None, issued, now)
                || self.hit_behind(claims, now));
        if revoked { Err(Rejection::Revoked) } else { Ok(()) }
    }

    fn hit_id(&self, claims: &Claims, now: UnixTime) -> bool {
        let id = claims.token_id.as_deref();
        hit(id.and_then(|id| of_issuer(&self.tokens, &claims.issuer, id)), claims.issued, now)
    }

    /// Those behind the actor of a token of the mesh are clients of its issuer and identities alike.
    fn hit_behind(&self, claims: &Claims, now: UnixTime) -> bool {
        claims.behind.iter().any(|party| {
            hit(self.spiffe_ids.get(party), claims.issued, now)
                || self.hit_client(&claims.issuer, party, claims.issued, now)
        })
    }

    fn terms(&mut self, revoked: &Revoked) -> &mut Terms {
        let of = |issuer: &Issuer| Arc::from(issuer.as_str());
        match revoked {
            Revoked::Token { issuer, id } => {
                self.tokens.entry(of(issuer)).or_default().entry(Arc::clone(id)).or_default()
            }
            Revoked::Client { issuer, id } => {
                self.clients.entry(of(issuer)).or_default().entry(Arc::clone(id)).or_default()
            }
            Revoked::Certificate(thumbprint) => self.certificates.entry(*thumbprint).or_default(),
            Revoked::Pod(uid) => self.pods.entry(Arc::clone(uid)).or_default(),
            Revoked::SpiffeId(id) => self.spiffe_ids.entry(id.as_str().into()).or_default(),
        }
    }
}

impl FromIterator<Revocation> for Revocations {
    fn from_iter<T: IntoIterator<Item = Revocation>>(all: T) -> Self {
        let mut out = Self::none();
        for Revocation { revoked, issued_before, expires } in all {
            out.terms(&revoked).push((issued_before, expires));
            out.count += 1;
        }
        out
    }
}

/// Issued before, expires; nearly always one.
type Terms = Vec<(Option<UnixTime>, UnixTime)>;

fn of_issuer<'a>(map: &'a ByIssuer, issuer: &str, id: &str) -> Option<&'a Terms> {
    map.get(issuer)?.get(id)
}

fn hit(terms: Option<&Terms>, issued: UnixTime, now: UnixTime) -> bool {
    let holds = |(before, expires): &(Option<UnixTime>, UnixTime)| {
        now < *expires && before.is_none_or(|before| issued < before)
    };
    terms.is_some_and(|terms| terms.iter().any(holds))
}

/// A `jti` or `client_id` of any sane issuer; a SPIFFE ID has at most 331.
const MAX_ID: usize = 512;

#[cfg(test)]
mod tests;
