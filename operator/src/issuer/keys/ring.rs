//! Which key signs, which comes next, and which must still be known. Pure: the time is an argument.

use std::sync::Arc;
use std::time::Duration;

use fapi::{SigningError, SigningKey, UnixTime};
use serde_json::{Value, json};

/// The longest that anybody may use a copy of the public keys.
const LONGEST_LEAD: Duration = Duration::from_secs(300);
/// Beyond the end of a key's last token: verifiers allow for clocks, and a token may be on its way.
const MARGIN: u64 = 60;
/// Verifiers read at most 64 keys; with more than this retired, the next rotation waits.
const MAX_RETIRED: usize = 32;

/// How often keys change.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Rotation {
    interval: Duration,
}

impl Rotation {
    /// What the flag says by default, a day: long enough to be quiet, short enough to be practised.
    #[cfg(test)]
    pub(crate) const DEFAULT: Duration = Duration::from_secs(24 * 3600);
    const SHORTEST: Duration = Duration::from_secs(2);

    /// A new key signs every `interval`, which is at least two seconds.
    pub(crate) fn every(interval: Duration) -> Self {
        Self { interval: interval.max(Self::SHORTEST) }
    }

    pub(super) fn interval(&self) -> Duration {
        self.interval
    }

    /// How long a key is published, at least, before it signs.
    pub(super) fn lead(&self) -> Duration {
        (self.interval / 2).min(LONGEST_LEAD)
    }
}

/// All keys: always one that signs and one that is next.
#[derive(Clone, Debug)]
pub(super) struct Ring {
    pub(super) signing: Signing,
    pub(super) next: Next,
    pub(super) retired: Vec<Retired>,
}

#[derive(Clone, Debug)]
pub(super) struct Signing {
    pub(super) key: Arc<SigningKey>,
    pub(super) since: UnixTime,
    /// The longest life that a token of this key was given, in seconds.
    pub(super) longest: u64,
}

#[derive(Clone, Debug)]
pub(super) struct Next {
    pub(super) key: Arc<SigningKey>,
    pub(super) published: UnixTime,
}

#[derive(Clone, Debug)]
pub(super) struct Retired {
    pub(super) key: Arc<SigningKey>,
    /// When its last token has ended.
    pub(super) until: UnixTime,
}

impl Ring {
    /// The first ring of a mesh. Nobody holds keys yet, so the first one signs at once.
    pub(super) fn first(now: UnixTime) -> Result<Self, SigningError> {
        let key = Arc::new(SigningKey::generate()?);
        Ok(Self { signing: Signing { key, since: now, longest: 0 }, next: Next::generate(now)?, retired: Vec::new() })
    }

    /// The key that signs now.
    pub(super) fn signer(&self) -> Arc<SigningKey> {
        self.signing.key.clone()
    }

    /// How many keys are published.
    pub(super) fn len(&self) -> usize {
        2 + self.retired.len()
    }

    /// The ring that remembers that a token of this `lifetime` is signed; `None` if it does.
    pub(super) fn covering(&self, lifetime: Duration) -> Option<Self> {
        let lifetime = lifetime.as_secs();
        (lifetime > self.signing.longest).then(|| {
            let mut longer = self.clone();
            longer.signing.longest = lifetime;
            longer
        })
    }

    /// The ring after what is due at `now`; `None` if nothing is. The next key signs only once an interval is over,
    /// it was published for the lead, and `all_have` says that everyone connected was sent it.
    pub(super) fn step(
        &self,
        now: UnixTime,
        rotation: &Rotation,
        all_have: bool,
    ) -> Result<Option<Self>, SigningError> {
        let mut ring = self.clone();
        ring.retired.retain(|retired| now < retired.until);
        let old_enough = now >= self.signing.since.plus(rotation.interval.as_secs())
            && now >= self.next.published.plus(rotation.lead().as_secs());
        if old_enough && all_have && ring.retired.len() < MAX_RETIRED {
            let until = now.plus(self.signing.longest).plus(MARGIN);
            ring.retired.push(Retired { key: self.signer(), until });
            ring.signing = Signing { key: self.next.key.clone(), since: now, longest: 0 };
            ring.next = Next::generate(now)?;
            return Ok(Some(ring));
        }
        Ok((ring.retired.len() < self.retired.len()).then_some(ring))
    }

    /// The public keys as a JWK Set.
    pub(super) fn jwks(&self) -> Vec<u8> {
        let retired = self.retired.iter().map(|retired| &retired.key);
        let keys: Vec<Value> =
            [&self.signing.key, &self.next.key].into_iter().chain(retired).map(|key| jwk(key)).collect();
        json!({ "keys": keys }).to_string().into_bytes()
    }
}

impl Next {
    fn generate(now: UnixTime) -> Result<Self, SigningError> {
        Ok(Self { key: Arc::new(SigningKey::generate()?), published: now })
    }
}

fn jwk(key: &SigningKey) -> Value {
    let mut jwk = key.public_jwk();
    if let Some(members) = jwk.as_object_mut() {
        members.insert("kid".to_owned(), key.kid().into());
        members.insert("use".to_owned(), "sig".into());
        members.insert("alg".to_owned(), "ES256".into());
    }
    jwk
}
