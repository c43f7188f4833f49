//! The network of a node: a namespace that nobody else is in, with one wire to this machine, and one to each other node.

use std::net::{IpAddr, Ipv4Addr};
use std::path::Path;
use std::process::Command;
use std::sync::atomic::{AtomicU32, Ordering};

use super::folder::Folder;

/// A network namespace and the pair of interfaces that joins it to this machine, both under one name.
pub(super) struct Network {
    number: u8,
}

impl Network {
    /// Makes one.
    ///
    /// # Panics
    /// If that fails, or there are 200.
    pub(super) fn make(folder: &mut Folder) -> Self {
        // Each begins behind the one before: what is gone is looked for by the number that it had. Making the namespace is what takes
        // the number: it fails if somebody has it.
        static COUNT: AtomicU32 = AtomicU32::new(0);
        let start = std::process::id().wrapping_add(COUNT.fetch_add(1, Ordering::Relaxed));
        let mut said = String::new();
        let taken = |number: &u8| ip(&format!("netns add {}", name(*number))).map_err(|error| said = error).is_ok();
        let mut numbers = (0..200).map(|more| (start.wrapping_add(more) % 200).try_into().unwrap());
        let Some(number) = numbers.find(taken) else { panic!("no network namespace can be made: {said}") };
        let network = Self { number };
        let name = name(number);
        folder.add_network(&name);
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
            must(&line);
        }
        let forward = "echo 1 > /proc/sys/net/ipv4/ip_forward";
        let status = network.command("sh").args(["-c", forward]).status().unwrap();
        assert!(status.success(), "{forward} failed");
        network
    }

    /// Lays a wire to the network of another node; each end of it is called as the namespace that it leads to. Nodes and pods
    /// reach each other by it.
    ///
    /// # Panics
    /// If that fails.
    pub(super) fn join(&self, other: &Self) {
        let (here, there) = (self.name(), other.name());
        must(&format!("-n {here} link add {there} type veth peer name {here} netns {there}"));
        for [near, far] in [[self, other], [other, self]] {
            let (at, wire, node) = (near.name(), far.name(), far.node());
            must(&format!("-n {at} link set {wire} address {} up", near.hardware()));
            for line in [
                // Nobody says that a node cannot be reached: what is sent to a dead one is lost, as behind a router.
                format!("neigh add {node} lladdr {} dev {wire} nud permanent", far.hardware()),
                format!("route add {node} dev {wire} src {}", near.node()),
                format!("route add {} via {node} dev {wire} src {}", far.pods(), near.node()),
            ] {
                must(&format!("-n {at} {line}"));
            }
        }
    }

    /// Cuts all wires of a node that has been joined to this one.
    ///
    /// # Panics
    /// If that fails.
    pub(super) fn cut(&self, off: &Self) {
        for wire in ["eth0", &self.name()] {
            must(&format!("-n {} link set {wire} down", off.name()));
        }
    }

    /// A command that runs in it, with everything else of this machine.
    pub(super) fn command(&self, program: impl AsRef<Path>) -> Command {
        command_in(&self.name(), program)
    }

    /// The name of the namespace.
    pub(super) fn name(&self) -> String {
        name(self.number)
    }

    /// The address of the node.
    pub(super) fn node(&self) -> IpAddr {
        self.address(2)
    }

    /// The addresses of its pods.
    pub(super) fn pods(&self) -> String {
        let [a, b, c] = self.pod_prefix();
        format!("{a}.{b}.{c}.0/24")
    }

    /// What the addresses of its pods begin with.
    pub(super) fn pod_prefix(&self) -> [u8; 3] {
        [10, 232, self.number]
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

    /// The address of its wire to another node.
    fn hardware(&self) -> String {
        format!("02:00:0a:e7:{:02x}:02", self.number)
    }
}

/// What keeps network namespaces from being made here, if anything does: a container may have a root without the right to.
pub(super) fn hindrance() -> Option<String> {
    let name = format!("fapi-able-{}", std::process::id());
    let error = ip(&format!("netns add {name}")).err();
    let _ = ip(&format!("netns delete {name}"));
    error.map(|error| error.trim().to_owned())
}

/// A command that runs in a network namespace.
pub(super) fn command_in(namespace: &str, program: impl AsRef<Path>) -> Command {
    // Not `ip netns exec`, which mounts another /sys over the control groups.
    let mut command = Command::new("nsenter");
    command.arg(format!("--net=/run/netns/{namespace}")).arg("--").arg(program.as_ref());
    command
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

fn must(line: &str) {
    ip(line).unwrap_or_else(|error| panic!("ip {line}: {error}"));
}

fn ip(line: &str) -> Result<(), String> {
    let output = Command::new("ip").args(line.split(' ')).output().map_err(|error| error.to_string())?;
    if output.status.success() { Ok(()) } else { Err(String::from_utf8_lossy(&output.stderr).into_owned()) }
}
