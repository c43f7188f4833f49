//! A port of a pod on this machine, by `kubectl port-forward`.

use std::io::{BufRead as _, BufReader};
use std::net::SocketAddr;
use std::process::{ChildStdout, Stdio};

use super::Kubectl;
use crate::Running;

/// A forwarded port; it goes with this value.
pub struct Forward {
    address: SocketAddr,
    /// kubectl has something to say about each connection, and ends when nobody listens.
    _output: BufReader<ChildStdout>,
    _process: Running,
}

impl Forward {
    /// Forwards a port of `target`, a pod or the pod of an app that does not end: `pod/late`, `deployment/shop`.
    ///
    /// # Panics
    /// If kubectl does not, and what it says.
    pub fn start(kubectl: &Kubectl, namespace: &str, target: &str, port: u16) -> Self {
        let target = match target.strip_prefix("deployment/") {
            // kubectl takes the oldest, which may be about to end.
            Some(app) => &super::kubectl::target(&kubectl.pods_of(namespace, app).unwrap()[0]),
            None => target,
        };
        let mut command = kubectl.endless();
        command.args(["port-forward", "--namespace", namespace, target, &format!(":{port}")]);
        let (mut process, output) = Running::with_output(command.stdout(Stdio::piped()));
        // Forwarding from 127.0.0.1:40123 -> 8080
        let (mut line, mut output) = (String::new(), BufReader::new(output));
        let _ = output.read_line(&mut line);
        let address = line.split(' ').nth(2).and_then(|address| address.parse().ok());
        let address = address.unwrap_or_else(|| {
            panic!("no port of {namespace}/{target} is forwarded, kubectl has ended: {:?}", process.ended())
        });
        Self { address, _output: output, _process: process }
    }

    /// Where it is on this machine.
    pub fn address(&self) -> SocketAddr {
        self.address
    }
}
