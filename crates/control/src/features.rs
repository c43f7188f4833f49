//! What a sidecar can enforce. A snapshot lists what it needs; a sidecar that lacks one refuses it.

use fapi::{WirePolicy, WireRule};

use crate::{PortPolicyDoc, Snapshot};

/// Rules by method, path, caller and scope; tokens of the mesh issuer bound by certificate or DPoP.
pub const RULES: &str = "rules/1";
/// Rules that demand authorization details (RFC 9396).
pub const AUTHORIZATION_DETAILS: &str = "authorization-details/1";
/// Rules that bound the age of a token (RFC 9470).
pub const MAX_TOKEN_AGE: &str = "max-token-age/1";
/// Rules that bound the number of actors (RFC 8693).
pub const ACTORS: &str = "actors/1";
/// Revocations by token, certificate, pod, SPIFFE ID and client, which come before the first snapshot.
pub const REVOCATIONS: &str = "revocations/1";
/// Tokens of issuers outside the mesh, whose keys the sidecar fetches.
pub const EXTERNAL_ISSUERS: &str = "external-issuers/1";
/// Tokens that only their issuer can read, which the sidecar asks about.
pub const INTROSPECTION: &str = "introspection/1";
/// Calls handed on by token exchange (RFC 8693).
pub const TOKEN_EXCHANGE: &str = "token-exchange/1";

/// Ports that take no HTTP, by the certificates of their callers.
pub const TCP: &str = "tcp/1";

/// Plain requests of those outside the mesh, where a policy exempts them.
pub const EXEMPT: &str = "exempt/1";

/// Destinations that are not in the mesh and may not be called. No snapshot needs it: whoever lacks it is told that they are
/// unknown, which refuses the call, too.
pub const UNMESHED_REFUSED: &str = "unmeshed-refused/1";

/// Endpoints with all of their addresses. No snapshot needs it: whoever lacks it is told the first of each.
pub const ALL_ADDRESSES: &str = "all-addresses/1";

/// Addresses that several Services stand behind. No snapshot needs it: whoever lacks it is told that they are unknown.
pub const AMBIGUOUS: &str = "ambiguous/1";

/// Everything that this build enforces.
pub const SUPPORTED: &[&str] = &[
    RULES,
    REVOCATIONS,
    AUTHORIZATION_DETAILS,
    MAX_TOKEN_AGE,
    ACTORS,
    EXTERNAL_ISSUERS,
    INTROSPECTION,
    TOKEN_EXCHANGE,
    TCP,
    EXEMPT,
    UNMESHED_REFUSED,
    ALL_ADDRESSES,
    AMBIGUOUS,
];

/// What a sidecar must be able to enforce to run `snapshot`: what is used there, so that older sidecars keep working until
/// a policy asks for more than they know.
pub fn required(snapshot: &Snapshot) -> Vec<&'static str> {
    let policies = snapshot.ports.iter().filter_map(|port| match &port.policy {
        PortPolicyDoc::Policy(policy) => Some(policy),
        PortPolicyDoc::Tcp(_) | PortPolicyDoc::Invalid { .. } => None,
    });
    let policies: Vec<&WirePolicy> = policies.collect();
    let needed = |feature: &&str| match *feature {
        // They hold on every connection, also those that a pure caller makes.
        REVOCATIONS => true,
        UNMESHED_REFUSED | ALL_ADDRESSES | AMBIGUOUS => false,
        TOKEN_EXCHANGE => snapshot.token_exchange,
        TCP => snapshot.ports.iter().any(|port| matches!(port.policy, PortPolicyDoc::Tcp(_))),
        feature => policies.iter().any(|policy| uses(policy, feature)),
    };
    SUPPORTED.iter().copied().filter(needed).collect()
}

fn uses(policy: &WirePolicy, feature: &str) -> bool {
    // Written out, so that a new field does not compile before somebody has said which feature it is.
    let WirePolicy { name: _, mode: _, resources: _, issuers: _, external, sender_constraints: _, rules, exempt } =
        policy;
    match feature {
        EXTERNAL_ISSUERS => !external.is_empty(),
        INTROSPECTION => external.iter().any(|external| external.opaque),
        EXEMPT => !exempt.is_empty(),
        feature => rules.iter().any(|rule| rule_uses(rule, feature)),
    }
}

fn rule_uses(rule: &WireRule, feature: &str) -> bool {
    let WireRule {
        methods: _,
        paths: _,
        path_prefixes: _,
        callers: _,
        // Only of issuers that the policy lists.
        clients: _,
        scopes: _,
        authorization_details,
        max_token_age,
        actors,
    } = rule;
    match feature {
        AUTHORIZATION_DETAILS => !authorization_details.is_empty(),
        MAX_TOKEN_AGE => max_token_age.is_some(),
        ACTORS => actors.is_some(),
        _ => true,
    }
}

/// The first of `required` that this build cannot enforce.
pub fn missing(required: &[String]) -> Option<&str> {
    required.iter().map(String::as_str).find(|feature| !SUPPORTED.contains(feature))
}

#[cfg(test)]
mod tests {
    use fapi::{Mode, WireActors, WireDetail, WirePolicy};

    use super::*;
    use crate::{MeshIssuer, Port, WorkloadName};

    #[test]
    fn an_unknown_feature_is_named() {
        assert_eq!(missing(&[RULES.to_owned()]), None);
        assert_eq!(missing(&[RULES.to_owned(), "udp/1".to_owned()]), Some("udp/1"));
    }

    fn port(policy: PortPolicyDoc) -> Port {
        let address = "127.0.0.1:1".parse().unwrap();
        Port { name: "http".to_owned(), port: 80, listen: address, app: address, policy }
    }

    fn with_rules(rules: Vec<WireRule>) -> PortPolicyDoc {
        PortPolicyDoc::Policy(WirePolicy {
            name: "bank/p".to_owned(),
            mode: Mode::Enforce,
            resources: vec![],
            issuers: vec![],
            external: vec![],
            sender_constraints: vec![],
            rules,
            exempt: Vec::new(),
        })
    }

    fn needed(ports: Vec<PortPolicyDoc>) -> Vec<&'static str> {
        required(&snapshot(ports))
    }

    fn snapshot(ports: Vec<PortPolicyDoc>) -> Snapshot {
        let name = String::new;
        Snapshot {
            trust_domain: name(),
            spiffe_id: name(),
            pod_uid: name(),
            workload: WorkloadName { namespace: name(), name: name() },
            mesh_issuer: MeshIssuer { issuer: name(), token_endpoint: name() },
            external_issuers: vec![],
            token_exchange: false,
            ports: ports.into_iter().map(port).collect(),
        }
    }

    #[test]
    fn a_snapshot_needs_what_it_uses_and_nothing_else() {
        let plain = WireRule::default;
        let details = WireRule { authorization_details: vec![WireDetail::default()], ..plain() };
        let age = WireRule { max_token_age: Some(60), ..plain() };
        let actors = WireRule { actors: Some(WireActors { min: 0, max: 1 }), ..plain() };
        let closed = PortPolicyDoc::Invalid { name: "bank/p".to_owned() };
        assert_eq!(needed(vec![]), [REVOCATIONS], "a pure caller");
        let tcp = fapi::WireTcpPolicy { name: "bank/db".to_owned(), mode: Mode::Enforce, callers: vec![] };
        assert_eq!(needed(vec![PortPolicyDoc::Tcp(tcp)]), [REVOCATIONS, TCP]);
        assert_eq!(needed(vec![closed]), [REVOCATIONS], "a closed port");
        assert_eq!(needed(vec![with_rules(vec![plain(), plain()])]), [RULES, REVOCATIONS]);
        assert_eq!(
            needed(vec![with_rules(vec![plain(), details.clone()])]),
            [RULES, REVOCATIONS, AUTHORIZATION_DETAILS]
        );
        assert_eq!(
            needed(vec![with_rules(vec![plain()]), with_rules(vec![age.clone()])]),
            [RULES, REVOCATIONS, MAX_TOKEN_AGE]
        );
        assert_eq!(needed(vec![with_rules(vec![actors.clone()])]), [RULES, REVOCATIONS, ACTORS]);
        assert_eq!(needed(vec![with_rules(vec![actors, age, details])]), SUPPORTED[..5]);
        let PortPolicyDoc::Policy(mut open) = with_rules(vec![plain()]) else { panic!("a policy") };
        open.exempt = vec![fapi::WireExemption { port: 9090, paths: vec![], sources: vec![] }];
        assert_eq!(needed(vec![PortPolicyDoc::Policy(open)]), [RULES, REVOCATIONS, EXEMPT]);
        let exchanging = Snapshot { token_exchange: true, ..snapshot(vec![]) };
        assert_eq!(required(&exchanging), [REVOCATIONS, TOKEN_EXCHANGE]);
    }
}
