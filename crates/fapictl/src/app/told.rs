//! What an app is told about its caller, and what somebody may have tried to tell it.

use http::HeaderMap;
use serde_json::{Value, json};

/// Header names, besides `x-fapi-…`, that programs take for identity or credentials.
const TELLING: [&str; 8] = [
    "authorization",
    "dpop",
    "x-forwarded-client-cert",
    "x-client-cert",
    "client-cert",
    "x-original-url",
    "x-rewrite-url",
    "x-http-method-override",
];

/// The identity that stands in `headers`, and every header and trailer that could pass for one. Names are
/// compared as careless frameworks do it: any case, `_` as `-`.
pub(crate) fn told(headers: &HeaderMap, trailers: Option<&HeaderMap>) -> Value {
    let text = |name: &str| headers.get(name).and_then(|value| value.to_str().ok());
    let all = headers.iter().chain(trailers.into_iter().flatten());
    let telling: Vec<Value> = all
        .filter(|(name, _)| is_telling(name.as_str()))
        .map(|(name, value)| json!([name.as_str(), String::from_utf8_lossy(value.as_bytes())]))
        .collect();
    json!({
        "caller": text("x-fapi-caller"),
        "client_id": text("x-fapi-client-id"),
        "subject": text("x-fapi-subject"),
        "interaction_id": text("x-fapi-interaction-id"),
        "telling": telling,
        "trailers": trailers.map_or(0, HeaderMap::len),
    })
}

fn is_telling(name: &str) -> bool {
    let plain = name.to_ascii_lowercase().replace('_', "-");
    plain.starts_with("x-fapi-") || TELLING.contains(&plain.as_str())
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a failed test may panic")]

    use super::*;

    #[test]
    fn sees_every_spelling_also_in_trailers() {
        let mut headers = HeaderMap::new();
        headers.insert("x-fapi-caller", "a".parse().unwrap());
        headers.insert("x_fapi_caller", "b".parse().unwrap());
        headers.insert("accept", "c".parse().unwrap());
        let mut trailers = HeaderMap::new();
        trailers.insert("x-fapi_client-id", "d".parse().unwrap());
        let told = told(&headers, Some(&trailers));
        assert_eq!(told["caller"], "a");
        assert_eq!(told["telling"].as_array().unwrap().len(), 3);
        assert_eq!(told["trailers"], 1);
    }
}
