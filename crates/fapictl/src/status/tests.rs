//! Reports of a bank, as people and programs read them.
#![allow(clippy::unwrap_used, reason = "a failed test may panic")]

use operator::rotation::{Progress, Step};
use serde_json::{Value as Json, json};

use super::render::render;
use super::report::Report;
use crate::args::Output;
use crate::cluster::Unseen;
use crate::cluster::testing::{bank, client, condition, custom, pod, policy};

fn show(output: Output) -> String {
    let mut workloads = bank();
    let pods = workloads.pods.as_mut().unwrap();
    pods.push(pod("bank", "ledger-2", "ledger", false));
    let annotations = pods[0].metadata.annotations.as_mut().unwrap();
    annotations.insert("fapi-mesh.dev/skip-inbound-ports".to_owned(), "udp/53".to_owned());
    let sidecar = &mut pods[1].spec.as_mut().unwrap().init_containers.as_mut().unwrap()[0];
    sidecar.env = serde_json::from_value(json!([{"name": "FAPI_INTERCEPTION", "value": "proxy"}])).unwrap();
    let mut lagging = policy("ledger");
    lagging["spec"]["exempt"] = json!([{"port": 9090, "paths": ["/metrics", "/stats"], "sources": ["10.8.0.0/16"]}]);
    lagging["spec"]["mode"] = "Audit".into();
    let words = "1 of 2 pods run 3f2a, 1 without a sidecar";
    lagging["status"]["conditions"][0] = condition("Ready", "False", "PartiallyProgrammed", words);
    let at = &mut lagging["status"]["ancestors"][0];
    at["conditions"][2] = condition("Programmed", "False", "PartiallyProgrammed", words);
    at["pods"] = json!({"matched": 2, "programmed": 1, "rejected": 0, "withoutSidecar": 1});
    at["wouldRefuse"] = json!({"since": "2026-11-28T16:00:00Z", "count": 12, "top": [
        {"reason": "token_missing", "caller": "web/checkout", "count": 9},
        {"reason": "caller_not_allowed", "caller": "other", "count": 3},
    ]});
    let mut new = policy("shop");
    new["status"] = Json::Null;
    workloads.policies = Ok(vec![custom(new), custom(lagging)]);
    workloads.clients = Ok(vec![custom(client("shop"))]);
    workloads.rotation = Ok(Some(Progress {
        name: "spring".to_owned(),
        step: Step::Tainted,
        since: "2026-11-28T16:00:00Z".to_owned(),
        sidecars: 2,
        followed: 1,
        oldest: None,
        waits_for: Some("1 of 2 sidecars".to_owned()),
        refused: None,
    }));
    workloads.issuers = Err(Unseen::Forbidden("you may not list".to_owned()));
    render(&Report::of(&workloads), output)
}

#[test]
fn people_see_who_lags_and_where_the_holes_are() {
    let version = control::VERSION;
    let expected = format!(
        "\
OPERATOR   READY
{version}      2/2

ROOT     STEP      SINCE                  SIDECARS   WAITS FOR
spring   Tainted   2026-11-28T16:00:00Z   1/2        1 of 2 sidecars

NAMESPACE   PODS ASK   WITH SIDECAR   WITHOUT
bank        all        2              1

POLICY        TARGET           MODE      READY   REASON                PODS   MESSAGE
bank/ledger   Service ledger   Audit     False   PartiallyProgrammed   1/2    1 of 2 pods run 3f2a, 1 without a sidecar
bank/shop                      Enforce   False   Pending               0/0

CLIENT      READY   REASON   GRANTED   MESSAGE
bank/shop   True    Ready    1/1

HOLE                     WHY
Pod bank/ledger-2        no sidecar, though FapiPolicy bank/ledger governs it
Pod bank/shop-1          fapi-mesh.dev/skip-inbound-ports: udp/53 passes the sidecar by
Pod bank/ledger-1        interception proxy: what its app calls without the proxy leaves without mutual TLS and token
FapiPolicy bank/ledger   mode Audit: what it would refuse passes; Service ledger: 12 since 2026-11-28T16:00:00Z, most: token_missing from web/checkout (9)
FapiPolicy bank/ledger   exempt: GET /metrics, /stats at port 9090 from 10.8.0.0/16 passes without certificate and token

not seen: FapiIssuer: you may not list
"
    );
    assert_eq!(show(Output::Text), expected);
}

#[test]
fn programs_see_the_same() {
    let report: Json = serde_json::from_str(&show(Output::Json)).unwrap();
    assert_eq!(report["operator"], json!({"version": control::VERSION, "ready": 2, "replicas": 2}));
    let spring = json!({"name": "spring", "step": "Tainted", "since": "2026-11-28T16:00:00Z", "sidecars": 2, "followed": 1,
        "waitsFor": "1 of 2 sidecars"});
    assert_eq!(report["rotation"], spring);
    let joined = json!({"name": "bank", "optedIn": true, "withSidecar": 2, "withoutSidecar": 1});
    assert_eq!(report["namespaces"], json!([joined]));
    let ledger = json!({"matched": 2, "programmed": 1, "rejected": 0, "withoutSidecar": 1});
    assert_eq!(report["policies"][0]["pods"], ledger);
    assert_eq!(report["policies"][1]["reason"], "Pending");
    let shop = json!({"namespace": "bank", "name": "shop", "ready": true, "reason": "Ready", "targets": 1, "granted": 1,
        "message": ""});
    assert_eq!(report["clients"], json!([shop]));
    assert_eq!(report["holes"].as_array().unwrap().len(), 5);
    assert_eq!(report["unseen"], json!(["FapiIssuer: you may not list"]));
}
