//! Asks an issuer about tokens that only it can read (RFC 7662, RFC 9701). The answers are kept by the hash of the token, for
//! a short while and never beyond its end; whoever wants the same answer waits for the same question.
//!
//! Each caller has answers of its own, as its tokens are bound to it: what one sends in a loop must not use up the patience of
//! the issuer, or the room here, for all.

use std::{
    collections::HashMap,
    path::PathBuf,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use control::ExternalIssuer;
use fapi::{Audience, Introspection, IntrospectionFault, Issuer, SpiffeId, TokenHash, UnixTime, Unread};
use http::{HeaderValue, Method, Request, StatusCode, header};
use http_body_util::Full;
use tokio::{
    sync::{Semaphore, mpsc, watch},
    time::{Instant, timeout},
};

use super::Metadata;
use crate::{
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
    known: Mutex<HashMap<SpiffeId, Answers>>,
    questions: mpsc::Sender<Question>,
}

/// What is known of the tokens of one caller.
type Answers = HashMap<TokenHash, Known>;

enum Known {
    Said(Arc<Introspection>),
    /// There was no answer; until then there is none.
    Silent(Instant),
    /// Ends with the question.
    Asked(watch::Receiver<()>),
}

struct Question {
    caller: SpiffeId,
    token: Box<str>,
    hash: TokenHash,
    audiences: Vec<Audience>,
    /// Dropped at the end.
    done: watch::Sender<()>,
}

/// The one who asks.
struct Asker {
    shared: Arc<Shared>,
    introspections: Arc<Introspections>,
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
        let introspections = Arc::new(Self { known: Mutex::default(), questions: sender });
        let (shared, seen) = (Arc::clone(shared), Arc::clone(&introspections));
        let asker = Asker { shared, introspections: seen, transport, issuer, client };
        Some((introspections, asker.run(questions)))
    }

    /// What the issuer says of a token, asked now or a short while ago; `None` if it did not say in time.
    pub(super) async fn ask(&self, caller: &SpiffeId, unread: &Unread, shared: &Shared) -> Option<Arc<Introspection>> {
        let mut asked = match self.look(caller, unread, shared.clock.now()) {
            Known::Said(said) => return Some(said),
            Known::Silent(_) => return None,
            Known::Asked(asked) => asked,
        };
        // Its end is an error.
        let _ = timeout(WAIT, asked.changed()).await;
        match self.lock().get(caller)?.get(&unread.hash) {
            Some(Known::Said(said)) => Some(Arc::clone(said)),
            _ => None,
        }
    }

    /// What is known, after a question was asked if nothing was.
    fn look(&self, caller: &SpiffeId, unread: &Unread, now: UnixTime) -> Known {
        let mut known = self.lock();
        let own = known.get(caller);
        match own.and_then(|own| own.get(&unread.hash)) {
            Some(Known::Said(said)) if now < said.until() => return Known::Said(Arc::clone(said)),
            Some(Known::Silent(until)) if monotonic() < *until => return Known::Silent(*until),
            Some(Known::Asked(asked)) => return Known::Asked(asked.clone()),
            _ => {}
        }
        let (done, asked) = watch::channel(());
        let (token, audiences) = (unread.token.clone(), unread.audiences.clone());
        let question = Question { caller: caller.clone(), token, hash: unread.hash, audiences, done };
        if own.is_some_and(|own| has_its_share(own, now)) || self.questions.try_send(question).is_err() {
            return Known::Silent(monotonic());
        }
        make_room(&mut known, now);
        known.entry(caller.clone()).or_default().insert(unread.hash, Known::Asked(asked.clone()));
        Known::Asked(asked)
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, HashMap<SpiffeId, Answers>> {
        self.known.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Whether nobody is asked for a caller now: it has too much waiting, or sent too much that is good for nothing.
fn has_its_share(own: &Answers, now: UnixTime) -> bool {
    let asked = own.values().filter(|known| matches!(known, Known::Asked(_))).count();
    let is_inactive = |known: &&Known| matches!(known, Known::Said(said) if !said.is_active() && now < said.until());
    asked >= WAITING_OF_ONE || asked + own.values().filter(is_inactive).count() >= INACTIVE_OF_ONE
}

/// Forgets what has ended; if that is nothing, one answer of the caller with most, which can be asked for again.
fn make_room(known: &mut HashMap<SpiffeId, Answers>, now: UnixTime) {
    if count(known) < MAX_KNOWN {
        return;
    }
    known.retain(|_, own| {
        own.retain(|_, known| match known {
            Known::Said(said) => now < said.until(),
            Known::Silent(until) => monotonic() < *until,
            Known::Asked(_) => true,
        });
        !own.is_empty()
    });
    let answered = |(hash, known): (&TokenHash, &Known)| (!matches!(known, Known::Asked(_))).then_some(*hash);
    if count(known) >= MAX_KNOWN
        && let Some(most) = known.values_mut().max_by_key(|own| own.len())
        && let Some(one) = most.iter().find_map(answered)
    {
        most.remove(&one);
    }
}

fn count(known: &HashMap<SpiffeId, Answers>) -> usize {
    known.values().map(HashMap::len).sum()
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
        let known = match asked {
            Ok(said) => Known::Said(Arc::new(said)),
            Err(error) => {
                tracing::warn!(issuer = self.issuer.as_str(), %error, "a token could not be introspected");
                Known::Silent(monotonic() + SILENCE_FOR)
            }
        };
        self.introspections.lock().entry(question.caller).or_default().insert(question.hash, known);
        drop(question.done);
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
