//! Asks an issuer about tokens that only it can read (RFC 7662, RFC 9701). The answers are kept by the hash of the token, for
//! a short while and never beyond its end; whoever wants the same answer waits for the same question.

use std::{path::PathBuf, sync::Arc, time::Duration};

use control::ExternalIssuer;
use fapi::{Audience, Introspection, IntrospectionFault, Issuer, TokenHash, UnixTime, Unread};
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
const MAX_KNOWN: usize = 4096;

const SIGNED: &str = "application/token-introspection+jwt";

/// What is known of the tokens of one issuer, as workers see it.
pub(super) struct Introspections {
    known: Answers<TokenHash, Known, Instant>,
    questions: mpsc::Sender<Question>,
}

#[derive(Clone)]
enum Known {
    Said(Arc<Introspection>),
    /// There was no answer; until then there is none.
    Silent(Instant),
}

struct Question {
    token: Box<str>,
    hash: TokenHash,
    audiences: Vec<Audience>,
    known: answers::Question<Known>,
}

/// The one who asks.
struct Asker {
    shared: Arc<Shared>,
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
        let introspections = Arc::new(Self { known: Answers::new(MAX_KNOWN), questions: sender });
        let asker = Asker { shared: Arc::clone(shared), transport, issuer, client };
        Some((introspections, asker.run(questions)))
    }

    /// What the issuer says of a token, asked now or a short while ago; `None` if it did not say in time.
    pub(super) async fn ask(&self, unread: &Unread, shared: &Shared) -> Option<Arc<Introspection>> {
        let (now, time) = (monotonic(), shared.clock.now());
        let ask = |known| {
            let (token, audiences) = (unread.token.clone(), unread.audiences.clone());
            // What finds no place is not answered.
            let _ = self.questions.try_send(Question { token, hash: unread.hash, audiences, known });
        };
        let known = self.known.get(unread.hash, now, |known| known.counts(now, time), ask);
        match timeout(WAIT, known.given()).await {
            Ok(Some(Known::Said(said))) => Some(said),
            Ok(Some(Known::Silent(_)) | None) | Err(_) => None,
        }
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
        let is_signed = media_type.and_then(|text| text.split(';').next()).is_some_and(|text| text.trim() == SIGNED);
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
