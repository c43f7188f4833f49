//! Probes, metrics and the applied configuration.

use std::sync::Arc;

use bytes::Bytes;
use fapi::CertThumbprint;
use http::{HeaderValue, Response, StatusCode};
use http_body_util::Full;
use serde_json::json;

use crate::{
    small_http::{Answers, Asked, Silence, respond, text},
    state::Shared,
    stop::Stop,
};

const METRICS: HeaderValue = HeaderValue::from_static("text/plain; version=0.0.4; charset=utf-8");
const JSON: HeaderValue = HeaderValue::from_static("application/json");

/// Answers on the admin address.
pub(crate) struct Admin {
    pub(crate) shared: Arc<Shared>,
    pub(crate) stop: Stop,
}

impl Answers for Admin {
    async fn answer(&self, asked: Asked<'_>) -> Result<Response<Full<Bytes>>, Silence> {
        let Self { shared, stop } = self;
        Ok(match asked.path {
            "/livez" => text(StatusCode::OK, "ok\n"),
            "/readyz" => readiness(shared, stop),
            "/metrics" => metrics(shared),
            "/config" if asked.from.ip().to_canonical().is_loopback() => respond(StatusCode::OK, JSON, config(shared)),
            "/config" => text(StatusCode::FORBIDDEN, "only for callers on this machine\n"),
            _ => text(StatusCode::NOT_FOUND, "there are /livez, /readyz, /metrics and /config\n"),
        })
    }
}

/// Whether calls can be served.
pub(crate) fn readiness(shared: &Shared, stop: &Stop) -> Response<Full<Bytes>> {
    let unready = if stop.is_stopped() { Some("ending".to_owned()) } else { shared.unready() };
    match unready {
        None => text(StatusCode::OK, "ok\n"),
        Some(why) => text(StatusCode::SERVICE_UNAVAILABLE, why + "\n"),
    }
}

/// All metrics.
pub(crate) fn metrics(shared: &Shared) -> Response<Full<Bytes>> {
    respond(StatusCode::OK, METRICS, shared.render_metrics())
}

/// What is in force. Neither a snapshot nor a certificate holds a secret.
fn config(shared: &Shared) -> String {
    let applied = shared.applied();
    let identity = shared.identity();
    let config = json!({
        "version": control::VERSION,
        "snapshotVersion": applied.as_ref().map(|applied| &*applied.version),
        "snapshotOrder": applied.as_ref().map(|applied| applied.order.number),
        "revocationEpoch": shared.revocation_epoch(),
        "snapshot": applied.as_ref().map(|applied| &applied.snapshot),
        "certificate": identity.as_ref().map(|generation| json!({
            "spiffeId": generation.spiffe_id.as_str(),
            "x5t#S256": generation.identity.leaf().map(|leaf| CertThumbprint::of_der(leaf).to_string()),
            "notAfter": generation.not_after.as_secs(),
        })),
    });
    format!("{config:#}\n")
}
