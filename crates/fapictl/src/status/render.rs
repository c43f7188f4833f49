//! A report for people, and for programs.

use operator::rotation::Progress;

use super::report::{Object, Report};
use crate::args::Output;
use crate::table::table;

/// The report.
pub(super) fn render(report: &Report, output: Output) -> String {
    match output {
        Output::Text => text(report),
        // Texts and numbers under texts: it can always be written.
        Output::Json => format!("{}\n", serde_json::to_string_pretty(report).unwrap_or_default()),
    }
}

/// A paragraph for each part that has something to show.
fn text(report: &Report) -> String {
    let parts = [
        operator(report),
        rotation(report.rotation.as_ref()),
        namespaces(report),
        policies(report),
        clients(report),
        objects("ISSUER", &report.issuers),
        objects("MESH", &report.meshes),
        holes(report),
        report.unseen.iter().map(|line| format!("not seen: {line}\n")).collect(),
    ];
    parts.into_iter().filter(|part| !part.is_empty()).collect::<Vec<_>>().join("\n")
}

fn operator(report: &Report) -> String {
    let rows = report.operator.iter().map(|operator| {
        let version = operator.version.clone().unwrap_or_else(|| "?".to_owned());
        [version, format!("{}/{}", operator.ready, operator.replicas)]
    });
    table(["OPERATOR", "READY"], &rows.collect::<Vec<_>>())
}

/// Of a mesh of which nothing else is shown.
pub(super) fn rotation_alone(progress: Option<&Progress>, output: Output) -> String {
    match (output, progress) {
        (Output::Json, _) => {
            let json = serde_json::json!({ "rotation": progress });
            format!("{}\n", serde_json::to_string_pretty(&json).unwrap_or_default())
        }
        (Output::Text, None) => "its root was never rotated\n".to_owned(),
        (Output::Text, Some(_)) => rotation(progress),
    }
}

fn rotation(progress: Option<&Progress>) -> String {
    let rows = progress.iter().map(|progress| {
        [
            progress.name.clone(),
            format!("{:?}", progress.step),
            progress.since.clone(),
            format!("{}/{}", progress.followed, progress.sidecars),
            progress.waits_for.clone().unwrap_or_default(),
        ]
    });
    table(["ROOT", "STEP", "SINCE", "SIDECARS", "WAITS FOR"], &rows.collect::<Vec<_>>())
}

fn namespaces(report: &Report) -> String {
    let rows = report.namespaces.iter().map(|joined| {
        let asks = if joined.opted_in { "all" } else { "some" };
        [joined.name.clone(), asks.to_owned(), joined.with_sidecar.to_string(), joined.without_sidecar.to_string()]
    });
    table(["NAMESPACE", "PODS ASK", "WITH SIDECAR", "WITHOUT"], &rows.collect::<Vec<_>>())
}

fn policies(report: &Report) -> String {
    let rows = report.policies.iter().map(|policy| {
        [
            format!("{}/{}", policy.namespace, policy.name),
            policy.target.clone(),
            format!("{:?}", policy.mode),
            word(policy.ready),
            policy.reason.clone(),
            format!("{}/{}", policy.pods.programmed, policy.pods.matched),
            policy.message.clone(),
        ]
    });
    table(["POLICY", "TARGET", "MODE", "READY", "REASON", "PODS", "MESSAGE"], &rows.collect::<Vec<_>>())
}

fn clients(report: &Report) -> String {
    let rows = report.clients.iter().map(|client| {
        let count = |count: Option<usize>| count.unwrap_or_default();
        [
            format!("{}/{}", client.namespace, client.name),
            word(client.ready),
            client.reason.clone(),
            format!("{}/{}", count(client.granted), count(client.targets)),
            client.message.clone(),
        ]
    });
    table(["CLIENT", "READY", "REASON", "GRANTED", "MESSAGE"], &rows.collect::<Vec<_>>())
}

fn objects(kind: &str, all: &[Object]) -> String {
    let rows = all.iter().map(|one| [one.name.clone(), word(one.ready), one.reason.clone(), one.message.clone()]);
    table([kind, "READY", "REASON", "MESSAGE"], &rows.collect::<Vec<_>>())
}

fn holes(report: &Report) -> String {
    let rows = report.holes.iter().map(|hole| [hole.place.clone(), hole.why.clone()]);
    table(["HOLE", "WHY"], &rows.collect::<Vec<_>>())
}

fn word(ready: bool) -> String {
    if ready { "True" } else { "False" }.to_owned()
}
