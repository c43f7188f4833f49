//! What each open control stream says of roots: which of them its sidecar trusts, and who signed the certificate that it
//! shows.

use std::collections::HashMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use serde::{Deserialize, Serialize};

use crate::pki::Roots;

/// A sidecar's reason is cut to this many characters: it ends in a status.
const REASON_LIMIT: usize = 256;

/// The book of all open streams of this process.
#[derive(Debug, Default)]
pub(crate) struct Streams {
    all: Mutex<HashMap<u64, Entry>>,
    numbers: AtomicU64,
}

#[derive(Debug)]
struct Entry {
    pod_uid: Arc<str>,
    /// The key that signed its certificate.
    authority: Option<Vec<u8>>,
    /// The digest of the roots in force there.
    trusts: Option<String>,
    /// Those that it refused last, and why.
    refused: Option<(String, String)>,
}

/// The entry of one stream, for as long as it lives.
#[derive(Debug)]
pub(crate) struct Stream {
    book: Arc<Streams>,
    number: u64,
}

/// What is known of one sidecar.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Heard {
    /// It has a stream.
    #[serde(skip)]
    pub(super) connected: bool,
    /// It has acknowledged the roots that count, and no others.
    #[serde(rename = "t")]
    pub(super) trusts: bool,
    /// It shows a certificate of the authority that signs.
    #[serde(rename = "r")]
    pub(super) renewed: bool,
    /// Why it refused the roots that count.
    #[serde(rename = "n", default, skip_serializing_if = "Option::is_none")]
    pub(super) refused: Option<String>,
}

impl Heard {
    /// The same sidecar was heard on another stream, too. It is one process: what it says once is so.
    pub(super) fn add(&mut self, other: Self) {
        self.connected |= other.connected;
        self.trusts |= other.trusts;
        self.renewed |= other.renewed;
        self.refused = self.refused.take().or(other.refused);
    }
}

impl Streams {
    /// Begins an entry for a stream of this pod, whose certificate was signed with the key `authority`.
    pub(crate) fn open(self: &Arc<Self>, pod_uid: &Arc<str>, authority: Option<Vec<u8>>) -> Stream {
        let number = self.numbers.fetch_add(1, Ordering::Relaxed);
        let entry = Entry { pod_uid: pod_uid.clone(), authority, trusts: None, refused: None };
        self.all().insert(number, entry);
        Stream { book: self.clone(), number }
    }

    /// What is known of each sidecar with a stream, measured by these roots.
    pub(super) fn heard(&self, roots: &Roots) -> HashMap<String, Heard> {
        let mut heard: HashMap<String, Heard> = HashMap::new();
        for entry in self.all().values() {
            let refused = entry.refused.as_ref().filter(|(digest, _)| *digest == roots.digest);
            heard.entry(entry.pod_uid.to_string()).or_default().add(Heard {
                connected: true,
                trusts: entry.trusts.as_ref() == Some(&roots.digest),
                renewed: roots.signed(entry.authority.as_deref()),
                refused: refused.map(|(_, why)| why.clone()),
            });
        }
        heard
    }

    /// Whether a sidecar trusts these roots, is certified by the authority that signs, and why it refuses them.
    #[cfg(test)]
    pub(crate) fn of(&self, uid: &str, roots: &Roots) -> (bool, bool, Option<String>) {
        let Heard { trusts, renewed, refused, .. } = self.heard(roots).remove(uid).unwrap_or_default();
        (trusts, renewed, refused)
    }

    fn all(&self) -> MutexGuard<'_, HashMap<u64, Entry>> {
        self.all.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Stream {
    /// The sidecar has taken the roots of this digest, or says why not.
    pub(crate) fn answered(&self, digest: String, refusal: &str) {
        if let Some(entry) = self.book.all().get_mut(&self.number) {
            if refusal.is_empty() {
                (entry.trusts, entry.refused) = (Some(digest), None);
            } else {
                let why = refusal.chars().filter(|c| !c.is_control()).take(REASON_LIMIT).collect();
                entry.refused = Some((digest, why));
            }
        }
    }
}

impl Drop for Stream {
    fn drop(&mut self) {
        self.book.all().remove(&self.number);
    }
}
