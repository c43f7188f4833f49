//! Who has been sent which public keys. A key signs only once every live sidecar has it.

use std::collections::HashMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::sync::watch;

/// The digest of the keys that each open stream was sent last. Another replica counts as one stream.
#[derive(Debug, Default)]
pub(crate) struct Delivered {
    streams: Mutex<HashMap<u64, Option<String>>>,
    numbers: AtomicU64,
    changed: watch::Sender<()>,
}

/// The entry of one stream, for as long as it lives.
#[derive(Debug)]
pub(crate) struct Delivery {
    all: Arc<Delivered>,
    number: u64,
}

impl Delivered {
    /// Begins an entry; until its first [`Delivery::sent`] no new key signs.
    pub(crate) fn open(self: &Arc<Self>) -> Delivery {
        let number = self.numbers.fetch_add(1, Ordering::Relaxed);
        self.streams().insert(number, None);
        self.changed.send_replace(());
        Delivery { all: self.clone(), number }
    }

    /// Whether every open stream was sent the keys of this digest.
    pub(crate) fn everyone_has(&self, digest: &str) -> bool {
        self.streams().values().all(|sent| sent.as_deref() == Some(digest))
    }

    /// Tells that the answer may be another.
    pub(crate) fn subscribe(&self) -> watch::Receiver<()> {
        self.changed.subscribe()
    }

    fn streams(&self) -> MutexGuard<'_, HashMap<u64, Option<String>>> {
        self.streams.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Delivery {
    /// The stream was sent the keys of this digest.
    pub(crate) fn sent(&self, digest: &str) {
        self.all.streams().insert(self.number, Some(digest.to_owned()));
        self.all.changed.send_replace(());
    }
}

impl Drop for Delivery {
    fn drop(&mut self) {
        self.all.streams().remove(&self.number);
        self.all.changed.send_replace(());
    }
}
