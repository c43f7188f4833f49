use std::{
    collections::{HashMap, HashSet},
    ops::RangeInclusive,
};

use http::Method;

use crate::{
    challenge::Needed,
    path::{as_ruled, without_end_slash},
    rejection::Rejection,
    value::{AuthorizationDetails, ScopeSet, SpiffeId, TrustDomain},
};

/// Compiled rules, found by the path that governs. The number of rules does not matter to a lookup.
#[derive(Debug, Default)]
pub(super) struct Rules {
    rules: Vec<Rule>,
    exact: HashMap<Box<str>, Vec<usize>>,
    prefixes: HashMap<Box<str>, Vec<usize>>,
    any_path: Vec<usize>,
    /// Segments of the longest prefix, so that a long path costs no more than this many lookups.
    deepest: usize,
}

/// One rule without its paths.
#[derive(Debug)]
pub(super) struct Rule {
    /// Empty: any.
    pub(super) methods: Vec<Method>,
    pub(super) callers: Callers,
    pub(super) clients: Vec<NamedClient>,
    pub(super) scopes: ScopeSet,
    pub(super) details: AuthorizationDetails,
    /// Seconds since `iat`.
    pub(super) max_age: Option<u64>,
    /// How many nested `act` claims.
    pub(super) actors: RangeInclusive<u8>,
}

/// The callers of a rule: service accounts, and whole namespaces of the mesh.
#[derive(Debug)]
pub(super) struct Callers {
    pub(super) domain: TrustDomain,
    pub(super) accounts: HashSet<SpiffeId>,
    pub(super) namespaces: HashSet<Box<str>>,
}

/// A client of an external issuer.
#[derive(Debug)]
pub(super) struct NamedClient {
    pub(super) issuer: Box<str>,
    pub(super) client_id: Box<str>,
    /// Where it must call from; `None`: wherever its issuer's mapping lets it.
    pub(super) from: Option<Callers>,
}

/// A client of an external issuer that was proven to be the caller: the pair, as an id means nothing without its issuer.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Client<'a> {
    pub(crate) issuer: &'a str,
    pub(crate) id: &'a str,
}

/// Who calls, and what its token says.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Credentials<'a> {
    pub(crate) caller: &'a SpiffeId,
    /// `None` for a token of the mesh.
    pub(crate) client: Option<Client<'a>>,
    pub(crate) actors: u8,
    pub(crate) scopes: &'a ScopeSet,
    pub(crate) details: &'a AuthorizationDetails,
    /// Seconds since `iat`.
    pub(crate) age: u64,
}

/// A rule lets the request pass.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Matched {
    /// The age up to which any rule would have; `None`: the age does not matter.
    pub(crate) max_age: Option<u64>,
}

/// Why no rule lets a request pass: the furthest that any rule of the governing path came.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Unmatched<'a> {
    /// None covers the method.
    Rule,
    /// None names the caller, with a chain of actors of this length.
    Caller,
    /// Scopes or authorization details are missing; these scopes would have to be there.
    Authorization(&'a ScopeSet),
    /// The token is older than this.
    Age(u64),
}

impl<'a> Unmatched<'a> {
    pub(crate) const fn rejection(self) -> Rejection {
        match self {
            Self::Rule => Rejection::RuleNotMatched,
            Self::Caller => Rejection::CallerNotAllowed,
            Self::Authorization(_) => Rejection::ScopeInsufficient,
            Self::Age(_) => Rejection::TokenTooOld,
        }
    }

    pub(crate) fn needed(self) -> Needed {
        match self {
            Self::Rule | Self::Caller => Needed::default(),
            Self::Authorization(scopes) => Needed { scopes: Some(scopes.clone()), max_age: None },
            Self::Age(bound) => Needed { scopes: None, max_age: Some(bound) },
        }
    }

    /// The one of two that came further; of two ages the one that asks for less.
    fn furthest(self, other: Self) -> Self {
        match (self, other) {
            (Self::Age(mine), Self::Age(theirs)) => Self::Age(mine.max(theirs)),
            _ if other.steps() > self.steps() => other,
            _ => self,
        }
    }

    const fn steps(self) -> u8 {
        match self {
            Self::Rule => 0,
            Self::Caller => 1,
            Self::Authorization(_) => 2,
            Self::Age(_) => 3,
        }
    }
}

impl Rules {
    /// Adds a rule for these paths and prefixes, in normal form; with neither it governs every other path.
    pub(super) fn add(&mut self, rule: Rule, paths: &[String], prefixes: &[String]) {
        let index = self.rules.len();
        self.rules.push(rule);
        for path in paths {
            self.exact.entry(without_end_slash(path).into()).or_default().push(index);
        }
        for prefix in prefixes {
            let prefix = without_end_slash(prefix);
            self.deepest = self.deepest.max(prefix.matches('/').count());
            self.prefixes.entry(prefix.into()).or_default().push(index);
        }
        if paths.is_empty() && prefixes.is_empty() {
            self.any_path.push(index);
        }
    }

    /// Every rule, whatever its path.
    pub(super) fn all(&self) -> impl Iterator<Item = &Rule> {
        self.rules.iter()
    }

    /// Judges a request on a normal path: any rule of the most specific path that names it will do.
    pub(super) fn judge(&self, path: &str, method: &Method, with: &Credentials<'_>) -> Result<Matched, Unmatched<'_>> {
        let mut furthest = Unmatched::Rule;
        let mut oldest = None;
        let path = as_ruled(path);
        let governing = self.governing(without_end_slash(&path));
        for rule in governing.iter().filter_map(|index| self.rules.get(*index)) {
            match rule.judge(method, with) {
                Ok(None) => return Ok(Matched { max_age: None }),
                // Another rule may take an older token: the order of rules must mean nothing.
                Ok(bound) => oldest = oldest.max(bound),
                Err(unmatched) => furthest = furthest.furthest(unmatched),
            }
        }
        if oldest.is_some() { Ok(Matched { max_age: oldest }) } else { Err(furthest) }
    }

    /// The rules of the most specific path: exact, else the longest prefix by whole segments, else those without path.
    fn governing(&self, path: &str) -> &[usize] {
        self.exact.get(path).or_else(|| self.longest_prefix(path)).unwrap_or(&self.any_path)
    }

    fn longest_prefix(&self, path: &str) -> Option<&Vec<usize>> {
        if self.prefixes.is_empty() {
            return None;
        }
        let ends = path.match_indices('/').map(|(at, _)| at).chain([path.len()]);
        let heads = ends.take(self.deepest + 1).filter_map(|end| path.get(..end));
        heads.filter_map(|head| self.prefixes.get(head)).last()
    }
}

impl Rule {
    /// Whether its callers, with a chain of this length, include this one.
    pub(super) fn names(&self, caller: &SpiffeId, actors: u8) -> bool {
        self.actors.contains(&actors) && self.callers.name(caller)
    }

    /// Whether its clients, with a chain of this length, include this one, which calls from there.
    pub(super) fn names_client(&self, client: Client<'_>, caller: &SpiffeId, actors: u8) -> bool {
        self.actors.contains(&actors) && self.clients.iter().any(|named| named.is(client, caller))
    }

    /// Gives the age up to which it lets the request pass.
    fn judge(&self, method: &Method, with: &Credentials<'_>) -> Result<Option<u64>, Unmatched<'_>> {
        if !self.methods.is_empty() && !self.methods.contains(method) {
            return Err(Unmatched::Rule);
        }
        let named = with.client.is_some_and(|client| self.names_client(client, with.caller, with.actors));
        if !named && !self.names(with.caller, with.actors) {
            return Err(Unmatched::Caller);
        }
        if !with.scopes.is_superset(&self.scopes) || !with.details.covers(&self.details) {
            return Err(Unmatched::Authorization(&self.scopes));
        }
        match self.max_age {
            Some(bound) if with.age > bound => Err(Unmatched::Age(bound)),
            bound => Ok(bound),
        }
    }
}

impl NamedClient {
    fn is(&self, client: Client<'_>, caller: &SpiffeId) -> bool {
        let same = *self.issuer == *client.issuer && *self.client_id == *client.id;
        same && self.from.as_ref().is_none_or(|from| from.name(caller))
    }
}

impl Callers {
    /// Whether the caller is one of them.
    pub(super) fn name(&self, caller: &SpiffeId) -> bool {
        let is_ours = || caller.trust_domain() == self.domain.as_str();
        self.accounts.contains(caller) || (is_ours() && self.namespaces.contains(caller.namespace()))
    }
}
