//! What a workload token must look like to be worth a review. Nothing that it says is believed: it is read only so that what
//! no review would take costs none.

#[cfg(test)]
mod tests;

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use fapi::UnixTime;
use serde::Deserialize;

use super::TokenRefused;
use super::review::AUDIENCE;

/// A projected service account token has about 1,200 bytes.
const MAX_TOKEN: usize = 8192;
/// Seconds after `exp` in which an API server may still take a token: a minute, and its clock may be behind ours.
const EXP_LEEWAY: u64 = 120;

#[derive(Deserialize)]
struct Header {
    alg: String,
}

/// Of the claims of a projected service account token those that no token of a pod is without.
#[derive(Deserialize)]
struct Claims {
    aud: Audience,
    exp: u64,
    #[serde(rename = "kubernetes.io")]
    kubernetes: Kubernetes,
}

/// RFC 7519 section 4.1.3: one text, or a list.
#[derive(Deserialize)]
#[serde(untagged)]
enum Audience {
    One(String),
    Several(Vec<String>),
}

#[derive(Deserialize)]
struct Kubernetes {
    namespace: String,
    pod: Named,
    serviceaccount: Named,
}

#[derive(Deserialize)]
struct Named {
    name: String,
    uid: String,
}

/// Refuses what cannot be the token of a pod for the operator, or is over for long.
///
/// # Errors
/// [`TokenRefused::Malformed`], [`TokenRefused::Audience`] or [`TokenRefused::Expired`], in this order.
pub(super) fn check(token: &str, now: UnixTime) -> Result<(), TokenRefused> {
    if token.len() > MAX_TOKEN {
        return Err(TokenRefused::Malformed);
    }
    let (header, rest) = token.split_once('.').ok_or(TokenRefused::Malformed)?;
    let (claims, signature) = rest.split_once('.').ok_or(TokenRefused::Malformed)?;
    let signature = URL_SAFE_NO_PAD.decode(signature).map_err(|_| TokenRefused::Malformed)?;
    let Header { alg } = decode(header)?;
    let Claims { aud, exp, kubernetes: Kubernetes { namespace, pod, serviceaccount } } = decode(claims)?;
    let names = [namespace, pod.name, pod.uid, serviceaccount.name, serviceaccount.uid];
    if signature.is_empty() || alg.is_empty() || names.iter().any(String::is_empty) {
        return Err(TokenRefused::Malformed);
    }
    let is_ours = match aud {
        Audience::One(audience) => audience == AUDIENCE,
        Audience::Several(audiences) => audiences.iter().any(|audience| audience == AUDIENCE),
    };
    if !is_ours {
        return Err(TokenRefused::Audience);
    }
    if exp.saturating_add(EXP_LEEWAY) <= now.as_secs() { Err(TokenRefused::Expired) } else { Ok(()) }
}

/// A part of a compact JWT: strict base64url of a JSON object, whose members are given once.
pub(super) fn decode<T: for<'de> Deserialize<'de>>(part: &str) -> Result<T, TokenRefused> {
    let json = URL_SAFE_NO_PAD.decode(part).map_err(|_| TokenRefused::Malformed)?;
    serde_json::from_slice(&json).map_err(|_| TokenRefused::Malformed)
}
