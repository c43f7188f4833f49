//! Which policies are attached to what, and which of them holds it.

use std::collections::HashMap;

use crate::model::{Key, Policy, PolicyTarget, Seniority};

/// Policies by what they target, oldest first.
#[derive(Debug, Default)]
pub(super) struct Attachments {
    by_target: HashMap<(String, PolicyTarget), Vec<Seniority>>,
    /// By namespace: policies whose targets cannot be read.
    unreadable: HashMap<String, Vec<Seniority>>,
}

impl Attachments {
    pub(super) fn new<'a>(policies: impl Iterator<Item = &'a Policy>) -> Self {
        let mut new = Self::default();
        for policy in policies {
            let namespace = policy.seniority.key.namespace.to_string();
            let Some(targets) = &policy.targets else {
                new.unreadable.entry(namespace).or_default().push(policy.seniority.clone());
                continue;
            };
            for target in targets {
                let attached = new.by_target.entry((namespace.clone(), target.clone())).or_default();
                attached.push(policy.seniority.clone());
            }
        }
        new.by_target.values_mut().chain(new.unreadable.values_mut()).for_each(|attached| {
            attached.sort();
            attached.dedup();
        });
        new
    }

    pub(super) fn at(&self, namespace: &str, target: &PolicyTarget) -> &[Seniority] {
        let attached = self.by_target.get(&(namespace.to_owned(), target.clone()));
        attached.map(Vec::as_slice).unwrap_or_default()
    }

    pub(super) fn closed_by(&self, namespace: &str) -> Option<&Key> {
        Some(&self.unreadable.get(namespace)?.first()?.key)
    }

    /// The policy that governs a port behind these Service ports.
    ///
    /// A policy whose targets cannot be read might mean any port of its namespace, so it closes them all before anything
    /// more specific is asked.
    pub(super) fn governing(&self, namespace: &str, fronts: &[(&Key, &str)]) -> Option<&Key> {
        if let Some(key) = self.closed_by(namespace) {
            return Some(key);
        }
        let section = |(service, section): &(&Key, &str)| PolicyTarget::Section {
            service: service.name.to_string(),
            section: (*section).to_owned(),
        };
        let service = |(service, _): &(&Key, &str)| PolicyTarget::Service { service: service.name.to_string() };
        self.oldest(namespace, fronts.iter().map(section))
            .or_else(|| self.oldest(namespace, fronts.iter().map(service)))
            .or_else(|| self.oldest(namespace, [PolicyTarget::Namespace]))
    }

    fn oldest(&self, namespace: &str, targets: impl IntoIterator<Item = PolicyTarget>) -> Option<&Key> {
        let winners = targets.into_iter().filter_map(|target| self.at(namespace, &target).first());
        winners.min().map(|seniority| &seniority.key)
    }
}
