//! Watching one kind: a list, then every change after it, and a list again where the server has forgotten what we know.
//!
//! Its own few lines rather than a library's, because the order of snapshots is made of the version of each list, which a
//! library keeps to itself.

use std::pin::pin;
use std::time::Duration;

use kube::api::{ListParams, WatchParams};
use kube::core::{DynamicObject, WatchEvent};
use kube::{Api, Client, ResourceExt};
use tokio::sync::mpsc;
use tokio::time::{Instant, timeout};
use tokio_stream::StreamExt;

use super::facts::{self, Fact};
use super::objects::{Change, News};
use super::watched::Watched;
use crate::backoff::Backoff;
use crate::behind::{Behind, Looks};
use crate::model::Key;

/// Objects per answer: a few hundred pods are some megabytes.
const PAGE: u32 = 500;
/// One page.
const ANSWER: Duration = Duration::from_secs(30);
/// Servers send a bookmark every minute; one that says nothing for so long is not there any more.
const SILENCE: Duration = Duration::from_secs(130);
/// Seconds after which a server is to end a watch, so that servers share the load anew.
const WATCH: u32 = 290;
const SHORTEST_PAUSE: Duration = Duration::from_millis(500);
/// A server that comes back is heard of within this time: what sidecars know is no newer than what is heard here.
const LONGEST_PAUSE: Duration = Duration::from_secs(5);
/// Before a list of what is known already: the dearest request that there is.
const LONGEST_PAUSE_BEFORE_LIST: Duration = Duration::from_secs(30);
/// A watch of this length has shown that the server is well. A list has not: it may be good while every watch breaks.
const LIVED: Duration = Duration::from_secs(10);
/// What the code of an answer is where the server has forgotten the version (RFC 9110 section 15.5.11).
const GONE: u16 = 410;

/// Tells everything about one kind until nobody listens any more. What fails is logged and tried again.
pub(super) async fn watch(client: Client, watched: Watched, news: mpsc::Sender<News>, behind: Behind) {
    let (api, looks) = (Api::all_with(client, &watched.resource()), behind.looks());
    let requests = Backoff::new(SHORTEST_PAUSE, LONGEST_PAUSE);
    let lists = Backoff::new(SHORTEST_PAUSE, LONGEST_PAUSE_BEFORE_LIST);
    let mut watch = Watch { api, watched, news, looks, requests, lists };
    loop {
        let mut version = match watch.list().await {
            Ok((all, version)) => {
                if watch.tell(Change::Listed(all), version).await.is_err() {
                    return;
                }
                version
            }
            Err(failed) => {
                watch.fail(&failed).await;
                continue;
            }
        };
        loop {
            let began = Instant::now();
            let end = watch.follow(&mut version).await;
            let lived = began.elapsed() >= LIVED;
            if lived {
                watch.requests.reset();
                watch.lists.reset();
            }
            match end {
                End::Quiet if lived => {}
                End::Quiet => watch.requests.rest().await,
                End::Forgotten => {
                    watch.lists.rest().await;
                    break;
                }
                End::Behind => break,
                End::Failed(failed) => watch.fail(&failed).await,
                End::NobodyListens => return,
            }
        }
    }
}

struct Watch {
    api: Api<DynamicObject>,
    watched: Watched,
    news: mpsc::Sender<News>,
    /// Tells that others know more.
    looks: Looks,
    /// After a request that failed.
    requests: Backoff,
    /// Before a list that a watch asked for. Apart from the other: a server that was away has forgotten what it told before, so the
    /// first list is due as soon as it is back, however long it was away.
    lists: Backoff,
}

/// Why a watch ended.
enum End {
    /// As servers do from time to time.
    Quiet,
    /// Some of what happened since is not to be had any more, or cannot be read.
    Forgotten,
    /// Something has not come though others know of it.
    Behind,
    Failed(Failed),
    NobodyListens,
}

/// Why the server did not answer as it should.
#[derive(Debug, thiserror::Error)]
enum Failed {
    #[error("{0}")]
    Client(#[from] kube::Error),
    #[error("no answer in {} s", ANSWER.as_secs())]
    NoAnswer,
    #[error("the version {0:?} is no number")]
    Version(String),
}

impl Watch {
    async fn list(&self) -> Result<(Vec<(Key, Fact)>, u64), Failed> {
        let mut all = Vec::new();
        let mut params = ListParams { field_selector: self.watched.fields(), ..ListParams::default() }.limit(PAGE);
        loop {
            let page = timeout(ANSWER, self.api.list(&params)).await.map_err(|_| Failed::NoAnswer)??;
            // Facts are small; the objects go before the next page comes.
            all.extend(page.items.into_iter().map(|object| (facts::key(&object), facts::read(self.watched, object))));
            match page.metadata.continue_.filter(|token| !token.is_empty()) {
                Some(token) => params = params.continue_token(&token),
                None => return Ok((all, version(page.metadata.resource_version)?)),
            }
        }
    }

    /// Tells every change after `version`, and moves it on.
    async fn follow(&mut self, at: &mut u64) -> End {
        let field_selector = self.watched.fields();
        let params = WatchParams { bookmarks: true, timeout: Some(WATCH), field_selector, ..WatchParams::default() };
        let opened = timeout(ANSWER, self.api.watch(&params, &at.to_string())).await;
        let mut events = match opened {
            Ok(Ok(events)) => pin!(events),
            Ok(Err(error)) => return end(error),
            Err(_) => return End::Failed(Failed::NoAnswer),
        };
        loop {
            let next = tokio::select! {
                biased;
                () = self.looks.due() => return End::Behind,
                next = timeout(SILENCE, events.next()) => next,
            };
            let change = match next {
                // Nothing is lost: the next watch begins where this one was.
                Err(_) | Ok(None) => return End::Quiet,
                Ok(Some(Err(error))) => return end(error),
                Ok(Some(Ok(event))) => self.change(event),
            };
            let (change, version) = match change {
                Ok(change) => change,
                Err(end) => return end,
            };
            *at = version.max(*at);
            if self.tell(change, version).await.is_err() {
                return End::NobodyListens;
            }
        }
    }

    fn change(&self, event: WatchEvent<DynamicObject>) -> Result<(Change, u64), End> {
        let (change, at) = match event {
            WatchEvent::Added(object) | WatchEvent::Modified(object) => {
                let (key, at) = (facts::key(&object), object.resource_version());
                (Change::Put(key, facts::read(self.watched, object)), at)
            }
            WatchEvent::Deleted(object) => (Change::Gone(facts::key(&object)), object.resource_version()),
            WatchEvent::Bookmark(bookmark) => (Change::Nothing, Some(bookmark.metadata.resource_version)),
            WatchEvent::Error(status) => return Err(end(kube::Error::Api(status))),
        };
        Ok((change, version(at).map_err(End::Failed)?))
    }

    async fn tell(&self, change: Change, version: u64) -> Result<(), mpsc::error::SendError<News>> {
        self.news.send(News { watched: self.watched, change, version }).await
    }

    async fn fail(&mut self, failed: &Failed) {
        let remedy = remedy(failed);
        tracing::warn!(event = "watch", kind = self.watched.name(), error = %failed, remedy, "what is known stays in force");
        self.requests.rest().await;
    }
}

fn end(error: kube::Error) -> End {
    match &error {
        kube::Error::Api(status) if status.code == GONE => End::Forgotten,
        // What is no event, and passes for a status without a code: the same text would come again and again.
        kube::Error::Api(status) if status.code == 0 => End::Forgotten,
        kube::Error::SerdeError(_) => End::Forgotten,
        _ => End::Failed(error.into()),
    }
}

fn remedy(failed: &Failed) -> &'static str {
    match failed {
        Failed::Client(kube::Error::Api(status)) if status.code == 404 => "install the chart fapi-mesh-crds",
        Failed::Client(kube::Error::Api(status)) if matches!(status.code, 401 | 403) => {
            "give the operator's service account the rights of the chart's ClusterRole"
        }
        _ => "see whether the API server answers; it is tried again",
    }
}

fn version(text: Option<String>) -> Result<u64, Failed> {
    let text = text.unwrap_or_default();
    text.parse().map_err(|_| Failed::Version(text))
}
