//! What clients have given up (RFC 7009): single tokens, and beyond a share of the room everything that a client was issued so
//! far. Pure.
//!
//! Shares are counted by this process: after a restart, and at another operator, a client has its share once more. The room that
//! all have together bounds what becomes of that.

use std::collections::HashMap;

use fapi::{IssuedToken, Issuer, Revocation, Revoked, SpiffeId, UnixTime};

use super::RevocationsError;

/// Most tokens of one client that are revoked one by one.
pub(super) const OF_CLIENT: usize = 128;
/// The same of all clients of one namespace together. What clients revoke has room for some 5,000 in a Secret.
pub(super) const OF_NAMESPACE: usize = 512;
/// No token lives longer: the bound of `tokenLifetime`, and what verifiers grant beyond it.
const LONGEST_TOKEN: u64 = 12 * 3600 + LEEWAY;
/// Sidecars take a token for five seconds after its end.
const LEEWAY: u64 = 5;

/// A token that its client gives up.
#[derive(Clone, Debug)]
pub(crate) struct GivenUp {
    issuer: Issuer,
    client: SpiffeId,
    token: Revocation,
    issued: UnixTime,
}

/// Entries that come, and those that they stand for from then on.
#[derive(Debug, PartialEq)]
pub(super) struct Change {
    pub(super) add: Vec<Revocation>,
    pub(super) instead: Vec<Revocation>,
    /// Whether a client asks for it, and not a person.
    pub(super) by_client: bool,
}

/// What each client has given up that is in force. Whoever has given up nothing is not there.
#[derive(Default)]
pub(super) struct Ledger(HashMap<SpiffeId, Share>);

#[derive(Default)]
struct Share {
    /// Tokens that are revoked one by one.
    singles: Vec<GivenUp>,
    /// What stands for those of before.
    merged: Option<Revocation>,
}

impl GivenUp {
    /// A token of this issuer, which has issued it to this client. `None`: it has no id that could be named.
    pub(crate) fn new(issuer: &Issuer, client: &SpiffeId, token: &IssuedToken) -> Option<Self> {
        Self::of(issuer, client, token.id(), (token.issued(), token.expires()))
    }

    fn of(issuer: &Issuer, client: &SpiffeId, id: &str, (issued, expires): (UnixTime, UnixTime)) -> Option<Self> {
        let revoked = Revoked::Token { issuer: issuer.clone(), id: id.into() };
        let token = Revocation::new(revoked, None, expires.plus(LEEWAY)).ok()?;
        Some(Self { issuer: issuer.clone(), client: client.clone(), token, issued })
    }

    /// The last second at which anybody takes it.
    pub(crate) fn last(&self) -> UnixTime {
        self.token.expires().minus(1)
    }
}

impl Ledger {
    /// What to enter for this token. A client, or a namespace, that has used its share loses all that the client was issued before
    /// `now`: one entry says so, and stands for the single ones.
    ///
    /// # Errors
    /// Tokens of this very second cannot be told from those that will be issued in it: it must be asked again in the next one.
    pub(super) fn plan(&mut self, token: &GivenUp, now: UnixTime) -> Result<Change, RevocationsError> {
        self.0.retain(|_, share| share.lives(now));
        let share = self.0.get(&token.client);
        let singles = share.map_or(&[][..], |share| &share.singles);
        if singles.len() < OF_CLIENT && self.of_namespace(token.client.namespace()) < OF_NAMESPACE {
            return Ok(Change { add: vec![token.token.clone()], instead: Vec::new(), by_client: true });
        }
        if singles.iter().chain([token]).any(|single| now <= single.issued) {
            return Err(RevocationsError::TooMany);
        }
        // Nothing that it hits may come alive again.
        let instead: Vec<Revocation> = singles
            .iter()
            .map(|single| single.token.clone())
            .chain(share.and_then(|share| share.merged.clone()))
            .collect();
        let ends = instead.iter().chain([&token.token]).map(Revocation::expires);
        let ends = ends.fold(now.plus(LONGEST_TOKEN), UnixTime::max);
        Ok(Change {
            add: vec![Revocation::of_client(&token.issuer, &token.client, now, ends)],
            instead,
            by_client: true,
        })
    }

    /// What was planned for this token is in force.
    pub(super) fn done(&mut self, token: GivenUp, change: Change) {
        let is_single = change.add.contains(&token.token);
        let share = self.0.entry(token.client.clone()).or_default();
        if is_single {
            share.singles.push(token);
        } else {
            *share = Share { singles: Vec::new(), merged: change.add.into_iter().next() };
        }
    }

    fn of_namespace(&self, namespace: &str) -> usize {
        let theirs = self.0.iter().filter(|(client, _)| client.namespace() == namespace);
        theirs.map(|(_, share)| share.singles.len()).sum()
    }
}

impl Share {
    /// Forgets what has ended. True if something is left.
    fn lives(&mut self, now: UnixTime) -> bool {
        self.singles.retain(|single| now < single.token.expires());
        self.merged.take_if(|merged| merged.expires() <= now);
        self.merged.is_some() || !self.singles.is_empty()
    }
}

#[cfg(test)]
pub(crate) mod tests {
    #![allow(clippy::unwrap_used, reason = "a failed step fails the test")]

    use super::*;
    use crate::testing::{NOW, domain};

    /// A token that lives for an hour.
    pub(crate) fn given_up(client: &SpiffeId, id: &str, issued: UnixTime) -> GivenUp {
        let issuer = Issuer::parse("https://issuer.example").unwrap();
        GivenUp::of(&issuer, client, id, (issued, issued.plus(3600))).unwrap()
    }

    fn client(namespace: &str, account: &str) -> SpiffeId {
        SpiffeId::new(&domain(), namespace, account).unwrap()
    }

    /// What is in force after so many tokens of each of these clients, one in a second.
    fn after(clients: &[SpiffeId], each: u64) -> Vec<Revocation> {
        let (mut ledger, mut in_force) = (Ledger::default(), Vec::new());
        for second in 0..each {
            for client in clients {
                let token = given_up(client, &format!("{client}-{second}"), NOW.plus(second));
                let change = ledger.plan(&token, NOW.plus(second + 1)).unwrap();
                in_force.retain(|entry| !change.instead.contains(entry));
                in_force.extend(change.add.iter().cloned());
                ledger.done(token, change);
            }
        }
        in_force
    }

    #[test]
    fn a_client_has_a_bounded_number_of_entries_and_the_last_stands_for_those_before() {
        let shop = [client("bank", "shop")];
        assert_eq!(after(&shop, 128).len(), 128);
        assert_eq!(
            after(&shop, 129),
            [Revocation::of_client(
                &Issuer::parse("https://issuer.example").unwrap(),
                &shop[0],
                NOW.plus(129),
                NOW.plus(129 + 12 * 3600 + 5),
            )]
        );
        assert_eq!(after(&shop, 129 + 128).len(), 129, "what is issued later is given up one by one");
        assert_eq!(after(&shop, 2 * 129).len(), 1, "and the entry of before is in the new one");
        assert!((1..1000).step_by(37).all(|many| after(&shop, many).len() <= 129));
    }

    #[test]
    fn the_clients_of_a_namespace_have_a_share_together_and_leave_others_theirs() {
        let accounts: Vec<SpiffeId> = (0..40).map(|number| client("bank", &format!("a{number}"))).collect();
        let in_force = after(&accounts, 100);
        let singles = in_force.iter().filter(|entry| matches!(entry.revoked(), Revoked::Token { .. })).count();
        assert!(singles <= OF_NAMESPACE && in_force.len() <= OF_NAMESPACE + accounts.len(), "{}", in_force.len());
        let both = [accounts, vec![client("web", "checkout")]].concat();
        assert_eq!(after(&both, 100).len(), in_force.len() + 100);
    }

    #[test]
    fn what_was_issued_in_this_very_second_is_asked_for_again() {
        let (mut ledger, shop) = (Ledger::default(), client("bank", "shop"));
        let mut give_up = |id: &str, now| {
            let token = given_up(&shop, id, NOW);
            ledger.plan(&token, now).map(|change| ledger.done(token, change))
        };
        for number in 0..128 {
            give_up(&number.to_string(), NOW).unwrap();
        }
        assert!(matches!(give_up("one more", NOW), Err(RevocationsError::TooMany)));
        give_up("one more", NOW.plus(1)).unwrap();
    }

    #[test]
    fn what_has_ended_takes_no_share() {
        let (mut ledger, shop) = (Ledger::default(), client("bank", "shop"));
        for number in 0..128 {
            let token = given_up(&shop, &number.to_string(), NOW);
            let change = ledger.plan(&token, NOW).unwrap();
            ledger.done(token, change);
        }
        let later = NOW.plus(3605);
        let token = given_up(&shop, "later", later);
        assert_eq!(ledger.plan(&token, later).unwrap().add, [token.token]);
        assert!(ledger.0.is_empty());
    }
}
