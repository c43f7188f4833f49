//! AdmissionReview (`admission.k8s.io/v1`): what an API server asks, and what it is told.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use serde::{Deserialize, Serialize};
use serde_json::{Value as Json, json};

use crate::inject::Operation;

const API_VERSION: &str = "admission.k8s.io/v1";
const KIND: &str = "AdmissionReview";

/// A question.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Request {
    /// Told back with the answer.
    pub(super) uid: String,
    /// The namespace of the object; empty for what has none.
    #[serde(default)]
    pub(super) namespace: String,
    /// The object as it would be; null when it would be gone.
    #[serde(default)]
    pub(super) object: Json,
    /// The object as it is; null when it would be new.
    #[serde(default)]
    pub(super) old_object: Json,
    /// Whether nothing will come of it.
    #[serde(default)]
    pub(super) dry_run: bool,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Review {
    api_version: String,
    kind: String,
    request: Option<Request>,
}

/// Reads a question; the error says what is wrong with it.
pub(super) fn read(body: &[u8]) -> Result<Request, String> {
    let review: Review = serde_json::from_slice(body).map_err(|error| error.to_string())?;
    if (review.api_version.as_str(), review.kind.as_str()) != (API_VERSION, KIND) {
        return Err(format!("want {KIND} of {API_VERSION}, found {} of {}", review.kind, review.api_version));
    }
    review.request.ok_or_else(|| "the review has no request".to_owned())
}

/// What becomes of an object.
#[derive(Debug, PartialEq)]
pub(super) enum Verdict {
    /// It passes, changed or not.
    Allowed {
        /// Steps of a JSON Patch; none: it passes as it is.
        patch: Vec<Operation>,
        /// What its author is told all the same.
        warnings: Vec<String>,
    },
    /// It does not.
    Denied {
        /// Why, and what to do.
        message: String,
    },
    /// Nobody can say now; whoever asked tries again.
    Unavailable {
        /// Why.
        message: String,
    },
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Response<'a> {
    uid: &'a str,
    allowed: bool,
    #[serde(skip_serializing_if = "Option::is_none")]
    status: Option<Json>,
    #[serde(skip_serializing_if = "Option::is_none")]
    patch_type: Option<&'static str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    patch: Option<String>,
    #[serde(skip_serializing_if = "<[String]>::is_empty")]
    warnings: &'a [String],
}

impl Verdict {
    pub(super) const PASSED: Self = Self::Allowed { patch: Vec::new(), warnings: Vec::new() };

    /// The answer to a question.
    pub(super) fn answer(&self, uid: &str) -> String {
        let status = |code: u16, reason: &str, message: &str| {
            Some(json!({"status": "Failure", "code": code, "reason": reason, "message": message}))
        };
        let mut response = Response { uid, allowed: false, status: None, patch_type: None, patch: None, warnings: &[] };
        match self {
            Self::Allowed { patch, warnings } => {
                (response.allowed, response.warnings) = (true, warnings);
                if !patch.is_empty() {
                    response.patch_type = Some("JSONPatch");
                    response.patch = Some(STANDARD.encode(json!(patch).to_string()));
                }
            }
            Self::Denied { message } => response.status = status(403, "Forbidden", message),
            Self::Unavailable { message } => response.status = status(503, "ServiceUnavailable", message),
        }
        json!({"apiVersion": API_VERSION, "kind": KIND, "response": response}).to_string()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_reviews_are_read() {
        let good = json!({"apiVersion": API_VERSION, "kind": KIND, "request": {"uid": "u", "newField": 1}});
        let read = read(good.to_string().as_bytes()).unwrap();
        assert_eq!((read.uid.as_str(), read.dry_run), ("u", false));
        for bad in [
            json!({"apiVersion": "admission.k8s.io/v1beta1", "kind": KIND, "request": {"uid": "u"}}),
            json!({"apiVersion": API_VERSION, "kind": KIND}),
            json!({"apiVersion": API_VERSION, "kind": KIND, "request": {}}),
            json!([]),
        ] {
            assert!(super::read(bad.to_string().as_bytes()).is_err(), "{bad}");
        }
    }

    #[test]
    fn a_patch_is_base64_and_a_refusal_has_a_status() {
        let patch = vec![Operation::Remove { path: "/a".to_owned() }];
        let answer = Verdict::Allowed { patch, warnings: vec!["w".to_owned()] }.answer("u");
        let answer: Json = serde_json::from_str(&answer).unwrap();
        let response = &answer["response"];
        assert_eq!((&response["uid"], &response["allowed"]), (&json!("u"), &json!(true)));
        let patch = STANDARD.decode(response["patch"].as_str().unwrap()).unwrap();
        assert_eq!(patch, br#"[{"op":"remove","path":"/a"}]"#);
        let answer: Json = serde_json::from_str(&Verdict::Denied { message: "no".to_owned() }.answer("u")).unwrap();
        assert_eq!(answer["response"]["allowed"], false);
        assert_eq!(answer["response"]["status"]["message"], "no");
    }
}
