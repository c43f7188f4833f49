//! Network namespaces of a test, joined by a bridge as the pods of a node are. They vanish with it.

use std::{
    net::{IpAddr, Ipv4Addr, Ipv6Addr},
    path::{Path, PathBuf},
    process::Command,
    sync::atomic::{AtomicU32, Ordering},
};

use rustix::{
    process::Gid,
    thread::{LinkNameSpaceType, move_into_link_name_space, set_thread_gid},
};

/// User and group of a sidecar, as `crates/control/src/pod.rs` has it.
pub const SIDECAR: u32 = 15100;

/// A machine with a bridge, and pods at it.
pub struct Node {
    place: Place,
    pods: Vec<Place>,
}

/// A network namespace with one address of each family.
pub struct Place {
    name: String,
    number: u8,
}

impl Node {
    /// One with so many pods; `None`, and a word about it, where that is not possible.
    ///
    /// # Panics
    /// If it should be possible and is not; in CI also if it is not possible.
    pub fn with_pods(count: u8) -> Option<Self> {
        let is_root = rustix::process::geteuid().is_root();
        if !is_root || Command::new("ip").arg("-V").output().is_err() {
            assert!(std::env::var_os("CI").is_none(), "network namespaces need root and iproute2");
            eprintln!("SKIPPED: network namespaces need root and iproute2");
            return None;
        }
        static COUNT: AtomicU32 = AtomicU32::new(0);
        let name = format!("fapi{}-{}", std::process::id(), COUNT.fetch_add(1, Ordering::Relaxed));
        let place = |number| Place { name: format!("{name}-{number}"), number };
        let node = Self { place: place(1), pods: (0..count).map(|pod| place(pod + 2)).collect() };
        node.place.add();
        node.place.ip("link add cni0 type bridge");
        node.place.ready("cni0");
        for pod in &node.pods {
            pod.add();
            let (veth, namespace) = (format!("veth{}", pod.number), &pod.name);
            node.place.ip(&format!("link add {veth} type veth peer name eth0 netns {namespace}"));
            node.place.ip(&format!("link set {veth} master cni0 up"));
            pod.ready("eth0");
        }
        Some(node)
    }

    /// The machine itself.
    pub fn machine(&self) -> &Place {
        &self.place
    }

    /// One of the pods.
    pub fn pod(&self, number: usize) -> &Place {
        &self.pods[number]
    }
}

impl Place {
    /// Its IPv4 address.
    pub fn v4(&self) -> IpAddr {
        Ipv4Addr::new(10, 99, 0, self.number).into()
    }

    /// Its IPv6 address.
    pub fn v6(&self) -> IpAddr {
        Ipv6Addr::new(0xfd99, 0, 0, 0, 0, 0, 0, u16::from(self.number)).into()
    }

    /// Runs something here: sockets that it makes are here for ever.
    ///
    /// # Panics
    /// If it does.
    pub fn run<T: Send>(&self, run: impl FnOnce() -> T + Send) -> T {
        let namespace = std::fs::File::open(self.file()).unwrap();
        std::thread::scope(|scope| {
            let inside = scope.spawn(|| {
                use std::os::fd::AsFd as _;
                move_into_link_name_space(namespace.as_fd(), Some(LinkNameSpaceType::Network)).unwrap();
                run()
            });
            inside.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic))
        })
    }

    /// As [`Place::run`], in the group of the sidecar.
    ///
    /// # Panics
    /// If it does.
    pub fn run_as_sidecar<T: Send>(&self, run: impl FnOnce() -> T + Send) -> T {
        self.run(|| {
            set_thread_gid(Gid::from_raw(SIDECAR)).unwrap();
            run()
        })
    }

    /// A command that runs here.
    pub fn command(&self, program: impl AsRef<Path>) -> Command {
        let mut command = Command::new("ip");
        command.args(["netns", "exec", &self.name]).arg(program.as_ref());
        command
    }

    /// A command that runs here, as the user of the sidecar.
    pub fn command_as_sidecar(&self, program: impl AsRef<Path>) -> Command {
        let mut command = self.command("setpriv");
        let id = SIDECAR.to_string();
        command.args(["--reuid", &id, "--regid", &id, "--clear-groups", "--"]).arg(program.as_ref());
        command
    }

    fn file(&self) -> PathBuf {
        Path::new("/run/netns").join(&self.name)
    }

    fn add(&self) {
        done(Command::new("ip").args(["netns", "add", &self.name]));
        self.ip("link set lo up");
    }

    fn ready(&self, interface: &str) {
        // Without the search for duplicates an address can be used at once.
        self.ip(&format!("address add {}/24 dev {interface}", self.v4()));
        self.ip(&format!("address add {}/64 dev {interface} nodad", self.v6()));
        self.ip(&format!("link set {interface} up"));
    }

    fn ip(&self, words: &str) {
        done(Command::new("ip").args(["-netns", &self.name]).args(words.split(' ')));
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let _ = Command::new("ip").args(["netns", "delete", &self.name]).status();
    }
}

fn done(command: &mut Command) {
    let output = command.output().unwrap();
    assert!(output.status.success(), "{command:?}: {}", String::from_utf8_lossy(&output.stderr));
}
