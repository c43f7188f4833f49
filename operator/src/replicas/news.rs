//! What the other side of a stream has not been told yet. Nothing is queued: what is told is what is true when there is room.

use std::collections::HashMap;
use std::sync::{Mutex, MutexGuard, PoisonError};

use control::pb::{self, replica_message::Kind};

use super::message;
use crate::acks::PodAcks;
use crate::audits::{Counts, Policies};

/// What one stream has told and heard.
#[derive(Debug, Default)]
pub(super) struct Told {
    /// By pod uid, what was said of it last.
    pods: Mutex<HashMap<String, PodAcks>>,
    /// By pod uid, the key that the other side knows.
    keys: Mutex<HashMap<String, Vec<u8>>>,
    delivered: Mutex<Option<String>>,
    /// What was said of policies in `Audit`.
    counts: Mutex<Counts>,
}

impl Told {
    /// Every pod of which something else is true than what was told.
    pub(super) fn pods(&self, now: HashMap<String, PodAcks>) -> Vec<pb::ReplicaMessage> {
        let mut told = lock(&self.pods);
        let gone = told.keys().filter(|uid| !now.contains_key(*uid)).map(|uid| report(uid, &PodAcks::default()));
        let other = now.iter().filter(|(uid, acks)| told.get(*uid) != Some(*acks)).map(|(uid, acks)| report(uid, acks));
        let news = gone.chain(other).map(|report| message(Kind::Pod(report))).collect();
        *told = now;
        news
    }

    /// Every key that the other side does not know.
    pub(super) fn keys(&self, now: Vec<pb::ClientKey>) -> Vec<pb::ReplicaMessage> {
        let mut told = lock(&self.keys);
        let mut known = HashMap::with_capacity(now.len());
        let mut news = Vec::new();
        for key in now {
            let is_known = told.get(&key.pod_uid) == Some(&key.jwk);
            known.insert(key.pod_uid.clone(), key.jwk.clone());
            if !is_known {
                news.push(message(Kind::Key(key)));
            }
        }
        *told = known;
        news
    }

    /// The digest of the keys that everyone has; empty for none.
    pub(super) fn delivered(&self, digest: String) -> Option<pb::ReplicaMessage> {
        let mut told = lock(&self.delivered);
        if told.as_ref() == Some(&digest) {
            return None;
        }
        *told = Some(digest.clone());
        Some(message(Kind::Delivered(pb::KeysDelivered { digest })))
    }

    /// All counts that are others than what was told, and what there is no more.
    pub(super) fn counts(&self, now: Counts) -> Vec<pb::ReplicaMessage> {
        let mut told = lock(&self.counts);
        let nothing = Policies::new();
        let mut news = Vec::new();
        let mut say = |uid: &str, counted| {
            let counted = pb::PodWouldRefuse { pod_uid: uid.to_owned(), counted: Some(counted) };
            news.push(message(Kind::WouldRefuse(counted)));
        };
        for (uid, before) in &*told {
            let now = now.get(uid).unwrap_or(&nothing);
            for policy in before.keys().filter(|policy| !now.contains_key(*policy)) {
                say(uid, pb::WouldRefuse { policy: policy.clone(), ..pb::WouldRefuse::default() });
            }
        }
        for (uid, now) in &now {
            let before = told.get(uid).unwrap_or(&nothing);
            for (_, counted) in now.iter().filter(|(policy, counted)| before.get(*policy) != Some(*counted)) {
                say(uid, counted.message());
            }
        }
        *told = now;
        news
    }

    /// The other side has told of this key.
    pub(super) fn heard(&self, key: &pb::ClientKey) {
        lock(&self.keys).insert(key.pod_uid.clone(), key.jwk.clone());
    }
}

/// What is said of a pod.
fn report(uid: &str, acks: &PodAcks) -> pb::PodReport {
    let (nacked, nack_reason) = acks.nacked.clone().unwrap_or_default();
    let acked = acks.acked.clone().unwrap_or_default();
    let (pod_uid, streams, revocation_epoch) = (uid.to_owned(), acks.streams, acks.revocations);
    pb::PodReport { pod_uid, streams, acked, nacked, nack_reason, revocation_epoch }
}

/// What was said of a pod.
pub(super) fn acks(report: pb::PodReport) -> PodAcks {
    let pb::PodReport { pod_uid: _, streams, acked, nacked, nack_reason, revocation_epoch } = report;
    PodAcks {
        streams,
        revocations: revocation_epoch,
        acked: Some(acked).filter(|version| !version.is_empty()),
        nacked: Some((nacked, nack_reason)).filter(|(version, _)| !version.is_empty()),
    }
}

fn lock<T>(what: &Mutex<T>) -> MutexGuard<'_, T> {
    // Replaced in one step, so another holder's panic leaves it good.
    what.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;
    use crate::audits::tests::counted;

    fn one(uid: &str, acks: PodAcks) -> HashMap<String, PodAcks> {
        HashMap::from([(uid.to_owned(), acks)])
    }

    #[test]
    fn what_is_so_is_told_once_and_what_is_gone_too() {
        let told = Told::default();
        let runs = PodAcks { streams: 1, acked: Some("v1".into()), ..PodAcks::default() };
        let refuses = PodAcks { nacked: Some(("v2".into(), "no".into())), revocations: 7, ..runs.clone() };
        for known in [runs, refuses] {
            let news = told.pods(one("p", known.clone()));
            let [pb::ReplicaMessage { kind: Some(Kind::Pod(said)) }] = news.as_slice() else { panic!("{news:?}") };
            assert_eq!((said.pod_uid.as_str(), acks(said.clone())), ("p", known.clone()));
            assert_eq!(told.pods(one("p", known)), Vec::new());
        }
        let news = told.pods(HashMap::new());
        let [pb::ReplicaMessage { kind: Some(Kind::Pod(said)) }] = news.as_slice() else { panic!("{news:?}") };
        assert_eq!((said.pod_uid.as_str(), acks(said.clone())), ("p", PodAcks::default()));
        assert_eq!(told.pods(HashMap::new()), Vec::new());
    }

    #[test]
    fn a_key_is_not_told_to_whom_it_was_heard_from() {
        let told = Told::default();
        let key = |uid: &str, jwk: &str| pb::ClientKey {
            pod_uid: uid.into(),
            jwk: jwk.as_bytes().to_vec(),
            ..pb::ClientKey::default()
        };
        told.heard(&key("a", "1"));
        assert_eq!(told.keys(vec![key("a", "1"), key("b", "1")]), [message(Kind::Key(key("b", "1")))]);
        assert_eq!(told.keys(vec![key("a", "2"), key("b", "1")]), [message(Kind::Key(key("a", "2")))]);
    }

    #[test]
    fn counts_are_told_once_and_that_there_are_none_any_more() {
        let told = Told::default();
        let counts = |policies: &[(&str, u64)]| {
            let of = |&(policy, count): &(&str, u64)| {
                let counted = counted(policy, crate::testing::NOW, &[("token_missing", "web/checkout", count)]);
                (policy.to_owned(), Arc::new(counted))
            };
            Counts::from([("p".to_owned(), policies.iter().map(of).collect())])
        };
        let said = |now: Counts| {
            let said = |message: pb::ReplicaMessage| match message.kind {
                Some(Kind::WouldRefuse(pb::PodWouldRefuse { pod_uid, counted: Some(counted) })) => {
                    assert_eq!(pod_uid, "p");
                    (counted.policy, counted.callers.first().map(|line| line.count))
                }
                other => panic!("{other:?}"),
            };
            told.counts(now).into_iter().map(said).collect::<Vec<_>>()
        };
        assert_eq!(
            said(counts(&[("bank/a", 1), ("bank/b", 1)])),
            [("bank/a".into(), Some(1)), ("bank/b".into(), Some(1))]
        );
        assert_eq!(said(counts(&[("bank/a", 1), ("bank/b", 2)])), [("bank/b".into(), Some(2))]);
        assert_eq!(said(counts(&[("bank/b", 2)])), [("bank/a".into(), None)]);
        assert_eq!(said(Counts::new()), [("bank/b".into(), None)]);
        assert_eq!(said(Counts::new()), []);
    }

    #[test]
    fn who_has_the_keys_is_told_at_once_and_on_change() {
        let told = Told::default();
        let said = |digest: &str| Some(message(Kind::Delivered(pb::KeysDelivered { digest: digest.into() })));
        assert_eq!(told.delivered(String::new()), said(""));
        assert_eq!(told.delivered(String::new()), None);
        assert_eq!(told.delivered("d".into()), said("d"));
    }
}
