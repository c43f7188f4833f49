//! The decision about a connection that carries no HTTP, and so no token: by the certificate of its peer alone.

use std::sync::Arc;

use super::{AdmissionKind, Refusal};
use crate::{
    peer::Peer,
    policy::{Mode, PortPolicy},
    rejection::Rejection,
    revocations::Revocations,
    value::UnixTime,
};

/// The permit without which no byte of a connection is passed on. Only [`decide_connection`] makes it.
#[derive(Debug)]
pub struct ConnectionAdmission {
    kind: AdmissionKind,
    policy: Arc<str>,
}

impl ConnectionAdmission {
    /// Why it may pass.
    #[must_use]
    pub const fn kind(&self) -> AdmissionKind {
        self.kind
    }

    /// The name of the policy.
    #[must_use]
    pub fn policy(&self) -> &str {
        &self.policy
    }
}

/// Decides about a connection to a port that is not HTTP; again whenever policy or revocations change.
///
/// # Errors
/// Why it must not pass, or must end. A port that takes HTTP refuses it: tokens cannot be got round in this way.
pub fn decide_connection(
    policy: &PortPolicy,
    peer: &Peer,
    revocations: &Revocations,
    now: UnixTime,
) -> Result<ConnectionAdmission, Refusal> {
    let policy = match policy {
        PortPolicy::Tcp(policy) => policy,
        PortPolicy::Policy(policy) => {
            let refusal = Refusal::of(Rejection::OpaqueNotAllowed);
            return Err(Refusal { policy: Some(policy.shared_name()), ..refusal });
        }
        PortPolicy::Missing => return Err(Refusal::of(Rejection::PolicyMissing)),
        PortPolicy::Invalid { name } => {
            return Err(Refusal { policy: Some(Arc::clone(name)), ..Refusal::of(Rejection::PolicyInvalid) });
        }
    };
    let name = || Arc::clone(&policy.name);
    let refuse = |rejection| Refusal { policy: Some(name()), ..Refusal::of(rejection) };
    revocations.check_peer(peer, now).map_err(refuse)?;
    let kind = match (policy.names(&peer.spiffe_id), policy.mode) {
        (true, _) => AdmissionKind::Proven,
        (false, Mode::Audit) => AdmissionKind::Observed(Rejection::CallerNotAllowed),
        (false, Mode::Enforce) => return Err(refuse(Rejection::CallerNotAllowed)),
    };
    Ok(ConnectionAdmission { kind, policy: name() })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        policy::{TcpPolicy, WireCaller, WireTcpPolicy},
        value::{CertThumbprint, SpiffeId, TrustDomain},
    };

    fn peer(id: &str) -> Peer {
        Peer {
            spiffe_id: SpiffeId::parse(id).unwrap(),
            thumbprint: CertThumbprint::of_der(b"leaf"),
            pod_uid: None,
            issued: UnixTime::from_secs(0),
            not_after: UnixTime::from_secs(100),
        }
    }

    fn wire(mode: Mode, account: Option<&str>) -> WireTcpPolicy {
        let caller = WireCaller { namespace: "bank".to_owned(), service_account: account.map(str::to_owned) };
        WireTcpPolicy { name: "bank/db".to_owned(), mode, callers: vec![caller] }
    }

    fn judge(policy: &PortPolicy, id: &str) -> Result<AdmissionKind, Rejection> {
        let now = UnixTime::from_secs(50);
        let judged = decide_connection(policy, &peer(id), &Revocations::none(), now);
        // Whatever is decided by a policy is told under its name.
        let named = |name: &str| assert!(["bank/db", "bank/payments"].contains(&name), "{name}");
        match judged {
            Ok(admission) => {
                named(admission.policy());
                Ok(admission.kind())
            }
            Err(refusal) => {
                let name = refusal.policy.as_deref();
                assert_eq!(name.is_none(), refusal.rejection == Rejection::PolicyMissing);
                name.map(named);
                Err(refusal.rejection)
            }
        }
    }

    fn tcp(wire: &WireTcpPolicy) -> PortPolicy {
        let domain = TrustDomain::parse("bank.example").unwrap();
        PortPolicy::Tcp(Arc::new(TcpPolicy::compile(&domain, wire).unwrap()))
    }

    const SHOP: &str = "spiffe://bank.example/ns/bank/sa/shop";

    #[test]
    fn only_named_callers_connect() {
        let policy = tcp(&wire(Mode::Enforce, Some("shop")));
        assert_eq!(judge(&policy, SHOP), Ok(AdmissionKind::Proven));
        for other in ["spiffe://bank.example/ns/bank/sa/ledger", "spiffe://other.example/ns/bank/sa/shop"] {
            assert_eq!(judge(&policy, other), Err(Rejection::CallerNotAllowed), "{other}");
        }
        let everybody = tcp(&wire(Mode::Enforce, None));
        assert_eq!(judge(&everybody, SHOP), Ok(AdmissionKind::Proven));
        assert_eq!(judge(&everybody, "spiffe://bank.example/ns/web/sa/shop"), Err(Rejection::CallerNotAllowed));
    }

    #[test]
    fn audit_passes_and_says_so() {
        let policy = tcp(&wire(Mode::Audit, Some("ledger")));
        assert_eq!(judge(&policy, SHOP), Ok(AdmissionKind::Observed(Rejection::CallerNotAllowed)));
    }

    #[test]
    fn without_a_policy_for_it_nothing_connects() {
        assert_eq!(judge(&PortPolicy::Missing, SHOP), Err(Rejection::PolicyMissing));
        let invalid = PortPolicy::Invalid { name: "bank/db".into() };
        assert_eq!(judge(&invalid, SHOP), Err(Rejection::PolicyInvalid));
        let http = crate::policy::Policy::compile(
            &TrustDomain::parse("bank.example").unwrap(),
            &crate::testing::wire_policy(),
        );
        let http = PortPolicy::Policy(Arc::new(http.unwrap()));
        assert_eq!(judge(&http, SHOP), Err(Rejection::OpaqueNotAllowed));
    }

    #[test]
    fn a_policy_without_callers_does_not_compile() {
        let domain = TrustDomain::parse("bank.example").unwrap();
        let empty = WireTcpPolicy { callers: vec![], ..wire(Mode::Enforce, None) };
        let problems = TcpPolicy::compile(&domain, &empty).unwrap_err();
        assert_eq!(problems[0].field, "callers");
    }
}
