//! Documents as no person writes them: the good ones of `examples/`, bent at random places.

use serde_json::{Value as Json, json};

use super::*;
use crate::source::problem::Finding;
use crate::testing::Dice;

const EXAMPLES: [&str; 8] = [
    include_str!("../../../../../examples/bank/clients.yaml"),
    include_str!("../../../../../examples/bank/mesh.yaml"),
    include_str!("../../../../../examples/bank/outside.yaml"),
    include_str!("../../../../../examples/bank/policies.yaml"),
    include_str!("../../../../../examples/consent/policies.yaml"),
    include_str!("../../../../../examples/outside/clients.yaml"),
    include_str!("../../../../../examples/outside/issuers.yaml"),
    WORKLOAD,
];

/// Those of `examples/` have the port 0, which `fapictl demo` fills in.
const WORKLOAD: &str = "apiVersion: fapi-mesh.dev/v1alpha1
kind: Workload
metadata: {name: shop-1, namespace: bank}
spec:
  serviceAccountName: shop
  serviceName: shop
  ports:
  - {name: http, port: 80, address: \"127.0.0.1:9080\", appAddress: \"127.0.0.1:8080\"}
";

/// What may stand anywhere, and seldom should.
fn odd(dice: &mut Dice) -> Json {
    let all = [
        json!(null),
        json!(true),
        json!(0),
        json!(-1),
        json!(65_536),
        json!(u64::MAX),
        json!(1.5),
        json!(""),
        json!(" "),
        json!("a"),
        json!("A_b"),
        json!("*"),
        json!("/a//b"),
        json!("https://a.bank:443/x?y#z"),
        json!("1h1h"),
        json!("99999999999999999999h"),
        json!("spiffe://bank.example/ns/a/sa/b"),
        json!("2026-02-30T00:00:00Z"),
        json!("\u{0}\u{202e}ä"),
        json!("x".repeat(300)),
        json!([]),
        json!([{}]),
        json!(["a", "a"]),
        json!({}),
        json!({"name": "a"}),
        json!({"serviceAccountName": "a", "namespace": "b"}),
    ];
    dice.pick(&all)
}

/// Bends one place of a value: what stands there is replaced, dropped, said twice, or given a member that nobody knows.
fn bend(value: &mut Json, dice: &mut Dice) {
    match value {
        Json::Object(members) if !members.is_empty() && dice.below(8) > 0 => {
            let name = members.keys().nth(dice.below(members.len())).unwrap().clone();
            match dice.below(12) {
                0..=2 => drop(members.remove(&name)),
                3 => drop(members.insert(format!("{name}s"), odd(dice))),
                _ => bend(&mut members[&name], dice),
            }
        }
        Json::Array(items) if !items.is_empty() && dice.below(8) > 0 => {
            let at = dice.below(items.len());
            match dice.below(8) {
                0 => drop(items.remove(at)),
                1 => items.push(items[at].clone()),
                _ => bend(&mut items[at], dice),
            }
        }
        other => *other = odd(dice),
    }
}

fn judge(schemas: &Schemas, text: &str) -> Option<Json> {
    let lines = u32::try_from(text.lines().count()).unwrap();
    match parse(schemas, &domain(), documents::split(text)[0]) {
        Parsed::Good(written) => Some(written.content),
        Parsed::Bad(bad) => {
            let helps = |found: &Finding| {
                (1..=lines).contains(&found.line) && !found.message.is_empty() && !found.remedy.is_empty()
            };
            assert!(!bad.findings.is_empty() && bad.findings.iter().all(helps), "{bad:?}\n{text}");
            // What passes a schema can be read: an API server would have let it in.
            assert!(
                bad.findings.iter().all(|found| !found.remedy.contains("what the schema of the kind says")),
                "{bad:?}"
            );
            None
        }
    }
}

#[test]
fn every_bent_document_is_read_whole_or_refused_with_a_line_and_a_remedy() {
    let schemas = Schemas::new();
    let (mut dice, mut good, mut refused) = (Dice::new(1), 0, 0);
    for document in EXAMPLES.into_iter().flat_map(documents::split) {
        let straight = judge(&schemas, document.text).expect("examples are good");
        for _ in 0..100 {
            let mut bent = straight.clone();
            for _ in 0..=dice.below(2) {
                let in_spec = dice.below(4) > 0 && bent.get("spec").is_some();
                bend(if in_spec { &mut bent["spec"] } else { &mut bent }, &mut dice);
            }
            match judge(&schemas, &serde_json::to_string_pretty(&bent).unwrap()) {
                Some(read) => {
                    assert_eq!(read, bent, "what was read is what was written");
                    good += 1;
                }
                None => refused += 1,
            }
        }
    }
    assert!(good > 10 && refused > 400, "{good} good, {refused} refused");
}
