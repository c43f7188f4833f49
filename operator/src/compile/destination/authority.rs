//! Authorities as apps write them, in the terms of a cluster's DNS.

use std::net::{IpAddr, Ipv6Addr};

use crate::cluster_domain::ClusterDomain;
use crate::model::Key;

/// What plain `http://` dials.
const HTTP: u16 = 80;

/// Host and port.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Authority {
    /// What the host may be, in the order in which a resolver of the caller's namespace looks for it.
    pub(super) hosts: Vec<Host>,
    pub(super) port: u16,
}

/// What stands before the port.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Host {
    /// The name that a Service of this key has.
    Service(Key),
    /// The name that a pod has below this Service.
    Pod { name: String, service: Key },
    /// An address.
    Address(IpAddr),
}

impl Authority {
    /// Reads `svc`, `svc.ns`, `svc.ns.svc` or `svc.ns.svc.DOMAIN`, the same with the hostname of a pod before it (`pod.svc` and so
    /// on), in any case, with or without a dot at the end, or an address (RFC 3986 section 3.2.2); with or without a port. `None` for
    /// anything else.
    pub(super) fn parse(text: &str, own_namespace: &str, domain: &ClusterDomain) -> Option<Self> {
        if let Some(rest) = text.strip_prefix('[') {
            let (address, rest) = rest.split_once(']')?;
            let port = if rest.is_empty() { HTTP } else { digits(rest.strip_prefix(':')?)? };
            let address: Ipv6Addr = address.parse().ok()?;
            // An IPv4 address in the clothes of an IPv6 one is that one.
            return Some(Self { hosts: vec![Host::Address(IpAddr::V6(address).to_canonical())], port });
        }
        let (host, port) = match text.rsplit_once(':') {
            Some((host, port)) => (host, digits(port)?),
            None => (text, HTTP),
        };
        if let Ok(address) = host.parse() {
            return Some(Self { hosts: vec![Host::Address(IpAddr::V4(address))], port });
        }
        Some(Self { hosts: named(host, own_namespace, domain)?, port })
    }
}

fn named(host: &str, own_namespace: &str, domain: &ClusterDomain) -> Option<Vec<Host>> {
    let host = host.strip_suffix('.').unwrap_or(host).to_ascii_lowercase();
    if !host.bytes().all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'.')) {
        return None;
    }
    let labels: Vec<&str> = host.split('.').collect();
    let of_service = |namespace: &str, name: &str| Host::Service(Key::new(namespace, name));
    let of_pod = |name: &str, service: &str, namespace: &str| Host::Pod {
        name: name.to_owned(),
        service: Key::new(namespace, service),
    };
    Some(match labels.as_slice() {
        [service] => vec![of_service(own_namespace, service)],
        // The own namespace comes first in the search path, so nobody else's takes the name of a pod there.
        [one, two] => vec![of_pod(one, two, own_namespace), of_service(two, one)],
        [service, namespace, "svc"] => vec![of_service(namespace, service)],
        [service, namespace, "svc", rest @ ..] if domain.is(rest) => vec![of_service(namespace, service)],
        [pod, service, namespace] | [pod, service, namespace, "svc"] => vec![of_pod(pod, service, namespace)],
        [pod, service, namespace, "svc", rest @ ..] if domain.is(rest) => vec![of_pod(pod, service, namespace)],
        _ => return None,
    })
}

fn digits(port: &str) -> Option<u16> {
    // `parse` alone would take `+80`.
    port.bytes().all(|byte| byte.is_ascii_digit()).then(|| port.parse().ok())?
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(text: &str) -> Option<Authority> {
        Authority::parse(text, "bank", &ClusterDomain::default())
    }

    #[test]
    fn every_spelling_of_a_service_is_one() {
        let payments = || Host::Service(Key::new("bank", "payments"));
        for authority in [
            "payments",
            "payments.bank",
            "Payments.BANK",
            "payments.bank:80",
            "payments.bank.",
            "payments.bank.svc",
            "payments.bank.svc.",
            "payments.bank.svc.cluster.local",
            "payments.bank.svc.cluster.local.:80",
        ] {
            let Authority { mut hosts, port } = parse(authority).unwrap();
            assert_eq!((hosts.pop(), port), (Some(payments()), 80), "{authority}");
            assert!(!hosts.iter().any(|host| matches!(host, Host::Service(_))), "{authority}");
        }
        let web = Authority::parse("payments", "web", &ClusterDomain::default()).unwrap();
        assert_eq!(web.hosts, [Host::Service(Key::new("web", "payments"))]);
        assert_eq!(parse("payments.bank:8080").unwrap().port, 8080);
    }

    #[test]
    fn every_spelling_of_a_pod_is_one() {
        let vault_0 = |namespace: &str| Host::Pod { name: "vault-0".to_owned(), service: Key::new(namespace, "vault") };
        for authority in [
            "vault-0.vault.bank",
            "Vault-0.vault.BANK.:80",
            "vault-0.vault.bank.svc",
            "vault-0.vault.bank.svc.cluster.local",
            "vault-0.vault.bank.svc.cluster.local.:80",
        ] {
            assert_eq!(parse(authority), Some(Authority { hosts: vec![vault_0("bank")], port: 80 }), "{authority}");
        }
        // A Service vault-0 of a namespace vault comes after what the own namespace has.
        let hosts = vec![vault_0("bank"), Host::Service(Key::new("vault", "vault-0"))];
        assert_eq!(parse("vault-0.vault:8200"), Some(Authority { hosts, port: 8200 }));
        let hosts = vec![Host::Service(Key::new("vault", "vault-0"))];
        assert_eq!(parse("vault-0.vault.svc"), Some(Authority { hosts, port: 80 }));
        // A domain of one label.
        let domain = ClusterDomain::parse("k8s").unwrap();
        let of = |text: &str| Authority::parse(text, "bank", &domain).map(|authority| authority.hosts);
        assert_eq!(of("payments.bank.svc.k8s"), Some(vec![Host::Service(Key::new("bank", "payments"))]));
        assert_eq!(of("vault-0.vault.bank.svc.k8s"), Some(vec![vault_0("bank")]));
    }

    #[test]
    fn an_address_is_one() {
        let at = |text: &str, port| Some(Authority { hosts: vec![Host::Address(text.parse().unwrap())], port });
        assert_eq!(parse("10.96.0.7"), at("10.96.0.7", 80));
        assert_eq!(parse("10.96.0.7:8443"), at("10.96.0.7", 8443));
        assert_eq!(parse("[fd00::7]:8443"), at("fd00::7", 8443));
        assert_eq!(parse("[fd00::7]"), at("fd00::7", 80));
        assert_eq!(parse("[::ffff:10.96.0.7]:80"), at("10.96.0.7", 80));
    }

    #[test]
    fn anything_else_is_unknown() {
        for authority in [
            "payments.bank.svc.example.com",
            "vault-0.vault.bank.svc.example.com",
            "a.b.c.d",
            "a.vault-0.vault.bank.svc",
            "payments.bank:",
            "payments.bank:+80",
            "payments.bank:99999",
            "fd00::7",
            "[fd00::7",
            "[fd00::7]8443",
            "[10.0.0.1]:80",
            "[fd00::7%eth0]:80",
        ] {
            assert_eq!(parse(authority), None, "{authority}");
        }
    }
}
