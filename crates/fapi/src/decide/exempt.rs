//! The decision about a plain request of somebody outside the mesh: it passes where a policy exempts exactly it.

use std::{net::IpAddr, sync::Arc};

use http::{HeaderMap, Method, header::AUTHORIZATION};

use super::Refusal;
use crate::{path::normal_path, policy::PortPolicy, rejection::Rejection, token::DPOP};

/// A plain request, and where it came from. Nothing about it is proven but its way.
#[derive(Debug, Clone, Copy)]
pub struct PlainRequest<'a> {
    /// The number of the pod's port that it came to.
    pub port: u16,
    /// The address that it came from.
    pub source: IpAddr,
    /// The method.
    pub method: &'a Method,
    /// The path as sent.
    pub path: &'a str,
    /// The query as sent.
    pub query: Option<&'a str>,
    /// The headers.
    pub headers: &'a HeaderMap,
    /// Whether it is more than its head: it has a body, or wants to become something else than HTTP.
    pub goes_on: bool,
}

/// The permit for a request that proves nothing. Only [`decide_exempt`] makes it.
#[derive(Debug)]
pub struct ExemptAdmission {
    policy: Arc<str>,
}

impl ExemptAdmission {
    /// The name of the policy.
    #[must_use]
    pub fn policy(&self) -> &str {
        &self.policy
    }
}

/// Decides about a plain request: `GET`, with nothing but a path that is exempt at this port for this source. Credentials are
/// refused, so that nobody gets used to sending them in plaintext. `Audit` lets nothing more pass.
///
/// # Errors
/// Why it must not pass.
pub fn decide_exempt(policy: &PortPolicy, request: &PlainRequest<'_>) -> Result<ExemptAdmission, Refusal> {
    let (policy, name) = match policy {
        PortPolicy::Policy(policy) => (policy, policy.shared_name()),
        PortPolicy::Missing => return Err(Refusal::of(Rejection::PolicyMissing)),
        PortPolicy::Invalid { name } => return Err(refuse(Rejection::PolicyInvalid, name)),
        PortPolicy::Tcp(policy) => return Err(refuse(Rejection::PlaintextNotAllowed, &policy.name)),
    };
    let path = normal_path(request.path).map_err(|rejection| refuse(rejection, &name))?;
    let has_credentials = request.headers.contains_key(AUTHORIZATION) || request.headers.contains_key(DPOP);
    let is_bare = request.method == Method::GET && request.query.is_none() && !request.goes_on && !has_credentials;
    if is_bare && policy.exempts(request.port, request.source, path) {
        Ok(ExemptAdmission { policy: name })
    } else {
        Err(refuse(Rejection::PlaintextNotAllowed, &name))
    }
}

fn refuse(rejection: Rejection, policy: &Arc<str>) -> Refusal {
    Refusal { policy: Some(Arc::clone(policy)), ..Refusal::of(rejection) }
}

#[cfg(test)]
mod tests {
    use std::sync::LazyLock;

    use http::HeaderValue;

    use super::*;
    use crate::{
        policy::{Mode, WireExemption, WirePolicy},
        testing::{compiled, texts, wire_policy},
    };

    fn exemption() -> WireExemption {
        WireExemption {
            port: 9090,
            paths: texts(&["/metrics", "/metrics/slow"]),
            sources: texts(&["10.1.0.0/16", "fd00:1::/32"]),
        }
    }

    fn policy() -> PortPolicy {
        compiled(&WirePolicy { exempt: vec![exemption()], ..wire_policy() })
    }

    static GET: Method = Method::GET;
    static NONE: LazyLock<HeaderMap> = LazyLock::new(HeaderMap::new);

    /// A request that is exempt, until it is bent.
    fn scrape() -> PlainRequest<'static> {
        PlainRequest {
            port: 9090,
            source: "10.1.2.3".parse().unwrap(),
            method: &GET,
            path: "/metrics",
            query: None,
            headers: &NONE,
            goes_on: false,
        }
    }

    fn judged(policy: &PortPolicy, request: PlainRequest<'_>) -> Result<(), Rejection> {
        match decide_exempt(policy, &request) {
            Ok(admission) => {
                assert_eq!(admission.policy(), "bank/payments");
                Ok(())
            }
            Err(refusal) => {
                assert_eq!(refusal.policy.is_none(), refusal.rejection == Rejection::PolicyMissing);
                Err(refusal.rejection)
            }
        }
    }

    fn from(source: &str) -> PlainRequest<'static> {
        PlainRequest { source: source.parse().unwrap(), ..scrape() }
    }

    const REFUSED: Result<(), Rejection> = Err(Rejection::PlaintextNotAllowed);

    #[test]
    fn exactly_what_is_declared_passes() {
        let policy = policy();
        assert_eq!(judged(&policy, scrape()), Ok(()));
        assert_eq!(judged(&policy, PlainRequest { path: "/metrics/slow", ..scrape() }), Ok(()));
        for source in ["fd00:1::7", "::ffff:10.1.2.3"] {
            assert_eq!(judged(&policy, from(source)), Ok(()), "{source}");
        }
        for source in ["10.2.0.1", "127.0.0.1", "fd00:2::1", "::10.1.2.3"] {
            assert_eq!(judged(&policy, from(source)), REFUSED, "{source}");
        }
        assert_eq!(judged(&policy, PlainRequest { port: 8080, ..scrape() }), REFUSED);
        for method in [Method::HEAD, Method::POST, Method::OPTIONS, Method::TRACE, Method::CONNECT] {
            assert_eq!(judged(&policy, PlainRequest { method: &method, ..scrape() }), REFUSED, "{method}");
        }
        for query in ["", "a=b", "access_token=x"] {
            assert_eq!(judged(&policy, PlainRequest { query: Some(query), ..scrape() }), REFUSED, "{query}");
        }
        assert_eq!(judged(&policy, PlainRequest { goes_on: true, ..scrape() }), REFUSED);
    }

    #[test]
    fn a_path_that_only_looks_like_one_does_not() {
        let policy = policy();
        for path in ["/", "/metrics/", "/Metrics", "/metrics/slow/x", "/metric", "/metricsx", "/transfers"] {
            assert_eq!(judged(&policy, PlainRequest { path, ..scrape() }), REFUSED, "{path}");
        }
        for path in ["/metrics/../transfers", "//metrics", "/%6detrics", "/metrics;x", "/metrics/%2e%2e/a", "metrics"] {
            assert_eq!(judged(&policy, PlainRequest { path, ..scrape() }), Err(Rejection::RequestMalformed), "{path}");
        }
    }

    #[test]
    fn credentials_are_never_taken_in_plaintext() {
        for (name, value) in [(AUTHORIZATION, "Bearer x"), (AUTHORIZATION, "Basic x"), (DPOP, "x")] {
            let mut headers = HeaderMap::new();
            headers.insert(name, HeaderValue::from_static(value));
            assert_eq!(judged(&policy(), PlainRequest { headers: &headers, ..scrape() }), REFUSED, "{value}");
        }
    }

    #[test]
    fn nothing_is_exempt_by_default_and_audit_adds_nothing() {
        let without = compiled(&wire_policy());
        assert_eq!(judged(&without, scrape()), REFUSED);
        assert!(!without.may_be_exempt(9090, "10.1.2.3".parse().unwrap()));
        let audit = WirePolicy { mode: Mode::Audit, exempt: vec![exemption()], ..wire_policy() };
        assert_eq!(judged(&compiled(&audit), PlainRequest { path: "/transfers", ..scrape() }), REFUSED);
        assert_eq!(judged(&PortPolicy::Missing, scrape()), Err(Rejection::PolicyMissing));
        let invalid = PortPolicy::Invalid { name: "bank/p".into() };
        assert_eq!(judged(&invalid, scrape()), Err(Rejection::PolicyInvalid));
    }
}
