//! The network of a cluster: a namespace that nobody else is in, with one wire to this machine.

use std::net::{IpAddr, Ipv4Addr};
use std::process::Command;

use super::folder::Folder;

/// A network namespace and the pair of interfaces that joins it to this machine, both under one name.
pub(super) struct Network {
    number: u8,
}

impl Network {
    /// Makes one.
    ///
    /// # Panics
    /// If that fails, or 200 clusters run.
    pub(super) fn make(folder: &mut Folder) -> Self {
        // Making the namespace is what takes the number: it fails if somebody has it.
        let number = (0..200).find(|number| ip(&format!("netns add {}", name(*number))).is_ok());
        let Some(number) = number else { panic!("no network namespace can be made: ip netns add {}", name(0)) };
        let network = Self { number };
        let name = name(number);
        folder.set_network(&name);
        let (near, node) = (network.address(1), network.node());
        for line in [
            format!("link add {name} type veth peer name eth0 netns {name}"),
            format!("addr add {near}/24 dev {name}"),
            format!("link set {name} up"),
            format!("-n {name} link set lo up"),
            format!("-n {name} addr add {node}/24 dev eth0"),
            format!("-n {name} link set eth0 up"),
            format!("-n {name} route add default via {near}"),
            // So that this machine can play a neighbour outside the mesh.
            format!("route add {} via {node}", network.pods()),
            format!("route add {} via {node}", services(number)),
        ] {
            ip(&line).unwrap_or_else(|error| panic!("ip {line}: {error}"));
        }
        let forward = "echo 1 > /proc/sys/net/ipv4/ip_forward";
        let status = folder.command("sh").args(["-c", forward]).status().unwrap();
        assert!(status.success(), "{forward} failed");
        network
    }

    /// The address of the node.
    pub(super) fn node(&self) -> IpAddr {
        self.address(2)
    }

    /// The addresses of its pods.
    pub(super) fn pods(&self) -> String {
        format!("10.232.{}.0/24", self.number)
    }

    /// The address of the cluster's DNS.
    pub(super) fn dns(&self) -> IpAddr {
        service(self.number, 10)
    }

    /// What tells its addresses from those of other clusters.
    pub(super) fn number(&self) -> u8 {
        self.number
    }

    fn address(&self, host: u8) -> IpAddr {
        Ipv4Addr::new(10, 231, self.number, host).into()
    }
}

/// The addresses of the Services of a cluster.
pub(super) fn services(number: u8) -> String {
    format!("10.233.{number}.0/24")
}

/// The address of one Service: the first is the API server's own, the tenth the DNS's.
pub(super) fn service(number: u8, host: u8) -> IpAddr {
    Ipv4Addr::new(10, 233, number, host).into()
}

fn name(number: u8) -> String {
    format!("fapi-{number}")
}

fn ip(line: &str) -> Result<(), String> {
    let output = Command::new("ip").args(line.split(' ')).output().map_err(|error| error.to_string())?;
    if output.status.success() { Ok(()) } else { Err(String::from_utf8_lossy(&output.stderr).into_owned()) }
}
