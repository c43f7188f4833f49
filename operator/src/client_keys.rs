//! Public keys of clients whose sidecars sign their assertions (RFC 7523): reported by each sidecar on its stream, and
//! published for the authorization servers that verify them.
//!
//! Nothing of it is stored: a sidecar says it again on every stream, and makes another key when it starts anew. Replicas tell
//! each other; of two keys of a pod the one counts that was reported later.

use std::collections::{BTreeMap, HashMap};
use std::sync::{Arc, Mutex, PoisonError};

use control::pb;
use fapi::{KeySet, SpiffeId, UnixTime};
use serde::{Deserialize, Serialize};
use serde_json::json;
use tokio::sync::watch;

use crate::model::Pod;
use crate::view::View;

/// Keys of one service account; a key set of so many has 50 KB. The pods beyond it are not published.
const MAX_KEYS: usize = 256;
const MAX_BYTES: usize = 1024;
/// Another replica may tell of a pod that this one has not heard of yet, seconds.
const UNHEARD_OF: u64 = 60;

/// The keys of all sidecars.
#[derive(Default)]
pub(crate) struct ClientKeys {
    accounts: Mutex<HashMap<Account, BTreeMap<String, Reported>>>,
    changed: watch::Sender<()>,
}

/// What keys are judged by: a pod that is gone or revoked has none.
#[derive(Clone, Copy)]
pub(crate) struct Standing<'a> {
    pub(crate) view: &'a View,
    pub(crate) revoked: &'a fapi::Revocations,
    pub(crate) now: UnixTime,
}

/// Namespace and service account.
type Account = (String, String);

/// The key of one pod.
#[derive(Clone)]
struct Reported {
    jwk: Jwk,
    set: Arc<KeySet>,
    at: UnixTime,
}

/// What a sidecar makes: a key for ES256, with its id.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Jwk {
    kty: String,
    crv: String,
    x: String,
    y: String,
    kid: String,
}

impl ClientKeys {
    /// Takes the key that the sidecar of `pod` reports, a JWK, in place of the one before.
    ///
    /// # Errors
    /// Why it is not taken.
    pub(crate) fn report(&self, view: &View, pod: &Pod, jwk: &[u8], now: UnixTime) -> Result<(), &'static str> {
        self.put(view, (pod.namespace.clone(), pod.service_account.clone()), &pod.uid, jwk, (now, now))
    }

    /// Takes a key that another replica was told of, unless a later one is known.
    ///
    /// # Errors
    /// Why it is not taken.
    pub(crate) fn take(&self, view: &View, key: &pb::ClientKey, now: UnixTime) -> Result<(), &'static str> {
        // A clock that is ahead must not keep later keys out.
        let at = UnixTime::from_secs(key.reported).min(now);
        let account = (key.namespace.clone(), key.service_account.clone());
        self.put(view, account, &key.pod_uid, &key.jwk, (at, now))
    }

    fn put(
        &self,
        view: &View,
        account: Account,
        uid: &str,
        jwk: &[u8],
        (at, now): (UnixTime, UnixTime),
    ) -> Result<(), &'static str> {
        const NO_KEY: &str = "it is no public JWK with kid for ES256";
        let jwk = Some(jwk).filter(|jwk| jwk.len() <= MAX_BYTES).and_then(|jwk| serde_json::from_slice(jwk).ok());
        let jwk: Jwk = jwk.ok_or(NO_KEY)?;
        let set = KeySet::from_jwks_json(json!({ "keys": [jwk] }).to_string().as_bytes()).map_err(|_| NO_KEY)?;
        if set.is_empty() {
            return Err(NO_KEY);
        }
        let mut all = self.accounts.lock().unwrap_or_else(PoisonError::into_inner);
        let stays = |uid: &str, key: &Reported| view.pod(uid).is_some() || now < key.at.plus(UNHEARD_OF);
        let keys = all.entry(account).or_default();
        keys.retain(|uid, key| stays(uid, key));
        if keys.len() >= MAX_KEYS && !keys.contains_key(uid) {
            return Err("its service account has 256 keys already");
        }
        let known = keys.get(uid).map(|known| ((known.at, known.jwk.kid.as_str()), known.jwk == jwk));
        // Every replica decides alike, whatever comes first.
        if known.is_some_and(|(known, _)| known >= (at, jwk.kid.as_str())) {
            return Ok(());
        }
        let is_same = known.is_some_and(|(_, is_same)| is_same);
        keys.insert(uid.to_owned(), Reported { jwk, set: Arc::new(set), at });
        all.retain(|_, keys| keys.iter().any(|(uid, key)| stays(uid, key)));
        drop(all);
        if !is_same {
            self.changed.send_replace(());
        }
        Ok(())
    }

    /// All keys, as replicas tell them to each other.
    pub(crate) fn all(&self) -> Vec<pb::ClientKey> {
        let all = self.accounts.lock().unwrap_or_else(PoisonError::into_inner);
        let of_account = |((namespace, account), keys): (&Account, &BTreeMap<String, Reported>)| {
            let key = |(uid, key): (&String, &Reported)| pb::ClientKey {
                pod_uid: uid.clone(),
                namespace: namespace.clone(),
                service_account: account.clone(),
                // It was read from JSON.
                jwk: serde_json::to_vec(&key.jwk).unwrap_or_default(),
                reported: key.at.as_secs(),
            };
            keys.iter().map(key).collect::<Vec<_>>()
        };
        all.iter().flat_map(of_account).collect()
    }

    /// Tells of every new key.
    pub(crate) fn subscribe(&self) -> watch::Receiver<()> {
        self.changed.subscribe()
    }

    /// The keys of the sidecars of a client, if it signs: for verifying.
    pub(crate) fn of(&self, standing: Standing<'_>, client: &SpiffeId) -> Vec<Arc<KeySet>> {
        let reported = self.reported(standing, client);
        reported.unwrap_or_default().into_iter().map(|reported| reported.set).collect()
    }

    /// The same as a JWK Set, to be published; `None` for whoever does not sign.
    pub(crate) fn published(&self, standing: Standing<'_>, client: &SpiffeId) -> Option<String> {
        let keys: Vec<Jwk> = self.reported(standing, client)?.into_iter().map(|reported| reported.jwk).collect();
        Some(json!({ "keys": keys }).to_string())
    }

    /// Of the pods that are still there and not revoked, in a stable order. Which those are each replica knows itself, so to
    /// each other they tell all.
    fn reported(&self, standing: Standing<'_>, client: &SpiffeId) -> Option<Vec<Reported>> {
        let Standing { view, revoked, now } = standing;
        let (namespace, account) = (client.namespace(), client.service_account());
        if client.trust_domain() != view.trust_domain().as_str() || !view.signs(namespace, account) {
            return None;
        }
        let all = self.accounts.lock().unwrap_or_else(PoisonError::into_inner);
        let keys = all.get(&(namespace.to_owned(), account.to_owned()));
        let stands = |uid: &str| view.pod(uid).is_some() && !revoked.hit_workload(client, Some(uid), now, now);
        let good = keys.into_iter().flatten().filter(|(uid, _)| stands(uid));
        Some(good.map(|(_, reported)| reported.clone()).collect())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::{Client, Key, Seniority};
    use crate::testing::bank::{bank, client_of, pod, view};
    use crate::testing::{NOW, id};

    fn jwk() -> String {
        let key = fapi::SigningKey::generate().unwrap();
        let mut jwk = key.public_jwk();
        jwk["kid"] = key.kid().into();
        jwk.to_string()
    }

    /// The bank, whose `shop` signs or does not.
    fn mesh(signs: bool) -> View {
        let mut model = bank();
        let mut spec = client_of("shop", Vec::new());
        if signs {
            spec.authentication = control::ClientAuthentication::PrivateKeyJwt;
        }
        let seniority = Seniority { created: 0, key: Key::new("bank", "shop") };
        model.clients.insert(seniority.key.clone(), Client { seniority, generation: 1, spec: Some(spec), fault: None });
        let second = pod("bank", "shop-2", "shop");
        model.pods.insert(second.uid.clone(), second);
        view(model)
    }

    fn count(keys: &ClientKeys, view: &View) -> Option<usize> {
        let revoked = fapi::Revocations::none();
        let set = keys.published(Standing { view, revoked: &revoked, now: NOW }, &id("shop"))?;
        Some(serde_json::from_str::<serde_json::Value>(&set).unwrap()["keys"].as_array().unwrap().len())
    }

    #[test]
    fn the_keys_of_a_client_are_those_of_its_living_pods() {
        let (keys, view) = (ClientKeys::default(), mesh(true));
        assert_eq!(count(&keys, &view), Some(0));
        for uid in ["uid-of-bank-shop-1", "uid-of-bank-shop-2", "uid-of-bank-shop-2"] {
            keys.report(&view, view.pod(uid).unwrap(), jwk().as_bytes(), NOW).unwrap();
        }
        let revoked = fapi::Revocations::none();
        let of = |view: &View| keys.of(Standing { view, revoked: &revoked, now: NOW }, &id("shop")).len();
        assert_eq!((count(&keys, &view), of(&view)), (Some(2), 2), "one of each pod");
        let standing = Standing { view: &view, revoked: &revoked, now: NOW };
        assert_eq!(keys.published(standing, &id("ledger")), None, "it does not sign");
        let silent = mesh(false);
        assert_eq!((count(&keys, &silent), of(&silent)), (None, 0));
        let mut model = view.index().model().clone();
        model.pods.remove("uid-of-bank-shop-2");
        assert_eq!(count(&keys, &crate::testing::bank::view(model)), Some(1));
    }

    #[test]
    fn only_public_keys_are_taken_and_not_too_many() {
        let (keys, view) = (ClientKeys::default(), mesh(true));
        let own = view.pod("uid-of-bank-shop-1").unwrap();
        let good = jwk();
        for bad in [
            String::new(),
            "{}".to_owned(),
            good.replace("\"kty\"", "\"d\":\"AAAA\",\"kty\""),
            good.replace("P-256", "P-384"),
            good.replace("kid", "id"),
            format!("{}{good}", " ".repeat(2000)),
        ] {
            assert!(keys.report(&view, own, bad.as_bytes(), NOW).is_err(), "{bad}");
        }
        let mut model = view.index().model().clone();
        for number in 0..=MAX_KEYS {
            let pod = pod("bank", &format!("more-{number}"), "shop");
            model.pods.insert(pod.uid.clone(), pod);
        }
        let view = crate::testing::bank::view(model);
        let more: Vec<_> = view.pods().filter(|pod| pod.name.starts_with("more-")).collect();
        let taken = more.iter().filter(|pod| keys.report(&view, pod, good.as_bytes(), NOW).is_ok()).count();
        assert_eq!((more.len(), taken), (MAX_KEYS + 1, MAX_KEYS));
    }

    #[test]
    fn replicas_agree_on_the_later_key_whatever_they_hear_first() {
        let (view, uid) = (mesh(true), "uid-of-bank-shop-1");
        let (first, second) = (jwk(), jwk());
        let one = ClientKeys::default();
        one.report(&view, view.pod(uid).unwrap(), first.as_bytes(), NOW).unwrap();
        let of_first = one.all().remove(0);
        let other = ClientKeys::default();
        other.report(&view, view.pod(uid).unwrap(), second.as_bytes(), NOW.plus(5)).unwrap();
        let of_second = other.all().remove(0);
        let heard = one.subscribe();
        let now = NOW.plus(10);
        one.take(&view, &of_second, now).unwrap();
        assert!(heard.has_changed().unwrap());
        other.take(&view, &of_first, now).unwrap();
        assert_eq!((one.all(), other.all()), (vec![of_second.clone()], vec![of_second.clone()]));
        // Said again, it is no news, and a clock that is ahead keeps nothing out.
        let ahead = pb::ClientKey { reported: now.as_secs() + 3600, ..of_first };
        let third = ClientKeys::default();
        third.take(&view, &ahead, now).unwrap();
        let heard = third.subscribe();
        third.take(&view, &ahead, now).unwrap();
        assert!(!heard.has_changed().unwrap());
        third.report(&view, view.pod(uid).unwrap(), second.as_bytes(), now.plus(1)).unwrap();
        assert_eq!(third.all()[0].jwk, of_second.jwk);
    }

    #[test]
    fn a_key_may_come_before_its_pod_is_heard_of_and_does_not_wait_for_ever() {
        let (view, keys) = (mesh(true), ClientKeys::default());
        let key = |uid: &str| pb::ClientKey {
            pod_uid: uid.to_owned(),
            namespace: "bank".to_owned(),
            service_account: "shop".to_owned(),
            jwk: jwk().into_bytes(),
            reported: NOW.as_secs(),
        };
        keys.take(&view, &key("uid-of-bank-shop-3"), NOW).unwrap();
        assert_eq!((count(&keys, &view), keys.all().len()), (Some(0), 1), "it does not count yet");
        let mut model = view.index().model().clone();
        let third = pod("bank", "shop-3", "shop");
        model.pods.insert(third.uid.clone(), third);
        assert_eq!(count(&keys, &crate::testing::bank::view(model)), Some(1));
        keys.take(&view, &key("uid-of-bank-shop-1"), NOW.plus(UNHEARD_OF)).unwrap();
        assert_eq!(keys.all().len(), 1);
    }
}
