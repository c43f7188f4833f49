//! Workload tokens where there is no Kubernetes: the operator makes them itself, with the claims of a projected
//! service account token, and reviews them as the API server would.

use std::path::{Path, PathBuf};

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use fapi::{SigningError, SigningKey, UnixTime};
use serde::{Deserialize, Serialize};

use super::review::{AUDIENCE, Review};
use super::shape::decode;
use super::{Reviewed, TokenRefused, TokenReview};
use crate::clock::Clock;
use crate::crypto;
use crate::files::{self, FileError, PRIVATE};
use crate::model::Pod;

const ISSUER: &str = "https://directory.fapi-mesh.invalid";
const TYP: &str = "JWT";
/// As long as a projected token of this kind lives at most in a cluster.
pub(super) const LIFETIME: u64 = 600;
/// Tokens are made and reviewed by one clock, but not across a restart.
const FUTURE: u64 = 10;
const USER: &str = "system:serviceaccount";

/// Makes and reviews the tokens of directory mode.
pub(crate) struct DirectoryTokens {
    key: SigningKey,
    point: Vec<u8>,
    clock: Clock,
}

/// Why the tokens' key cannot be used.
#[derive(Debug, thiserror::Error)]
pub(crate) enum TokenKeyError {
    /// The file cannot be read or written, or is open to others.
    #[error(transparent)]
    File(#[from] FileError),
    /// The file holds something else.
    #[error("{} is no P-256 private key in PKCS#8: remove it; a new one is made and all token files are rewritten", path.display())]
    Damaged {
        /// The file.
        path: PathBuf,
    },
    /// The crypto library refused.
    #[error("cannot make a key for workload tokens: {0}")]
    Signing(#[from] SigningError),
}

impl DirectoryTokens {
    /// Takes the key of `state`, or makes one. It is kept so that tokens survive a restart of the operator;
    /// nothing outside this process trusts it, so a lost one is simply made anew.
    pub(crate) fn open(state: &Path, clock: Clock) -> Result<Self, TokenKeyError> {
        let path = state.join("enrolment.key");
        let key = match files::read_private(&path) {
            Ok(der) => SigningKey::from_pkcs8_der(&der).map_err(|_| TokenKeyError::Damaged { path })?,
            Err(error) if error.is_missing() => {
                let key = SigningKey::generate()?;
                files::replace(&path, key.to_pkcs8_der()?.as_ref(), PRIVATE)?;
                key
            }
            Err(error) => return Err(error.into()),
        };
        let point = point(&key).ok_or(SigningError::NotAKey)?;
        Ok(Self { key, point, clock })
    }

    /// A token for a pod, good for ten minutes.
    pub(crate) fn mint(&self, pod: &Pod) -> Result<String, SigningError> {
        self.key.sign_jwt(TYP, &Claims::of(pod, self.clock.now()))
    }

    fn check(&self, token: &str, now: UnixTime) -> Result<Reviewed, TokenRefused> {
        let (signed, signature) = token.rsplit_once('.').ok_or(TokenRefused::Malformed)?;
        let (header, payload) = signed.split_once('.').ok_or(TokenRefused::Malformed)?;
        let header: Header = decode(header)?;
        let signature = URL_SAFE_NO_PAD.decode(signature).map_err(|_| TokenRefused::Malformed)?;
        if header.typ != TYP || header.alg != "ES256" {
            return Err(TokenRefused::Malformed);
        }
        if header.kid != self.key.kid() || !crypto::verify_es256(&self.point, signed.as_bytes(), &signature) {
            return Err(TokenRefused::Signature);
        }
        decode::<Claims>(payload)?.review(now)
    }
}

impl TokenReview for DirectoryTokens {
    fn review<'a>(&'a self, token: &'a str) -> Review<'a> {
        Box::pin(std::future::ready(self.check(token, self.clock.now())))
    }
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Header {
    alg: String,
    kid: String,
    typ: String,
}

/// The claims of a projected service account token.
#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Claims {
    iss: String,
    aud: Vec<String>,
    sub: String,
    iat: u64,
    nbf: u64,
    exp: u64,
    #[serde(rename = "kubernetes.io")]
    kubernetes: Kubernetes,
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Kubernetes {
    namespace: String,
    pod: Named,
    serviceaccount: Named,
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Named {
    name: String,
    uid: String,
}

impl Claims {
    fn of(pod: &Pod, now: UnixTime) -> Self {
        let Pod { uid, name, namespace, service_account, .. } = pod;
        let account = format!("{namespace}:{service_account}");
        Self {
            iss: ISSUER.to_owned(),
            aud: vec![AUDIENCE.to_owned()],
            sub: format!("{USER}:{account}"),
            iat: now.as_secs(),
            nbf: now.as_secs(),
            exp: now.plus(LIFETIME).as_secs(),
            kubernetes: Kubernetes {
                namespace: namespace.clone(),
                pod: Named { name: name.clone(), uid: uid.clone() },
                // A folder has no service account objects, so the name stands for the uid.
                serviceaccount: Named { name: service_account.clone(), uid: account },
            },
        }
    }

    fn review(self, now: UnixTime) -> Result<Reviewed, TokenRefused> {
        if self.iss != ISSUER || self.aud != [AUDIENCE] {
            return Err(TokenRefused::Audience);
        }
        let now = now.as_secs();
        if self.exp <= now || self.nbf > now.saturating_add(FUTURE) || self.iat > now.saturating_add(FUTURE) {
            return Err(TokenRefused::Expired);
        }
        let Kubernetes { namespace, pod, serviceaccount } = self.kubernetes;
        if self.sub != format!("{USER}:{namespace}:{}", serviceaccount.name) {
            return Err(TokenRefused::Malformed);
        }
        Ok(Reviewed {
            namespace,
            service_account: serviceaccount.name,
            pod_name: pod.name,
            pod_uid: pod.uid,
            node: None,
        })
    }
}

/// The key's uncompressed point (SEC 1, section 2.3.3).
fn point(key: &SigningKey) -> Option<Vec<u8>> {
    let jwk = key.public_jwk();
    let mut point = vec![4];
    for coordinate in ["x", "y"] {
        point.extend(URL_SAFE_NO_PAD.decode(jwk.get(coordinate)?.as_str()?).ok()?);
    }
    Some(point)
}
