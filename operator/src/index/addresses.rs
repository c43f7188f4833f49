//! Which address is whose.

use std::collections::HashMap;
use std::net::IpAddr;

use crate::model::{Key, Model, Pod, Service};

/// Addresses of Services and pods.
#[derive(Debug, Default)]
pub(super) struct Addresses(HashMap<IpAddr, Entry>);

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
            service.addresses.iter().for_each(|address| new.add(*address, Entry::Service(service.key.clone())));
        }
        for pod in model.pods.values() {
            pod.addresses.iter().for_each(|address| new.add(*address, Entry::Pod(pod.uid.clone())));
        }
        new
    }

    fn add(&mut self, address: IpAddr, entry: Entry) {
        self.0.entry(address).and_modify(|known| *known = Entry::Several).or_insert(entry);
    }

    pub(super) fn holder<'a>(&self, model: &'a Model, address: IpAddr) -> Option<Holder<'a>> {
        match self.0.get(&address)? {
            Entry::Service(key) => model.services.get(key).map(Holder::Service),
            Entry::Pod(uid) => model.pods.get(uid).map(Holder::Pod),
            Entry::Several => Some(Holder::Several),
        }
    }
}
