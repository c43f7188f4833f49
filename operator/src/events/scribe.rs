//! Writing Events (`events.k8s.io/v1`): one request at a time, with a pause after each.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use fapi::UnixTime;
use k8s_openapi::api::core::v1::ObjectReference;
use k8s_openapi::api::events::v1::{Event, EventSeries};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::MicroTime;
use k8s_openapi::jiff::Timestamp;
use kube::api::{ObjectMeta, Patch, PatchParams, PostParams};
use kube::{Api, Client};
use serde_json::json;
use tokio::sync::watch;
use tokio::time::{sleep, timeout};

use super::Board;
use super::ledger::{Due, Entry};
use crate::names;

/// Who tells: the name under which the operator writes statuses too.
const CONTROLLER: &str = "fapi-mesh.dev/operator";
/// Where Events of objects without a namespace are.
const ELSEWHERE: &str = "default";
/// One request.
const ANSWER: Duration = Duration::from_secs(5);
/// Ten in a second, whatever happens.
const PAUSE: Duration = Duration::from_millis(100);

/// Writes what is due.
pub(crate) struct Scribe {
    client: Client,
    board: Arc<Board>,
    /// The pod that this process is.
    instance: String,
    /// What went wrong last, so that it is said once.
    trouble: Option<String>,
}

/// Why an Event was not written.
enum Unwritten {
    /// The one whose series it is has been forgotten.
    Gone,
    /// Anything else.
    Refused(String),
}

impl Scribe {
    pub(super) fn new(client: Client, board: Arc<Board>) -> Self {
        let instance = std::env::var("HOSTNAME").unwrap_or_else(|_| names::OPERATOR.to_owned());
        Self { client, board, instance, trouble: None }
    }

    /// What it would write now: of what, why, in which words.
    #[cfg(test)]
    pub(crate) fn told(&self) -> Vec<[String; 3]> {
        let entries = std::iter::from_fn(|| match self.board.ledger().next(self.board.clock.now()) {
            Due::Write(entry) => Some(entry),
            Due::Later(_) | Due::Nothing => None,
        });
        let row = |entry: Entry| {
            let about = &entry.told.about;
            let object = format!("{} {}/{} {}", about.kind, about.namespace, about.name, about.uid);
            [object, entry.told.reason.id().to_owned(), entry.told.note.clone()]
        };
        entries.map(row).collect()
    }

    /// Writes until `shutdown` says true. What is not written by then is not told.
    pub(crate) async fn run(mut self, mut shutdown: watch::Receiver<bool>) {
        loop {
            let now = self.board.clock.now();
            let due = self.board.ledger().next(now);
            tokio::select! {
                () = self.perform(due) => {}
                _ = shutdown.wait_for(|end| *end) => return,
            }
        }
    }

    async fn perform(&mut self, due: Due) {
        let board = self.board.clone();
        match due {
            Due::Write(entry) => {
                self.write(entry).await;
                sleep(PAUSE).await;
            }
            Due::Later(wait) => tokio::select! {
                () = sleep(wait) => {}
                () = board.due.notified() => {}
            },
            Due::Nothing => board.due.notified().await,
        }
    }

    async fn write(&mut self, entry: Entry) {
        let answer = timeout(ANSWER, self.ask(&entry)).await;
        match answer.unwrap_or_else(|_| Err(Unwritten::Refused("no answer".to_owned()))) {
            Ok(()) => {
                self.board.written.fetch_add(1, Ordering::Relaxed);
                self.trouble = None;
            }
            Err(Unwritten::Gone) => self.board.ledger().lost(&entry.told),
            Err(Unwritten::Refused(error)) => {
                self.board.ledger().failed(&entry.told);
                self.board.failed.fetch_add(1, Ordering::Relaxed);
                if self.trouble.as_ref() != Some(&error) {
                    tracing::warn!(event = "events", error, "cannot write an Event; its like are not told of either");
                }
                self.trouble = Some(error);
            }
        }
    }

    async fn ask(&self, entry: &Entry) -> Result<(), Unwritten> {
        let about = &entry.told.about;
        let namespace = if about.namespace.is_empty() { ELSEWHERE } else { &about.namespace };
        let events = Api::<Event>::namespaced(self.client.clone(), namespace);
        let answer = if entry.is_new {
            events.create(&PostParams::default(), &self.event(entry, namespace)).await
        } else {
            let patch = json!({ "series": series(entry) });
            events.patch(&entry.name, &PatchParams::default(), &Patch::Merge(patch)).await
        };
        match answer {
            Ok(_) => Ok(()),
            // Another operator has told it, or the one before this one.
            Err(kube::Error::Api(status)) if entry.is_new && status.code == 409 => Ok(()),
            Err(kube::Error::Api(status)) if !entry.is_new && status.code == 404 => Err(Unwritten::Gone),
            Err(error) => Err(Unwritten::Refused(error.to_string())),
        }
    }

    fn event(&self, entry: &Entry, namespace: &str) -> Event {
        let (told, about) = (&entry.told, &entry.told.about);
        let text = |text: &str| Some(text.to_owned()).filter(|text| !text.is_empty());
        Event {
            metadata: ObjectMeta {
                name: Some(entry.name.clone()),
                namespace: text(namespace),
                ..ObjectMeta::default()
            },
            event_time: Some(time(entry.last)),
            reporting_controller: text(CONTROLLER),
            reporting_instance: text(self.instance.get(..128).unwrap_or(&self.instance)),
            action: text(told.reason.action()),
            reason: text(told.reason.id()),
            type_: text(told.reason.severity()),
            note: text(&told.note),
            regarding: Some(ObjectReference {
                api_version: text(&about.api_version),
                kind: text(&about.kind),
                namespace: text(&about.namespace),
                name: text(&about.name),
                uid: text(&about.uid),
                ..ObjectReference::default()
            }),
            series: (told.reason.is_counted() && entry.count > 1).then(|| series(entry)),
            ..Event::default()
        }
    }
}

fn series(entry: &Entry) -> EventSeries {
    let count = i32::try_from(entry.count).unwrap_or(i32::MAX);
    EventSeries { count, last_observed_time: time(entry.last) }
}

fn time(at: UnixTime) -> MicroTime {
    let seconds = i64::try_from(at.as_secs()).unwrap_or_default();
    MicroTime(Timestamp::from_second(seconds).unwrap_or_default())
}
