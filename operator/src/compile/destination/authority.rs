//! Authorities as apps write them, in the terms of a cluster's DNS.

use std::net::{IpAddr, Ipv6Addr};

use crate::cluster_domain::ClusterDomain;
use crate::model::Key;

/// What plain `http://` dials.
const HTTP: u16 = 80;

/// Host and port.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Authority {
    pub(super) host: Host,
    pub(super) port: u16,
}

/// What stands before the port.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Host {
    /// The name that a Service of this key has.
    Service(Key),
    /// An address.
    Address(IpAddr),
}

impl Authority {
    /// Reads `svc`, `svc.ns`, `svc.ns.svc` or `svc.ns.svc.DOMAIN`, in any case, with or without a dot at the end, or an address
    /// (RFC 3986 section 3.2.2); with or without a port. `None` for anything else.
    pub(super) fn parse(text: &str, own_namespace: &str, domain: &ClusterDomain) -> Option<Self> {
        if let Some(rest) = text.strip_prefix('[') {
            let (address, rest) = rest.split_once(']')?;
            let port = if rest.is_empty() { HTTP } else { digits(rest.strip_prefix(':')?)? };
            let address: Ipv6Addr = address.parse().ok()?;
            // An IPv4 address in the clothes of an IPv6 one is that one.
            return Some(Self { host: Host::Address(IpAddr::V6(address).to_canonical()), port });
        }
        let (host, port) = match text.rsplit_once(':') {
            Some((host, port)) => (host, digits(port)?),
            None => (text, HTTP),
        };
        if let Ok(address) = host.parse() {
            return Some(Self { host: Host::Address(IpAddr::V4(address)), port });
        }
        Some(Self { host: Host::Service(service(host, own_namespace, domain)?), port })
    }
}

fn service(host: &str, own_namespace: &str, domain: &ClusterDomain) -> Option<Key> {
    let host = host.strip_suffix('.').unwrap_or(host).to_ascii_lowercase();
    if !host.bytes().all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'.')) {
        return None;
    }
    let labels: Vec<&str> = host.split('.').collect();
    match labels.as_slice() {
        [service] => Some(Key::new(own_namespace, service)),
        [service, namespace] | [service, namespace, "svc"] => Some(Key::new(namespace, service)),
        [service, namespace, "svc", rest @ ..] if domain.is(rest) => Some(Key::new(namespace, service)),
        _ => None,
    }
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
        let payments = || Some(Authority { host: Host::Service(Key::new("bank", "payments")), port: 80 });
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
            assert_eq!(parse(authority), payments(), "{authority}");
        }
        let web = Authority::parse("payments", "web", &ClusterDomain::default()).unwrap();
        assert_eq!(web.host, Host::Service(Key::new("web", "payments")));
        assert_eq!(parse("payments.bank:8080").unwrap().port, 8080);
    }

    #[test]
    fn an_address_is_one() {
        let at = |text: &str, port| Some(Authority { host: Host::Address(text.parse().unwrap()), port });
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
            "a.b.c",
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
