//! `fapi-sidecar redirect` in network namespaces of the test's own. Needs root; says so where it has none.
#![cfg(target_os = "linux")]
#![allow(clippy::unwrap_used, clippy::panic, reason = "a test fails by panicking")]

use std::{
    io::ErrorKind,
    net::{IpAddr, SocketAddr, TcpListener, TcpStream, UdpSocket},
    process::{Command, Output},
    time::Duration,
};

use e2e::{Node, Place, Scratch, program};
use rustix::net::sockopt::{ip_original_dst, ipv6_original_dst};

/// Nobody waits longer for what comes over a bridge of this machine.
const SOON: Duration = Duration::from_secs(5);

struct Redirect<'a> {
    pod: &'a Place,
    resolv_conf: std::path::PathBuf,
    _scratch: Scratch,
}

impl<'a> Redirect<'a> {
    /// The rules of a pod whose resolver is `resolver`; not set yet.
    fn of(pod: &'a Place, resolver: &Place) -> Self {
        let scratch = Scratch::new("redirect");
        let resolv_conf = scratch.path().join("resolv.conf");
        std::fs::write(&resolv_conf, format!("nameserver {}\nnameserver {}\n", resolver.v4(), resolver.v6())).unwrap();
        Self { pod, resolv_conf, _scratch: scratch }
    }

    fn command(&self, arguments: &[&str]) -> Command {
        let mut command = self.pod.command(program("fapi-sidecar"));
        command.arg("redirect").arg("--resolv-conf").arg(&self.resolv_conf).args(arguments);
        command
    }

    fn run(&self, arguments: &[&str]) -> Output {
        self.command(arguments).output().unwrap()
    }

    fn set(&self, arguments: &[&str]) -> String {
        let output = self.run(arguments);
        assert!(output.status.success(), "{}", told(&output));
        told(&output)
    }
}

fn told(output: &Output) -> String {
    String::from_utf8_lossy(&output.stderr).into_owned()
}

fn listen(place: &Place, addresses: &[SocketAddr]) -> Vec<TcpListener> {
    place.run(|| {
        let bound = addresses.iter().map(|address| {
            let listener = TcpListener::bind(address).unwrap();
            listener.set_nonblocking(true).unwrap();
            listener
        });
        bound.collect()
    })
}

fn any(port: u16) -> SocketAddr {
    SocketAddr::new("::".parse().unwrap(), port)
}

/// Dials, and tells which of the listeners has it now, and where it was meant to go.
fn arrives(dialled: TcpStream, listeners: &[TcpListener]) -> (u16, SocketAddr) {
    let ours = dialled.local_addr().unwrap();
    e2e::wait_for("a connection to arrive", 5, || {
        listeners.iter().find_map(|listener| {
            let (stream, from) = listener.accept().ok()?;
            assert_eq!(from.port(), ours.port());
            let original = match from.ip().to_canonical() {
                IpAddr::V4(_) => ip_original_dst(&stream).map(SocketAddr::V4),
                IpAddr::V6(_) => ipv6_original_dst(&stream).map(SocketAddr::V6),
            };
            let local = stream.local_addr().unwrap();
            let original = original.unwrap_or(local);
            Some((local.port(), SocketAddr::new(original.ip().to_canonical(), original.port())))
        })
    })
}

fn dial(to: SocketAddr) -> TcpStream {
    TcpStream::connect_timeout(&to, SOON).unwrap_or_else(|error| panic!("{to}: {error}"))
}

#[test]
fn every_tcp_connection_comes_to_the_sidecar() {
    let Some(node) = Node::with_pods(2) else { return };
    let (pod, other) = (node.pod(0), node.pod(1));
    Redirect::of(pod, other).set(&[]);
    let loopback = |address: &str| SocketAddr::new(address.parse().unwrap(), 15001);
    let here = listen(pod, &[any(15006), any(15020), any(8080), loopback("127.0.0.1"), loopback("::1")]);
    let there = listen(other, &[any(9090), any(53)]);
    for (pod_ip, other_ip, loopback) in [(pod.v4(), other.v4(), "127.0.0.1"), (pod.v6(), other.v6(), "::1")] {
        let (app, served) = (SocketAddr::new(pod_ip, 8080), SocketAddr::new(other_ip, 9090));
        let from_outside = other.run(|| dial(app));
        assert_eq!(arrives(from_outside, &here), (15006, app), "what comes from outside");
        let health = SocketAddr::new(pod_ip, 15020);
        assert_eq!(arrives(other.run(|| dial(health)), &here), (15020, health), "probes");
        assert_eq!(arrives(pod.run(|| dial(served)), &here), (15001, served), "what the app sends");
        assert_eq!(arrives(pod.run_as_sidecar(|| dial(served)), &there), (9090, served), "what the sidecar sends");
        assert_eq!(arrives(pod.run_as_sidecar(|| dial(app)), &here), (8080, app), "from the sidecar to the app");
        assert_eq!(arrives(pod.run(|| dial(app)), &here), (8080, app), "from the pod to itself");
        let inside = SocketAddr::new(loopback.parse().unwrap(), 8080);
        assert_eq!(arrives(pod.run(|| dial(inside)), &here), (8080, inside), "on loopback");
        let resolver = SocketAddr::new(other_ip, 53);
        assert_eq!(arrives(pod.run(|| dial(resolver)), &there), (53, resolver), "a long question to a resolver");
        let direct = SocketAddr::new(pod_ip, 15006);
        assert_eq!(arrives(other.run(|| dial(direct)), &here), (15006, direct), "a stranger who knows the port");
    }
}

fn udp(place: &Place, at: SocketAddr) -> UdpSocket {
    let socket = place.run(|| UdpSocket::bind(at).unwrap());
    socket.set_read_timeout(Some(SOON)).unwrap();
    socket
}

fn heard(socket: &UdpSocket) -> (String, SocketAddr) {
    let mut buffer = [0; 64];
    let (count, from) = socket.recv_from(&mut buffer).unwrap();
    (String::from_utf8_lossy(&buffer[..count]).into_owned(), from)
}

#[test]
fn what_cannot_be_redirected_is_dropped_unless_it_is_listed() {
    let Some(node) = Node::with_pods(2) else { return };
    let (pod, other) = (node.pod(0), node.pod(1));
    Redirect::of(pod, other).set(&["--pass-inbound", "udp/5353", "--pass-outbound", "udp/4500"]);
    for (pod_ip, other_ip) in [(pod.v4(), other.v4()), (pod.v6(), other.v6())] {
        let at = SocketAddr::new;
        let (resolver, passed, closed) =
            (udp(other, at(other_ip, 53)), udp(other, at(other_ip, 4500)), udp(other, at(other_ip, 5000)));
        let app = udp(pod, at(pod_ip, 6000));
        // The kernel tells the sender of a datagram that it was dropped.
        let refused = app.send_to(b"no", at(other_ip, 5000)).unwrap_err();
        assert_eq!(refused.kind(), ErrorKind::PermissionDenied, "{refused}");
        app.send_to(b"who is payments?", at(other_ip, 53)).unwrap();
        let (question, asker) = heard(&resolver);
        assert_eq!(question, "who is payments?");
        resolver.send_to(b"10.96.0.7", asker).unwrap();
        assert_eq!(heard(&app).0, "10.96.0.7", "an answer comes back");
        app.send_to(b"listed", at(other_ip, 4500)).unwrap();
        assert_eq!(heard(&passed).0, "listed");
        let sidecar = pod.run_as_sidecar(|| UdpSocket::bind(at(pod_ip, 0)).unwrap());
        sidecar.send_to(b"the sidecar's", at(other_ip, 5000)).unwrap();
        assert_eq!(heard(&closed).0, "the sidecar's", "and nothing before it");

        let (open, shut) = (udp(pod, at(pod_ip, 5353)), udp(pod, at(pod_ip, 5354)));
        let stranger = udp(other, at(other_ip, 6000));
        stranger.send_to(b"dropped", at(pod_ip, 5354)).unwrap();
        stranger.send_to(b"listed", at(pod_ip, 5353)).unwrap();
        assert_eq!(heard(&open).0, "listed");
        shut.set_nonblocking(true).unwrap();
        assert_eq!(shut.recv_from(&mut [0; 8]).unwrap_err().kind(), ErrorKind::WouldBlock, "it came before the other");
    }
}

#[test]
fn the_rules_are_set_as_a_whole_read_back_and_the_same_when_set_again() {
    let Some(node) = Node::with_pods(1) else { return };
    let redirect = Redirect::of(node.pod(0), node.machine());
    let before = redirect.run(&["--check"]);
    assert!(!before.status.success() && told(&before).contains("no chain inbound_redirect"), "{}", told(&before));
    let first = redirect.set(&[]);
    let listed = |redirect: &Redirect<'_>| {
        let output = redirect.pod.command("nft").args(["list", "ruleset"]).output().ok()?;
        output.status.success().then(|| String::from_utf8_lossy(&output.stdout).into_owned())
    };
    let by_nft = listed(&redirect);
    assert_eq!(redirect.set(&[]), first);
    assert_eq!(redirect.set(&["--check"]), first);
    assert_eq!(listed(&redirect), by_nft);
    // A second judge, where it is installed: nft reads the same rules.
    for rule in by_nft.iter().flat_map(|_| first.lines().filter(|line| line.starts_with("  "))) {
        assert!(by_nft.iter().any(|text| text.contains(rule.trim())), "{rule}\n{by_nft:?}");
    }

    let other = redirect.run(&["--check", "--pass-inbound", "udp/5353"]);
    assert!(!other.status.success() && told(&other).contains("inbound_guard"), "{}", told(&other));
    redirect.set(&["--pass-inbound", "udp/5353"]);
    let mut command = redirect.pod.command("setpriv");
    command.args(["--bounding-set=-all", "--inh-caps=-all", "--reuid=1000", "--clear-groups"]);
    let powerless = command.arg(program("fapi-sidecar")).args(["redirect", "--resolv-conf"]).arg(&redirect.resolv_conf);
    let powerless = powerless.output().unwrap();
    assert!(!powerless.status.success() && told(&powerless).contains("NET_ADMIN"), "{}", told(&powerless));
    redirect.set(&["--check", "--pass-inbound", "udp/5353"]);
}
