//! A real Kubernetes for tests: an API server alone, or nodes, each in a network namespace of its own.
//!
//! The programs are built by `tests/cluster/build`. Whatever happens, everything goes again: with the value that a test holds,
//! or, if the test was killed, when the next one starts.

mod api_server;
mod asked;
pub mod bank;
mod control_plane;
mod controllers;
mod events;
mod folder;
mod forward;
mod helm;
mod kubectl;
#[cfg(target_os = "linux")]
pub mod load;
mod logs;
pub mod loot;
mod network;
mod node;
mod operators;
mod pki;
pub mod platform;
mod programs;
mod readme;
mod remains;
mod webhooks;
mod whole;
#[cfg(target_os = "linux")]
pub mod wire;

use std::ops::{Deref, DerefMut};

pub use api_server::ApiServer;
pub use asked::not_asked;
pub use events::{events, told};
pub use folder::{remove_abandoned, turn};
pub use forward::Forward;
pub use helm::helm;
pub use kubectl::Kubectl;
pub use operators::{Operator, Operators, roles};
pub use programs::{before, image, lacking, missing_for_api_server, missing_for_node, program};
pub use readme::on_your_cluster;
pub use webhooks::{WithWebhooks, pod_to_inject, tell_of_webhooks};
pub use whole::{Cluster, NODES, Part, kept, take_down};

use folder::Folder;

/// A cluster's folder that goes with its owner; of a failing test, the files stay.
struct Owned(Option<Folder>);

impl Owned {
    fn new(folder: Folder) -> Self {
        Self(Some(folder))
    }

    /// Lets the cluster live on; nothing else can be done with it here.
    fn release(&mut self) {
        self.0 = None;
    }
}

impl Deref for Owned {
    type Target = Folder;

    fn deref(&self) -> &Folder {
        self.0.as_ref().unwrap()
    }
}

impl DerefMut for Owned {
    fn deref_mut(&mut self) -> &mut Folder {
        self.0.as_mut().unwrap()
    }
}

impl Drop for Owned {
    fn drop(&mut self) {
        let Some(mut folder) = self.0.take() else { return };
        asked::keep(&folder);
        if std::thread::panicking() {
            folder.take_down();
            eprintln!("left for you to read: {}", folder.path().display());
        } else {
            folder.remove();
        }
    }
}
