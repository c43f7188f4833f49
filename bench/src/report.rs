//! Medians, ratios, one table.

use std::{fmt::Write, time::Duration};

use crate::{
    load::{Protocol, Turn},
    pair::Between,
};

/// One case and all its turns.
pub(crate) struct Row {
    app: Protocol,
    between: Between,
    connections: u32,
    pub(crate) floor: Vec<Turn>,
    pub(crate) mesh: Vec<Turn>,
    /// p99 of the mesh and of the floor.
    pub(crate) latency: Option<(Duration, Duration)>,
}

impl Row {
    pub(crate) fn new(app: Protocol, between: Between, connections: u32) -> Self {
        Self { app, between, connections, floor: Vec::new(), mesh: Vec::new(), latency: None }
    }
}

fn median(turns: &[Turn], of: impl Fn(&Turn) -> f64) -> f64 {
    let mut values: Vec<f64> = turns.iter().map(of).collect();
    values.sort_by(f64::total_cmp);
    values.get(values.len() / 2).copied().unwrap_or(f64::NAN)
}

/// The table; CPU is of both proxies together, microseconds per answered request.
pub(crate) fn table(rows: &[Row], dpop: bool) -> String {
    let binding = if dpop { "DPoP-bound token" } else { "certificate-bound token" };
    let mut text = format!("\n{binding}; CPU us/request and MiB are of both proxies; medians; floor beside it\n");
    text.push_str(
        "apps  between  conns |  mesh us  floor us  ratio |  mesh/s  floor/s | mesh MiB  floor | p99 us mesh  floor\n",
    );
    for row in rows {
        let (mesh, floor) = (median(&row.mesh, |turn| turn.cpu_micros), median(&row.floor, |turn| turn.cpu_micros));
        let (slow, fast) = row.latency.unwrap_or_default();
        // Writing to a String cannot fail.
        let _ = writeln!(
            text,
            "{:<5} {:<8} {:>5} | {:>8.1} {:>9.1} {:>6.2} | {:>7.0} {:>8.0} | {:>8.1} {:>6.1} | {:>11} {:>6}",
            row.app.to_string(),
            row.between.to_string(),
            row.connections,
            mesh,
            floor,
            mesh / floor,
            median(&row.mesh, |turn| turn.rate),
            median(&row.floor, |turn| turn.rate),
            median(&row.mesh, |turn| turn.memory),
            median(&row.floor, |turn| turn.memory),
            slow.as_micros(),
            fast.as_micros(),
        );
    }
    text
}
