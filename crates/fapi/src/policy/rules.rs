use std::collections::{HashMap, HashSet};

use http::Method;

use crate::{
    path::without_end_slash,
    rejection::Rejection,
    value::{ScopeSet, SpiffeId, TrustDomain},
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
    pub(super) scopes: ScopeSet,
}

/// The callers of a rule: service accounts, and whole namespaces of the mesh.
#[derive(Debug)]
pub(super) struct Callers {
    pub(super) domain: TrustDomain,
    pub(super) accounts: HashSet<SpiffeId>,
    pub(super) namespaces: HashSet<Box<str>>,
}

/// Why no rule lets a request pass: the furthest that any rule of the governing path came.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Unmatched<'a> {
    pub(crate) rejection: Rejection,
    /// The scopes that would have been enough, where scopes are what is missing.
    pub(crate) needed: Option<&'a ScopeSet>,
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
    pub(super) fn judge(
        &self,
        path: &str,
        method: &Method,
        caller: &SpiffeId,
        scopes: &ScopeSet,
    ) -> Result<(), Unmatched<'_>> {
        let mut reached = Unmatched { rejection: Rejection::RuleNotMatched, needed: None };
        let governing = self.governing(without_end_slash(path));
        for rule in governing.iter().filter_map(|index| self.rules.get(*index)) {
            if !rule.methods.is_empty() && !rule.methods.contains(method) {
                continue;
            }
            if !rule.callers.name(caller) {
                if reached.needed.is_none() {
                    reached.rejection = Rejection::CallerNotAllowed;
                }
                continue;
            }
            if scopes.is_superset(&rule.scopes) {
                return Ok(());
            }
            reached.rejection = Rejection::ScopeInsufficient;
            reached.needed = reached.needed.or(Some(&rule.scopes));
        }
        Err(reached)
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

impl Callers {
    /// Whether the caller is one of them.
    pub(super) fn name(&self, caller: &SpiffeId) -> bool {
        let is_ours = || caller.trust_domain() == self.domain.as_str();
        self.accounts.contains(caller) || (is_ours() && self.namespaces.contains(caller.namespace()))
    }
}
