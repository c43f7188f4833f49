//! Which address is whose.

use std::collections::HashMap;
use std::hash::Hash;
use std::net::{IpAddr, SocketAddr};

use crate::model::{Key, Model, Pod, Service};

/// Addresses of Services and pods.
#[derive(Debug, Default)]
pub(super) struct Addresses {
    whole: HashMap<IpAddr, Entry>,
    /// Of load balancers, which may be shared.
    by_port: HashMap<SocketAddr, Entry>,
}

/// Who has an address.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Holder<'a> {
    /// It stands for this Service.
    Service(&'a Service),
    /// It is this pod's own.
    Pod(&'a Pod),
    /// Several have it: one of them is gone, and the news has not come yet.
    Several,
}

#[derive(Debug)]
enum Entry {
    Service(Key),
    Pod(String),
    Several,
}

impl Addresses {
    pub(super) fn new(model: &Model) -> Self {
        let mut new = Self::default();
        for service in model.services.values() {
            let entry = || Entry::Service(service.key.clone());
            service.addresses.iter().for_each(|address| add(&mut new.whole, *address, entry()));
            service.balancers.iter().for_each(|address| add(&mut new.by_port, *address, entry()));
        }
        for pod in model.pods.values() {
            pod.addresses.iter().for_each(|address| add(&mut new.whole, *address, Entry::Pod(pod.uid.clone())));
        }
        new
    }

    /// What the cluster itself gave comes first.
    pub(super) fn holder<'a>(&self, model: &'a Model, address: SocketAddr) -> Option<Holder<'a>> {
        match self.whole.get(&address.ip()).or_else(|| self.by_port.get(&address))? {
            Entry::Service(key) => model.services.get(key).map(Holder::Service),
            Entry::Pod(uid) => model.pods.get(uid).map(Holder::Pod),
            Entry::Several => Some(Holder::Several),
        }
    }
}

fn add<A: Eq + Hash>(all: &mut HashMap<A, Entry>, address: A, entry: Entry) {
    all.entry(address).and_modify(|known| *known = Entry::Several).or_insert(entry);
}
