//! Medians, ratios, one table.

use std::{fmt, time::Duration};

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

fn median(values: impl Iterator<Item = f64>) -> f64 {
    let mut values: Vec<f64> = values.collect();
    values.sort_by(f64::total_cmp);
    values.get(values.len() / 2).copied().unwrap_or(f64::NAN)
}

/// What stands above the rows. CPU is of both proxies together, microseconds per answered request.
pub(crate) fn head(dpop: bool) -> String {
    let binding = if dpop { "DPoP-bound token" } else { "certificate-bound token" };
    format!(
        "\n{binding}; CPU us/request and MiB are of both proxies; medians of the rounds, the ratio too; floor beside it
apps  between  conns |  mesh us  floor us  ratio |  mesh/s  floor/s | mesh MiB  floor | p99 us mesh  floor\n"
    )
}

impl fmt::Display for Row {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mesh = |of: fn(&Turn) -> f64| median(self.mesh.iter().map(of));
        let floor = |of: fn(&Turn) -> f64| median(self.floor.iter().map(of));
        // Two turns of one round met the same machine.
        let ratio = median(self.mesh.iter().zip(&self.floor).map(|(mesh, floor)| mesh.cpu_micros / floor.cpu_micros));
        let (slow, fast) = self.latency.unwrap_or_default();
        write!(
            f,
            "{:<5} {:<8} {:>5} | {:>8.1} {:>9.1} {:>6.2} | {:>7.0} {:>8.0} | {:>8.1} {:>6.1} | {:>11} {:>6}",
            self.app.to_string(),
            self.between.to_string(),
            self.connections,
            mesh(|turn| turn.cpu_micros),
            floor(|turn| turn.cpu_micros),
            ratio,
            mesh(|turn| turn.rate),
            floor(|turn| turn.rate),
            mesh(|turn| turn.memory),
            floor(|turn| turn.memory),
            slow.as_micros(),
            fast.as_micros(),
        )
    }
}
