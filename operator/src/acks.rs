//! What each pod's sidecar acknowledged, here and at other replicas, for the status.

use std::collections::{BTreeMap, HashMap};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::sync::watch;

/// The book of acknowledgements: written by the control server, read by the
/// status writer. Shared as `Arc<Acks>`.
#[derive(Debug, Default)]
pub(crate) struct Acks {
    books: Mutex<Books>,
    changed: watch::Sender<()>,
}

#[derive(Debug, Default)]
struct Books {
    /// Of the streams of this process.
    own: HashMap<String, PodAcks>,
    /// Of each replica that reports to this one.
    others: BTreeMap<u64, HashMap<String, PodAcks>>,
    /// How many ever did.
    numbers: u64,
}

/// What one other replica reports: it counts for as long as this lives.
#[derive(Debug)]
pub(crate) struct Reported {
    acks: Arc<Acks>,
    number: u64,
}

/// Something that happened on a pod's control stream.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum AckEvent {
    /// A stream was opened.
    Connected {
        /// The key that signed the certificate of its connection.
        authority: Option<Vec<u8>>,
    },
    /// The sidecar runs this version.
    Acked {
        /// The version it named.
        version: String,
    },
    /// The sidecar refused this version and keeps the one before.
    Nacked {
        /// The version it named.
        version: String,
        /// Why, in the sidecar's words.
        reason: String,
    },
    /// The sidecar has these revocations in force.
    Revoked {
        /// Their epoch.
        epoch: u64,
    },
    /// The sidecar trusts these roots, and no others.
    Trusted {
        /// Their digest.
        bundle: String,
    },
    /// The sidecar refused these roots and keeps those before.
    Distrusted {
        /// Their digest.
        bundle: String,
        /// Why, in the sidecar's words.
        reason: String,
    },
    /// A stream ended.
    Disconnected,
}

/// What is known of one pod.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct PodAcks {
    /// Open control streams; more than one only while a sidecar reconnects.
    pub(crate) streams: u32,
    /// The version it runs, as far as it told on a stream that is still open.
    pub(crate) acked: Option<String>,
    /// The last version it refused, with its reason; gone once it accepts one.
    pub(crate) nacked: Option<(String, String)>,
    /// The epoch of the revocations that it has in force; 0 if it did not say.
    pub(crate) revocations: u64,
    /// The digest of the roots that it trusts, as far as it told on a stream that is still open.
    pub(crate) trusted: Option<String>,
    /// The last roots that it refused, with its reason; gone once it takes some.
    pub(crate) distrusted: Option<(String, String)>,
    /// The key that signed its certificate: that of the latest stream.
    pub(crate) authority: Option<Vec<u8>>,
}

/// A sidecar's reason is cut to this many characters: it ends in a status.
const REASON_LIMIT: usize = 256;
/// Pods of one replica: as many as it takes connections.
const MAX_REPORTED: usize = 20_000;

impl Acks {
    /// Records one event. The pod is the one of the peer's certificate, never
    /// one that a message names.
    pub(crate) fn record(&self, pod_uid: &str, event: AckEvent) {
        let mut books = self.books();
        let pods = &mut books.own;
        if matches!(event, AckEvent::Connected { .. }) {
            pods.entry(pod_uid.to_owned()).or_default();
        }
        let Some(pod) = pods.get_mut(pod_uid) else { return };
        pod.note(event);
        // What a sidecar without a stream runs is not known.
        if pod.streams == 0 {
            pods.remove(pod_uid);
        }
        drop(books);
        self.changed.send_replace(());
    }

    /// What is known of a pod; the default for one without a stream. With streams at several replicas it runs only what it
    /// acknowledged to all of them: one of them may not have noticed yet that its stream is dead.
    pub(crate) fn of(&self, pod_uid: &str) -> PodAcks {
        let books = self.books();
        let others = books.others.values().filter_map(|pods| pods.get(pod_uid));
        books.own.get(pod_uid).into_iter().chain(others).cloned().reduce(PodAcks::and).unwrap_or_default()
    }

    /// What this process knows by itself.
    pub(crate) fn own(&self) -> HashMap<String, PodAcks> {
        self.books().own.clone()
    }

    /// How many pods have an open stream with this process.
    pub(crate) fn connected(&self) -> usize {
        self.books().own.len()
    }

    /// How many replicas report to this one.
    pub(crate) fn replicas(&self) -> usize {
        self.books().others.len()
    }

    /// Begins the book of another replica, in which nothing is acknowledged yet.
    pub(crate) fn open(self: &Arc<Self>) -> Reported {
        let mut books = self.books();
        books.numbers += 1;
        let number = books.numbers;
        books.others.insert(number, HashMap::new());
        Reported { acks: self.clone(), number }
    }

    /// Tells of everything that is recorded from now on.
    pub(crate) fn subscribe(&self) -> watch::Receiver<()> {
        self.changed.subscribe()
    }

    fn books(&self) -> MutexGuard<'_, Books> {
        // The maps are valid after every single statement above, so a panic of
        // another holder leaves nothing half done.
        self.books.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl PodAcks {
    /// Takes in what happened on one of its streams.
    fn note(&mut self, event: AckEvent) {
        match event {
            AckEvent::Connected { authority } => {
                (self.streams, self.authority) = (self.streams.saturating_add(1), authority);
            }
            AckEvent::Disconnected => self.streams = self.streams.saturating_sub(1),
            AckEvent::Acked { version } => (self.acked, self.nacked) = (Some(version), None),
            AckEvent::Nacked { version, reason } => self.nacked = Some((version, shorten(&reason))),
            AckEvent::Revoked { epoch } => self.revocations = epoch,
            AckEvent::Trusted { bundle } => (self.trusted, self.distrusted) = (Some(bundle), None),
            AckEvent::Distrusted { bundle, reason } => self.distrusted = Some((bundle, shorten(&reason))),
        }
    }

    /// Together with what another replica knows of the same pod.
    fn and(self, other: Self) -> Self {
        Self {
            streams: self.streams.saturating_add(other.streams),
            acked: self.acked.filter(|version| other.acked.as_ref() == Some(version)),
            nacked: self.nacked.or(other.nacked),
            revocations: self.revocations.min(other.revocations),
            trusted: self.trusted.filter(|bundle| other.trusted.as_ref() == Some(bundle)),
            distrusted: self.distrusted.or(other.distrusted),
            authority: self.authority.filter(|key| other.authority.as_ref() == Some(key)),
        }
    }
}

impl Reported {
    /// Takes what the replica knows of a pod, in place of what it said before. A pod without a stream is forgotten. False if
    /// there are too many.
    pub(crate) fn put(&self, pod_uid: &str, mut acks: PodAcks) -> bool {
        let mut books = self.acks.books();
        let pods = books.others.entry(self.number).or_default();
        if acks.streams == 0 {
            pods.remove(pod_uid);
        } else if pods.len() >= MAX_REPORTED && !pods.contains_key(pod_uid) {
            return false;
        } else {
            for (_, reason) in acks.nacked.iter_mut().chain(&mut acks.distrusted) {
                *reason = shorten(reason);
            }
            pods.insert(pod_uid.to_owned(), acks);
        }
        drop(books);
        self.acks.changed.send_replace(());
        true
    }
}

impl Drop for Reported {
    fn drop(&mut self) {
        self.acks.books().others.remove(&self.number);
        self.acks.changed.send_replace(());
    }
}

fn shorten(reason: &str) -> String {
    reason.chars().take(REASON_LIMIT).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_second_stream_keeps_what_the_first_acknowledged() {
        let acks = Acks::default();
        acks.record("p", AckEvent::Connected { authority: None });
        acks.record("p", AckEvent::Acked { version: "v1".into() });
        acks.record("p", AckEvent::Connected { authority: None });
        acks.record("p", AckEvent::Disconnected);
        assert_eq!(acks.of("p").acked.as_deref(), Some("v1"));
        acks.record("p", AckEvent::Disconnected);
        assert_eq!(acks.of("p"), PodAcks::default());
        assert_eq!(acks.connected(), 0);
    }

    #[test]
    fn a_nack_stays_until_an_ack() {
        let acks = Acks::default();
        acks.record("p", AckEvent::Connected { authority: None });
        let version = "v2".to_owned();
        acks.record("p", AckEvent::Nacked { version: version.clone(), reason: "no".into() });
        assert_eq!(acks.of("p").nacked, Some((version.clone(), "no".to_owned())));
        acks.record("p", AckEvent::Acked { version });
        assert_eq!(acks.of("p").nacked, None);
    }

    #[test]
    fn roots_are_trusted_until_the_last_stream_ends_and_the_latest_one_shows_the_certificate() {
        let acks = Acks::default();
        let connected = |key: u8| AckEvent::Connected { authority: Some(vec![key]) };
        acks.record("p", AckEvent::Trusted { bundle: "d0".into() });
        assert_eq!(acks.of("p"), PodAcks::default(), "it has no stream");
        acks.record("p", connected(1));
        acks.record("p", AckEvent::Trusted { bundle: "d1".into() });
        acks.record("p", AckEvent::Distrusted { bundle: "d2".into(), reason: "n".repeat(1000) });
        // Over a new certificate, before the stream of the old one ends.
        acks.record("p", connected(2));
        acks.record("p", AckEvent::Disconnected);
        let PodAcks { trusted, distrusted, authority, .. } = acks.of("p");
        assert_eq!((trusted.as_deref(), authority), (Some("d1"), Some(vec![2])));
        assert_eq!(distrusted.unwrap().1.len(), REASON_LIMIT);
        acks.record("p", AckEvent::Trusted { bundle: "d2".into() });
        assert_eq!(acks.of("p").distrusted, None);
        acks.record("p", AckEvent::Disconnected);
        assert_eq!(acks.of("p"), PodAcks::default());
    }

    #[test]
    fn what_replicas_report_counts_while_they_do_and_where_they_agree() {
        let acks = Arc::new(Acks::default());
        let runs = |version: &str| PodAcks { streams: 1, acked: Some(version.to_owned()), ..PodAcks::default() };
        let other = acks.open();
        assert_eq!((acks.replicas(), acks.of("p")), (1, PodAcks::default()));
        assert!(other.put("p", runs("v1")));
        assert_eq!(acks.of("p"), runs("v1"));
        // The sidecar comes over before the other one has noticed.
        acks.record("p", AckEvent::Connected { authority: None });
        assert_eq!(acks.of("p").acked, None, "it may be another process of this pod");
        acks.record("p", AckEvent::Trusted { bundle: "d1".into() });
        assert_eq!(acks.of("p").trusted, None, "the other one says nothing of roots");
        acks.record("p", AckEvent::Acked { version: "v2".into() });
        assert_eq!(acks.of("p").acked, None);
        assert!(other.put("p", PodAcks::default()));
        assert_eq!(acks.of("p"), PodAcks { trusted: Some("d1".into()), ..runs("v2") });
        let trusts = |bundle: &str, key: u8| {
            let (trusted, authority) = (Some(bundle.to_owned()), Some(vec![key]));
            PodAcks { trusted, authority, ..runs("v2") }
        };
        acks.record("p", AckEvent::Connected { authority: Some(vec![1]) });
        acks.record("p", AckEvent::Disconnected);
        for (reported, together) in [
            (trusts("d1", 1), (Some("d1".to_owned()), Some(vec![1]))),
            (trusts("d2", 1), (None, Some(vec![1]))),
            (trusts("d1", 2), (Some("d1".to_owned()), None)),
        ] {
            assert!(other.put("p", reported));
            let PodAcks { trusted, authority, .. } = acks.of("p");
            assert_eq!((trusted, authority), together, "what both say");
        }
        let nacked = Some(("v2".to_owned(), "n".repeat(1000)));
        assert!(other.put("p", PodAcks { streams: 1, nacked, revocations: 7, ..PodAcks::default() }));
        acks.record("p", AckEvent::Revoked { epoch: 9 });
        assert_eq!(acks.of("p").revocations, 7);
        assert_eq!(acks.of("p").nacked.map(|(_, reason)| reason.len()), Some(REASON_LIMIT));
        drop(other);
        let own = PodAcks { revocations: 9, ..trusts("d1", 1) };
        assert_eq!((acks.replicas(), acks.of("p"), acks.connected()), (0, own, 1));
    }

    #[test]
    fn a_replica_reports_no_more_pods_than_it_can_have() {
        let acks = Arc::new(Acks::default());
        let other = acks.open();
        let one = PodAcks { streams: 1, ..PodAcks::default() };
        assert!((0..MAX_REPORTED).all(|number| other.put(&number.to_string(), one.clone())));
        assert!(!other.put("one more", one.clone()));
        assert!(other.put("0", one) && other.put("1", PodAcks::default()));
    }
}
