use std::{collections::HashSet, ops::RangeInclusive, sync::Arc};

use http::Method;

use super::{
    Accepted, Policy, PolicyProblem, Resource, WireActors, WireCaller, WireClient, WireDetail, WirePolicy,
    WireResource, WireRule,
    exempt::Exemptions,
    external,
    rules::{Callers, NamedClient, Rule, Rules},
};
use crate::{
    path::normal_path,
    token::MAX_ACTORS,
    value::{Audience, AuthorizationDetails, Detail, InvalidValue, Issuer, Origin, ScopeSet, SpiffeId, TrustDomain},
};

/// Compiles a document and collects everything that is wrong with it.
pub(super) fn compile(domain: &TrustDomain, wire: &WirePolicy) -> Result<Policy, Vec<PolicyProblem>> {
    let mut report = Report::default();
    if wire.name.is_empty() {
        report.add("name", "must not be empty");
    }
    report.need("resources", &wire.resources);
    if wire.external.is_empty() {
        report.need("issuers", &wire.issuers);
    }
    report.need("senderConstraints", &wire.sender_constraints);
    report.need("rules", &wire.rules);
    let resources = resources(&mut report, "resources", &wire.resources);
    let own = report.each("issuers", &wire.issuers, Issuer::parse);
    let mut issuers: Vec<_> = own.into_iter().map(|issuer| Accepted { issuer, external: None }).collect();
    for (index, one) in wire.external.iter().enumerate() {
        external::add(&mut report, &format!("external[{index}]"), domain, one, &mut issuers);
    }
    let mut rules = Rules::default();
    for (index, rule) in wire.rules.iter().enumerate() {
        let compiled = self::rule(&mut report, &format!("rules[{index}]"), domain, rule);
        rules.add(compiled, &rule.paths, &rule.path_prefixes);
    }
    let exemptions = Exemptions::compile(&mut report, &wire.exempt);
    report.end()?;
    let (name, constraints) = (Arc::from(wire.name.as_str()), wire.sender_constraints.clone());
    Ok(Policy { name, mode: wire.mode, resources, issuers, constraints, rules, exemptions })
}

pub(super) fn resources(report: &mut Report, list: &str, wire: &[WireResource]) -> Vec<Resource> {
    let mut out = Vec::new();
    for (index, resource) in wire.iter().enumerate() {
        let field = format!("{list}[{index}]");
        report.need(&format!("{field}.origins"), &resource.origins);
        let origins = report.each(&format!("{field}.origins"), &resource.origins, Origin::parse);
        match Audience::parse(&resource.audience) {
            Ok(audience) => out.push(Resource { audience, origins }),
            Err(error) => report.add(&format!("{field}.audience"), &error.to_string()),
        }
    }
    out
}

fn rule(report: &mut Report, field: &str, domain: &TrustDomain, wire: &WireRule) -> Rule {
    if wire.clients.is_empty() {
        report.need(&format!("{field}.callers"), &wire.callers);
    }
    let methods = report.each(&format!("{field}.methods"), &wire.methods, method);
    report.each(&format!("{field}.paths"), &wire.paths, check_path);
    report.each(&format!("{field}.pathPrefixes"), &wire.path_prefixes, check_path);
    let scopes = ScopeSet::from_list(&wire.scopes).unwrap_or_else(|error| {
        report.add(&format!("{field}.scopes"), &error.to_string());
        ScopeSet::empty()
    });
    let callers = callers(report, &format!("{field}.callers"), domain, &wire.callers);
    let mut clients = Vec::new();
    for (index, client) in wire.clients.iter().enumerate() {
        clients.push(named_client(report, &format!("{field}.clients[{index}]"), domain, client));
    }
    let details = details(report, &format!("{field}.authorizationDetails"), &wire.authorization_details);
    if wire.max_token_age.is_some_and(|secs| !TOKEN_AGES.contains(&secs)) {
        report.add(&format!("{field}.maxTokenAge"), "want 5 to 3600 seconds");
    }
    let actors = actors(report, &format!("{field}.actors"), wire.actors);
    Rule { methods, callers, clients, scopes, details, max_age: wire.max_token_age, actors }
}

fn details(report: &mut Report, field: &str, wire: &[WireDetail]) -> AuthorizationDetails {
    if wire.len() > MAX_DETAILS {
        report.add(field, "want at most 16");
    }
    let mut out = Vec::new();
    for (index, detail) in wire.iter().enumerate() {
        let unwritten = InvalidValue { what: "authorization detail", problem: "cannot be written as JSON" };
        match serde_json::to_value(detail).map_err(|_| unwritten).and_then(|json| Detail::parse(&json)) {
            Ok(detail) => out.push(detail),
            Err(error) => report.add(&format!("{field}[{index}]"), &error.to_string()),
        }
    }
    out.into_iter().collect()
}

fn actors(report: &mut Report, field: &str, wire: Option<WireActors>) -> RangeInclusive<u8> {
    let WireActors { min, max } = wire.unwrap_or(WireActors { min: 0, max: MAX_ACTORS });
    if min > max || max > MAX_ACTORS {
        report.add(field, "want min up to max, and max up to 8");
    }
    min..=max
}

pub(super) fn callers(report: &mut Report, field: &str, domain: &TrustDomain, wire: &[WireCaller]) -> Callers {
    let mut callers = Callers { domain: domain.clone(), accounts: HashSet::new(), namespaces: HashSet::new() };
    for (index, caller) in wire.iter().enumerate() {
        if let Err(error) = add_caller(&mut callers, caller) {
            report.add(&format!("{field}[{index}]"), &error.to_string());
        }
    }
    callers
}

fn named_client(report: &mut Report, field: &str, domain: &TrustDomain, wire: &WireClient) -> NamedClient {
    external::check_client_id(report, &format!("{field}.clientId"), &wire.client_id);
    if wire.issuer.is_empty() {
        report.add(&format!("{field}.issuer"), "must not be empty");
    }
    let from = wire.caller.as_ref().map(|caller| callers(report, field, domain, std::slice::from_ref(caller)));
    NamedClient { issuer: wire.issuer.as_str().into(), client_id: wire.client_id.as_str().into(), from }
}

fn add_caller(callers: &mut Callers, wire: &WireCaller) -> Result<(), InvalidValue> {
    // Any account name will do to have the namespace checked.
    let account = wire.service_account.as_deref();
    let id = SpiffeId::new(&callers.domain, &wire.namespace, account.unwrap_or("default"))?;
    if account.is_some() {
        callers.accounts.insert(id);
    } else {
        callers.namespaces.insert(wire.namespace.as_str().into());
    }
    Ok(())
}

fn method(text: &str) -> Result<Method, InvalidValue> {
    let bad = InvalidValue { what: "method", problem: "want an HTTP method in capitals, such as GET" };
    if text.is_empty() || !text.bytes().all(|byte| byte.is_ascii_uppercase()) {
        return Err(bad);
    }
    Method::from_bytes(text.as_bytes()).map_err(|_| bad)
}

pub(super) fn check_path(text: &str) -> Result<(), InvalidValue> {
    let plain = !text.contains(['%', '*', ';']);
    if plain && normal_path(text).is_ok() {
        return Ok(());
    }
    let problem = "want an absolute path in normal form: starts with /, no //, no . or .. segments, no % * ; ? #";
    Err(InvalidValue { what: "path", problem })
}

pub(super) const TOKEN_AGES: RangeInclusive<u64> = 5..=3600;
const MAX_DETAILS: usize = 16;

#[derive(Default)]
pub(super) struct Report(Vec<PolicyProblem>);

impl Report {
    pub(super) fn end(self) -> Result<(), Vec<PolicyProblem>> {
        if self.0.is_empty() { Ok(()) } else { Err(self.0) }
    }

    pub(super) fn add(&mut self, field: &str, message: &str) {
        self.0.push(PolicyProblem { field: field.to_owned(), message: message.to_owned() });
    }

    /// An empty list could be read as "all", so it is refused.
    pub(super) fn need<T>(&mut self, field: &str, list: &[T]) {
        if list.is_empty() {
            self.add(field, "must not be empty");
        }
    }

    pub(super) fn each<T>(
        &mut self,
        field: &str,
        texts: &[String],
        parse: impl Fn(&str) -> Result<T, InvalidValue>,
    ) -> Vec<T> {
        let mut out = Vec::new();
        for (index, text) in texts.iter().enumerate() {
            match parse(text) {
                Ok(value) => out.push(value),
                Err(error) => self.add(&format!("{field}[{index}]"), &format!("{error}, not {text:?}")),
            }
        }
        out
    }
}
