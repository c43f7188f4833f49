//! What the rules depend on, beside the ports that every pod of a mesh has.

use std::{collections::BTreeSet, net::IpAddr, path::PathBuf, str::FromStr};

use clap::Parser;
use control::pod::SIDECAR_ID;

use super::RedirectError;

/// Sets the rules that bring every call of a pod to its sidecar.
#[derive(Debug, Parser)]
#[command(name = "fapi-sidecar redirect", version)]
pub struct RedirectArgs {
    /// Sets nothing: says whether the rules are in force.
    #[arg(long)]
    pub check: bool,
    /// Names the resolvers of the pod: the app may ask them.
    #[arg(long, env = "FAPI_RESOLV_CONF", value_name = "FILE", default_value = "/etc/resolv.conf")]
    pub resolv_conf: PathBuf,
    /// Ports of the app beside TCP that anybody may send to, unguarded: udp/5353,sctp/36412.
    #[arg(long, env = "FAPI_PASS_INBOUND", value_name = "TRANSPORT/PORT", value_delimiter = ',')]
    pub pass_inbound: Vec<Passed>,
    /// Ports beside TCP that the app may send to, anywhere, unguarded: udp/4500.
    #[arg(long, env = "FAPI_PASS_OUTBOUND", value_name = "TRANSPORT/PORT", value_delimiter = ',')]
    pub pass_outbound: Vec<Passed>,
    /// User and group of the sidecar: what this group sends is not redirected, so no other container may run with it.
    #[arg(long, env = "FAPI_SIDECAR_ID", value_name = "NUMBER", default_value_t = SIDECAR_ID, value_parser = clap::value_parser!(u32).range(1..=i64::from(i32::MAX)))]
    pub sidecar_id: u32,
}

/// A transport that cannot be redirected to a sidecar.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Transport {
    /// RFC 768.
    Udp,
    /// RFC 9260.
    Sctp,
}

/// A port that is left alone.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Passed {
    /// Its transport.
    pub transport: Transport,
    /// Its number.
    pub port: u16,
}

/// The arguments, read: sets, so that the same ones in another order are the same rules.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Settings {
    pub(super) sidecar: u32,
    pub(super) resolvers: BTreeSet<IpAddr>,
    pub(super) inbound: BTreeSet<Passed>,
    pub(super) outbound: BTreeSet<Passed>,
}

impl RedirectArgs {
    pub(super) fn settings(&self) -> Result<Settings, RedirectError> {
        let text = std::fs::read_to_string(&self.resolv_conf).map_err(|source| {
            let file = self.resolv_conf.display().to_string();
            RedirectError::Resolvers { file, source }
        })?;
        Ok(Settings {
            sidecar: self.sidecar_id,
            resolvers: resolvers(&text),
            inbound: self.pass_inbound.iter().copied().collect(),
            outbound: self.pass_outbound.iter().copied().collect(),
        })
    }
}

impl FromStr for Passed {
    type Err = &'static str;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        const WANTED: &str = "give udp/PORT or sctp/PORT, with a port from 1 to 65535; TCP always goes to the sidecar";
        let (transport, port) = text.split_once('/').ok_or(WANTED)?;
        let transport = match transport {
            "udp" => Transport::Udp,
            "sctp" => Transport::Sctp,
            _ => return Err(WANTED),
        };
        let port = port.parse().ok().filter(|port| *port > 0).ok_or(WANTED)?;
        Ok(Self { transport, port })
    }
}

/// The name servers of a `resolv.conf` (resolv.conf(5)). Those on loopback need no rule.
fn resolvers(text: &str) -> BTreeSet<IpAddr> {
    let servers = text.lines().filter_map(|line| line.trim_start().strip_prefix("nameserver"));
    let addresses = servers.filter_map(|rest| rest.split_whitespace().next());
    // Link-local ones name their interface too.
    let addresses = addresses.filter_map(|address| address.split('%').next()?.parse::<IpAddr>().ok());
    addresses.filter(|address| !address.is_loopback()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn resolvers_are_those_that_are_named() {
        let text = "# nameserver 192.0.2.1\nsearch bank.svc.cluster.local\nnameserver 10.96.0.10\n nameserver\tfd00::a\n\
                    nameserver 127.0.0.53\nnameserver fe80::1%eth0\nnameserver 10.96.0.10\nnameserver nobody\n";
        let found: Vec<String> = resolvers(text).iter().map(ToString::to_string).collect();
        assert_eq!(found, ["10.96.0.10", "fd00::a", "fe80::1"]);
    }

    #[test]
    fn the_sidecar_is_known_by_its_group() {
        let id =
            |args: &[&str]| RedirectArgs::try_parse_from([&["redirect"], args].concat()).map(|args| args.sidecar_id);
        assert_eq!(id(&[]).unwrap(), 15100);
        assert_eq!(id(&["--sidecar-id", "20000"]).unwrap(), 20000);
        for root in ["0", "4294967295", "-1"] {
            assert!(id(&["--sidecar-id", root]).is_err(), "{root}");
        }
    }

    #[test]
    fn only_what_cannot_be_redirected_can_be_passed() {
        assert_eq!("udp/5353".parse(), Ok(Passed { transport: Transport::Udp, port: 5353 }));
        assert_eq!("sctp/36412".parse(), Ok(Passed { transport: Transport::Sctp, port: 36412 }));
        for wrong in ["tcp/80", "udp", "udp/0", "udp/65536", "5353", "UDP/1", ""] {
            assert!(wrong.parse::<Passed>().is_err(), "{wrong}");
        }
    }
}
