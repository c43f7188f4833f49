//! The health port of a pod: what a kubelet and a scraper ask for. It is open to everybody who reaches the pod, so it tells
//! little and lets nobody choose what is asked of the app.

mod grpc;
mod http_get;
mod probe;
mod target;
#[cfg(test)]
mod tests;

use std::{
    collections::HashMap,
    net::{IpAddr, Ipv4Addr},
    sync::Arc,
};

use bytes::Bytes;
use fapi::TokenHash;
use http::{Method, Response, StatusCode};
use http_body_util::Full;

pub use probe::InvalidProbe;
pub(crate) use probe::Question;

use crate::{
    admin,
    interception::Interception,
    small_http::{Answers, Asked, Silence, not_allowed, text},
    state::Shared,
    stop::Stop,
};

/// What to ask of the app, by the hash of the path: how long it takes to find nothing tells nothing about what there is.
pub(crate) type Questions = HashMap<TokenHash, Question>;

/// Answers on the health port.
pub(crate) struct Health {
    pub(crate) shared: Arc<Shared>,
    pub(crate) stop: Stop,
    pub(crate) questions: Questions,
    pub(crate) interception: Interception,
}

impl Health {
    fn question(&self, path: &str) -> Option<&Question> {
        self.questions.get(&TokenHash::of(path))
    }

    /// Where the app is asked: where the kubelet itself would have asked it, unless the sidecar listens there before it.
    fn app(&self, asked_at: IpAddr) -> IpAddr {
        match self.interception {
            Interception::Redirect => asked_at.to_canonical(),
            Interception::None | Interception::Proxy => Ipv4Addr::LOCALHOST.into(),
        }
    }
}

impl Answers for Health {
    async fn answer(&self, asked: Asked<'_>) -> Result<Response<Full<Bytes>>, Silence> {
        match asked.path {
            "/readyz" => return Ok(admin::readiness(&self.shared, &self.stop)),
            "/metrics" => return Ok(admin::metrics(&self.shared)),
            _ => {}
        }
        let Some(question) = self.question(asked.path) else {
            return Ok(text(StatusCode::NOT_FOUND, "there are /readyz, /metrics and the probes of this pod\n"));
        };
        if question.is_hook() && asked.method != Method::GET {
            return Ok(not_allowed("GET"));
        }
        let is_good = question.ask(self.app(asked.at.ip())).await;
        // To a kubelet any answer to a hook is a good one.
        if question.is_hook() && !is_good { Err(Silence) } else { Ok(verdict(is_good)) }
    }

    /// Nobody guesses the path of a hook.
    fn is_trusted(&self, asked: Asked<'_>) -> bool {
        self.question(asked.path).is_some_and(Question::is_hook)
    }
}

/// The status alone: what the app said in its answer is nobody's business here.
fn verdict(is_good: bool) -> Response<Full<Bytes>> {
    if is_good { text(StatusCode::OK, "ok\n") } else { text(StatusCode::SERVICE_UNAVAILABLE, "the probe failed\n") }
}
