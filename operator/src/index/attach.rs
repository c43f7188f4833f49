//! Which policies are attached to what, and which of them holds it.

use std::collections::HashMap;

use crate::model::{Key, Policy, PolicyTarget, Seniority};

/// The policies of one namespace by what they target, oldest first.
#[derive(Debug, Default)]
pub(super) struct Attachments {
    by_target: HashMap<PolicyTarget, Vec<Seniority>>,
    /// Those whose targets cannot be read.
    unreadable: Vec<Seniority>,
}

impl Attachments {
    pub(super) fn new<'a>(policies: impl Iterator<Item = &'a Policy>) -> Self {
        let mut new = Self::default();
        for policy in policies {
            let Some(targets) = &policy.targets else {
                new.unreadable.push(policy.seniority.clone());
                continue;
            };
            for target in targets {
                new.by_target.entry(target.clone()).or_default().push(policy.seniority.clone());
            }
        }
        new.by_target.values_mut().chain([&mut new.unreadable]).for_each(|attached| {
            attached.sort();
            attached.dedup();
        });
        new
    }

    pub(super) fn at(&self, target: &PolicyTarget) -> &[Seniority] {
        self.by_target.get(target).map(Vec::as_slice).unwrap_or_default()
    }

    /// The policy that governs a port behind these Service ports.
    ///
    /// A policy whose targets cannot be read might mean any port of its namespace, so it closes them all before anything
    /// more specific is asked.
    pub(super) fn governing(&self, fronts: &[(&Key, &str)]) -> Option<&Key> {
        if let Some(closing) = self.unreadable.first() {
            return Some(&closing.key);
        }
        let section = |(service, section): &(&Key, &str)| PolicyTarget::Section {
            service: service.name.to_string(),
            section: (*section).to_owned(),
        };
        let service = |(service, _): &(&Key, &str)| PolicyTarget::Service { service: service.name.to_string() };
        self.oldest(fronts.iter().map(section))
            .or_else(|| self.oldest(fronts.iter().map(service)))
            .or_else(|| self.oldest([PolicyTarget::Namespace]))
    }

    fn oldest(&self, targets: impl IntoIterator<Item = PolicyTarget>) -> Option<&Key> {
        let winners = targets.into_iter().filter_map(|target| self.at(&target).first());
        winners.min().map(|seniority| &seniority.key)
    }
}
