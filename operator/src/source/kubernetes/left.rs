//! Addresses that pods of the mesh have left. Whoever looked one up before may dial it for a while, and means that pod, not
//! whoever has the address next. Time is an argument.

use std::collections::{BTreeSet, VecDeque};
use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use tokio::time::Instant;

use crate::model::{Left, Model};

/// Longer than most resolvers and clients remember an address of a pod: the DNS of a cluster says 5 to 30 seconds.
const REMEMBERED: Duration = Duration::from_secs(120);
/// What ends within so much time of each other is forgotten at once: all that sidecars asked about is looked at again then.
const TOGETHER: Duration = Duration::from_secs(5);
/// The most addresses; the newest stay.
const MOST: usize = 4096;

/// What is remembered.
#[derive(Debug, Default)]
pub(super) struct Memory {
    /// The end of each, which comes first for the first.
    ends: VecDeque<(Instant, IpAddr)>,
}

impl Memory {
    /// Remembers the addresses that pods of the mesh had in one model and do not have in the next.
    pub(super) fn note(&mut self, before: &Model, after: &Model, now: Instant) {
        let changed: BTreeSet<&String> = after.pods.changed(&before.pods).map(|(uid, _)| uid).collect();
        for uid in changed {
            let Some(was) = before.pods.get(uid).filter(|pod| before.is_of_the_mesh(pod)) else { continue };
            let still = after.pods.get(uid).map(|pod| pod.addresses.as_slice()).unwrap_or_default();
            for address in was.addresses.iter().filter(|address| !still.contains(address)) {
                self.ends.retain(|(_, known)| known != address);
                self.ends.push_back((now + REMEMBERED, *address));
            }
        }
        let too_many = self.ends.len().saturating_sub(MOST);
        self.ends.drain(..too_many);
    }

    /// Forgets what was remembered for long enough, and says what is left.
    pub(super) fn look(&mut self, now: Instant) -> Left {
        if self.next().is_some_and(|end| end <= now) {
            let over = self.ends.iter().take_while(|(end, _)| *end <= now + TOGETHER).count();
            self.ends.drain(..over);
        }
        Arc::new(self.ends.iter().map(|(_, address)| *address).collect())
    }

    /// When it is time to look again; `None` while nothing is remembered.
    pub(super) fn next(&self) -> Option<Instant> {
        self.ends.front().map(|(end, _)| *end)
    }
}
