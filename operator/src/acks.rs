//! What each pod's sidecar acknowledged, for the status.

use std::collections::HashMap;
use std::sync::{Mutex, MutexGuard, PoisonError};

use tokio::sync::Notify;

/// The book of acknowledgements: written by the control server, read by the
/// status writer. Shared as `Arc<Acks>`.
#[derive(Debug, Default)]
pub(crate) struct Acks {
    pods: Mutex<HashMap<String, PodAcks>>,
    changed: Notify,
}

/// Something that happened on a pod's control stream.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum AckEvent {
    /// A stream was opened.
    Connected,
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
}

/// A sidecar's reason is cut to this many characters: it ends in a status.
const REASON_LIMIT: usize = 256;

impl Acks {
    /// Records one event. The pod is the one of the peer's certificate, never
    /// one that a message names.
    pub(crate) fn record(&self, pod_uid: &str, event: AckEvent) {
        let mut pods = self.pods();
        match event {
            AckEvent::Disconnected => {
                let Some(pod) = pods.get_mut(pod_uid) else {
                    return;
                };
                pod.streams = pod.streams.saturating_sub(1);
                // What a sidecar without a stream runs is not known.
                if pod.streams == 0 {
                    pods.remove(pod_uid);
                }
            }
            AckEvent::Connected => {
                let pod = pods.entry(pod_uid.to_owned()).or_default();
                pod.streams = pod.streams.saturating_add(1);
            }
            AckEvent::Acked { version } => {
                let Some(pod) = pods.get_mut(pod_uid) else {
                    return;
                };
                pod.acked = Some(version);
                pod.nacked = None;
            }
            AckEvent::Nacked { version, reason } => {
                let Some(pod) = pods.get_mut(pod_uid) else {
                    return;
                };
                let reason = reason.chars().take(REASON_LIMIT).collect();
                pod.nacked = Some((version, reason));
            }
        }
        drop(pods);
        self.changed.notify_one();
    }

    /// What is known of a pod; the default for one without a stream.
    pub(crate) fn of(&self, pod_uid: &str) -> PodAcks {
        self.pods().get(pod_uid).cloned().unwrap_or_default()
    }

    /// How many pods have an open stream.
    pub(crate) fn connected(&self) -> usize {
        self.pods().len()
    }

    /// Waits until something was recorded since the last wait. One waiter.
    pub(crate) async fn changed(&self) {
        self.changed.notified().await;
    }

    fn pods(&self) -> MutexGuard<'_, HashMap<String, PodAcks>> {
        // The map is valid after every single statement above, so a panic of
        // another holder leaves nothing half done.
        self.pods.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_second_stream_keeps_what_the_first_acknowledged() {
        let acks = Acks::default();
        acks.record("p", AckEvent::Connected);
        acks.record("p", AckEvent::Acked { version: "v1".into() });
        acks.record("p", AckEvent::Connected);
        acks.record("p", AckEvent::Disconnected);
        assert_eq!(acks.of("p").acked.as_deref(), Some("v1"));
        acks.record("p", AckEvent::Disconnected);
        assert_eq!(acks.of("p"), PodAcks::default());
        assert_eq!(acks.connected(), 0);
    }

    #[test]
    fn a_nack_stays_until_an_ack() {
        let acks = Acks::default();
        acks.record("p", AckEvent::Connected);
        let version = "v2".to_owned();
        acks.record("p", AckEvent::Nacked { version: version.clone(), reason: "no".into() });
        assert_eq!(acks.of("p").nacked, Some((version.clone(), "no".to_owned())));
        acks.record("p", AckEvent::Acked { version });
        assert_eq!(acks.of("p").nacked, None);
    }
}
