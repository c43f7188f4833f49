//! The health port of a pod: what a kubelet and a scraper ask for. It is open to everybody who reaches the pod, so it tells
//! little and lets nobody choose what is asked of the app.

mod grpc;
mod probe;
#[cfg(test)]
mod tests;

use std::{
    collections::BTreeMap,
    net::{IpAddr, Ipv4Addr},
    sync::Arc,
};

use bytes::Bytes;
use http::{Response, StatusCode};
use http_body_util::Full;

pub use probe::InvalidProbe;
pub(crate) use probe::Question;

use crate::{
    admin,
    interception::Interception,
    small_http::{Answers, Ends, text},
    state::Shared,
    stop::Stop,
};

/// What to ask of the app, by path.
pub(crate) type Questions = BTreeMap<String, Question>;

/// Answers on the health port.
pub(crate) struct Health {
    pub(crate) shared: Arc<Shared>,
    pub(crate) stop: Stop,
    pub(crate) questions: Questions,
    pub(crate) interception: Interception,
}

impl Health {
    /// Where the app is asked: where the kubelet itself would have asked it, unless the sidecar listens there before it.
    fn app(&self, asked_at: IpAddr) -> IpAddr {
        match self.interception {
            Interception::Redirect => asked_at.to_canonical(),
            Interception::None | Interception::Proxy => Ipv4Addr::LOCALHOST.into(),
        }
    }
}

impl Answers for Health {
    async fn answer(&self, path: &str, ends: Ends) -> Response<Full<Bytes>> {
        match path {
            "/readyz" => admin::readiness(&self.shared, &self.stop),
            "/metrics" => admin::metrics(&self.shared),
            _ => match self.questions.get(path) {
                Some(question) => verdict(question.ask(self.app(ends.at.ip())).await),
                None => text(StatusCode::NOT_FOUND, "there are /readyz, /metrics and the probes of this pod\n"),
            },
        }
    }
}

/// The status alone: what the app said in its answer is nobody's business here.
fn verdict(is_good: bool) -> Response<Full<Bytes>> {
    if is_good { text(StatusCode::OK, "ok\n") } else { text(StatusCode::SERVICE_UNAVAILABLE, "the probe failed\n") }
}
