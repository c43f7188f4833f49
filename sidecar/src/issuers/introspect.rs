//! Asks an issuer about tokens that only it can read (RFC 7662, RFC 9701). The answers are kept by the hash of the token, for
//! a short while and never beyond its end; whoever wants the same answer waits for the same question.
//!
//! Each caller has a share of the questions: what one sends in a loop must not use up the patience of the issuer, or the room
//! here, for all.

use std::{
    collections::HashMap,
    path::PathBuf,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use control::ExternalIssuer;
use fapi::{Audience, Introspection, IntrospectionFault, Issuer, SpiffeId, TokenHash, UnixTime, Unread};
use http::{HeaderValue, Method, Request, StatusCode, header};
use http_body_util::Full;
use tokio::{
    sync::{Semaphore, mpsc},
    time::{Instant, timeout},
};

use super::Metadata;
use crate::{
    answers::{self, Answers},
    clock::monotonic,
    identity::Certificate,
    state::Shared,
    tokens::{Answered, FetchError, Transport, form},
};

/// What an issuer said counts for so long: a token that it revokes is refused after this.
const COUNTS_FOR: u64 = 30;
/// No question about a token that was not answered is asked again within this time.
const SILENCE_FOR: Duration = Duration::from_secs(1);
/// A request waits this long for an answer; the answer may still come for the next one.
const WAIT: Duration = Duration::from_secs(2);
const ANSWER_WITHIN: Duration = Duration::from_secs(4);
/// Most questions at one time, and those that wait for their turn.
const AT_ONCE: usize = 8;
const WAITING: usize = 64;
/// What all pods of one caller may have waiting: many begin with new tokens at one time.
const WAITING_OF_ONE: usize = WAITING / 2;
const MAX_KNOWN: usize = 4096;
/// Most tokens of one caller that turned out not to be active and still count. Good callers have next to none, and a server that
/// is asked about many begins to refuse questions (429), for all callers.
const INACTIVE_OF_ONE: usize = 64;

const SIGNED: &str = "application/token-introspection+jwt";

/// What is known of the tokens of one issuer, as workers see it.
pub(super) struct Introspections {
    known: Answers<TokenHash, Known, Instant>,
    shares: Arc<Shares>,
    questions: mpsc::Sender<Question>,
}

/// What each caller has used of its share; whoever has used nothing is not there.
#[derive(Default)]
struct Shares(Mutex<HashMap<SpiffeId, Share>>);

#[derive(Default)]
struct Share {
    waiting: usize,
    /// How long each token that is not active counts.
    inactive: Vec<UnixTime>,
}

#[derive(Clone)]
enum Known {
    Said(Arc<Introspection>),
    /// There was no answer; until then there is none.
    Silent(Instant),
}

struct Question {
    caller: SpiffeId,
    token: Box<str>,
    hash: TokenHash,
    audiences: Vec<Audience>,
    known: answers::Question<Known>,
}

/// The one who asks.
struct Asker {
    shared: Arc<Shared>,
    shares: Arc<Shares>,
    transport: Transport,
    issuer: Issuer,
    /// Who we are there.
    client: String,
}

/// Why there is no answer. The text is for the log.
#[derive(Debug, thiserror::Error)]
enum NoAnswer {
    #[error(transparent)]
    Fetch(#[from] FetchError),
    #[error("there is no certificate yet")]
    NotCertified,
    #[error("it did not answer within {ANSWER_WITHIN:?}")]
    TooSlow,
    #[error("its answer does not count: {0}")]
    Fault(#[from] IntrospectionFault),
}

impl Introspections {
    /// Both ends: what workers see, and the task that asks, for the control thread. `None` if the issuer cannot be asked by us at all.
    pub(super) fn new(
        shared: &Arc<Shared>,
        server: &ExternalIssuer,
        roots: PathBuf,
    ) -> Option<(Arc<Self>, impl Future<Output = ()> + Send + use<>)> {
        let issuer = Issuer::parse(&server.issuer).ok()?;
        let client = server.introspect_as.clone()?;
        let transport = Transport::outside(server, roots).ok()?;
        let (sender, questions) = mpsc::channel(WAITING);
        let shares = Arc::<Shares>::default();
        let asker = Asker { shared: Arc::clone(shared), shares: Arc::clone(&shares), transport, issuer, client };
        let introspections = Arc::new(Self { known: Answers::new(MAX_KNOWN), shares, questions: sender });
        Some((introspections, asker.run(questions)))
    }

    /// What the issuer says of a token, asked now or a short while ago; `None` if it did not say in time, or is not to be asked
    /// for this caller now.
    pub(super) async fn ask(&self, caller: &SpiffeId, unread: &Unread, shared: &Shared) -> Option<Arc<Introspection>> {
        let (now, time) = (monotonic(), shared.clock.now());
        let ask = |known| {
            let (token, audiences) = (unread.token.clone(), unread.audiences.clone());
            let question = Question { caller: caller.clone(), token, hash: unread.hash, audiences, known };
            // What finds no place is not answered.
            if self.shares.take(caller, time) && self.questions.try_send(question).is_err() {
                self.shares.settle(caller, None, time);
            }
        };
        let known = self.known.get(unread.hash, now, |known| known.counts(now, time), ask);
        match timeout(WAIT, known.given()).await {
            Ok(Some(Known::Said(said))) => Some(said),
            Ok(Some(Known::Silent(_)) | None) | Err(_) => None,
        }
    }
}

impl Shares {
    /// Counts a question of a caller as waiting, if it may ask one.
    fn take(&self, caller: &SpiffeId, now: UnixTime) -> bool {
        let mut shares = self.lock();
        let share = shares.entry(caller.clone()).or_default();
        share.inactive.retain(|until| now < *until);
        let used = share.waiting + share.inactive.len();
        let may = share.waiting < WAITING_OF_ONE && used < INACTIVE_OF_ONE;
        share.waiting += usize::from(may);
        may
    }

    /// Counts it as waiting no more; a token that is not active counts until then.
    fn settle(&self, caller: &SpiffeId, inactive: Option<UnixTime>, now: UnixTime) {
        let mut shares = self.lock();
        if let Some(share) = shares.get_mut(caller) {
            share.waiting = share.waiting.saturating_sub(1);
            share.inactive.extend(inactive);
        }
        shares.retain(|_, share| share.waiting > 0 || share.inactive.iter().any(|until| now < *until));
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<SpiffeId, Share>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Known {
    fn counts(&self, now: Instant, time: UnixTime) -> bool {
        match self {
            Self::Said(said) => time < said.until(),
            Self::Silent(until) => now < *until,
        }
    }
}

impl Asker {
    /// Asks, for ever.
    async fn run(self, mut questions: mpsc::Receiver<Question>) {
        let (this, permits) = (Arc::new(self), Arc::new(Semaphore::new(AT_ONCE)));
        while let Some(question) = questions.recv().await {
            // The semaphore is never closed.
            let permit = Arc::clone(&permits).acquire_owned().await;
            let this = Arc::clone(&this);
            tokio::spawn(async move {
                this.answer(question).await;
                drop(permit);
            });
        }
    }

    async fn answer(&self, question: Question) {
        let asked = timeout(ANSWER_WITHIN, self.introspect(&question)).await.unwrap_or(Err(NoAnswer::TooSlow));
        let attempts = &self.shared.metrics.introspections;
        if asked.is_ok() { &attempts.succeeded } else { &attempts.failed }.add(1);
        let inactive = asked.as_ref().ok().filter(|said| !said.is_active()).map(Introspection::until);
        self.shares.settle(&question.caller, inactive, self.shared.clock.now());
        question.known.answer(match asked {
            Ok(said) => Known::Said(Arc::new(said)),
            Err(error) => {
                tracing::warn!(issuer = self.issuer.as_str(), %error, "a token could not be introspected");
                Known::Silent(monotonic() + SILENCE_FOR)
            }
        });
    }

    async fn introspect(&self, question: &Question) -> Result<Introspection, NoAnswer> {
        let identity = self.shared.identity().map(|generation| generation.identity.clone());
        let certificate =
            identity.and_then(|identity| Certificate::new(identity).ok()).ok_or(NoAnswer::NotCertified)?;
        self.transport.keep_only(certificate.thumbprint);
        let endpoint = self.transport.endpoint(Metadata::introspection_endpoint).await?;
        let make = || {
            let token = ("token", &*question.token);
            let form = form(&[token, ("token_type_hint", "access_token"), ("client_id", &self.client)]);
            let mut request: Request<Full<bytes::Bytes>> = endpoint.request(Full::new(form.into()));
            *request.method_mut() = Method::POST;
            let headers = request.headers_mut();
            let both = "application/token-introspection+jwt, application/json;q=0.9";
            headers.insert(header::ACCEPT, HeaderValue::from_static(both));
            headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("application/x-www-form-urlencoded"));
            Ok(request)
        };
        let answered = self.transport.send(&self.shared, &certificate, &endpoint, make).await?;
        if answered.status != StatusCode::OK {
            return Err(FetchError::of(answered.status, &answered.body).into());
        }
        match self.read(question, &answered) {
            // Its keys may have changed.
            Err(IntrospectionFault::KeyNotFound) => {
                self.shared.issuers.fresh(&self.issuer).await;
                Ok(self.read(question, &answered)?)
            }
            read => Ok(read?),
        }
    }

    fn read(&self, question: &Question, answered: &Answered) -> Result<Introspection, IntrospectionFault> {
        let (hash, now) = (question.hash, self.shared.clock.now());
        let until = now.plus(COUNTS_FOR);
        let media_type = answered.headers.get(header::CONTENT_TYPE).and_then(|value| value.to_str().ok());
        // RFC 9110 section 8.3.1: in any case, maybe with parameters.
        let media_type = media_type.and_then(|text| text.split(';').next());
        let is_signed = media_type.is_some_and(|text| text.trim().eq_ignore_ascii_case(SIGNED));
        if !is_signed {
            return Introspection::parse(&self.issuer, hash, &answered.body, until);
        }
        let keys = self.shared.keys();
        let keys = keys.get(&self.issuer).ok_or(IntrospectionFault::KeyNotFound)?;
        let jwt = std::str::from_utf8(&answered.body).map_err(|_| IntrospectionFault::Malformed)?;
        let mut names: Vec<&str> = question.audiences.iter().map(Audience::as_str).collect();
        names.push(&self.client);
        Introspection::verify((&self.issuer, keys), &names, hash, jwt.trim(), (now, until))
    }
}
