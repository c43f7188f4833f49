//! The document that a sidecar gets: printing and reading gives the same, and the policies in it compile to the same answer.
#![no_main]

use control::{PortPolicyDoc, Snapshot};
use fapi::{Policy, TrustDomain};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|data: &[u8]| {
    let Ok(snapshot) = serde_json::from_slice::<Snapshot>(data) else { return };
    let printed = serde_json::to_vec(&snapshot).unwrap();
    let again: Snapshot = serde_json::from_slice(&printed).unwrap();
    assert_eq!(again, snapshot);
    let Ok(domain) = TrustDomain::parse(&snapshot.trust_domain) else { return };
    for (port, twin) in snapshot.ports.iter().zip(&again.ports) {
        if let (PortPolicyDoc::Policy(wire), PortPolicyDoc::Policy(twin)) = (&port.policy, &twin.policy) {
            let problems = |wire| Policy::compile(&domain, wire).err().map(|problems| format!("{problems:?}"));
            let found = problems(wire);
            assert_eq!(found, problems(twin));
            if found.is_none() {
                assert!(!wire.rules.iter().any(|rule| rule.callers.is_empty()) && !wire.sender_constraints.is_empty());
            }
        }
    }
});
