//! The load: wrk for HTTP/1.1, h2load for HTTP/2, both from Debian.

use std::{fmt, fs, process::Command, time::Duration};

use clap::ValueEnum;

use crate::{Failure, pair::Pair};

/// What the apps speak.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum Protocol {
    H1,
    H2,
}

impl fmt::Display for Protocol {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::H1 => "h1",
            Self::H2 => "h2",
        })
    }
}

/// One way to load a pair.
pub(crate) struct Load {
    pub(crate) app: Protocol,
    pub(crate) connections: u32,
    pub(crate) seconds: u32,
    pub(crate) core: u32,
}

/// What one turn showed.
#[derive(Clone, Copy)]
pub(crate) struct Turn {
    /// CPU of both proxies per answered request.
    pub(crate) cpu_micros: f64,
    /// Answered requests a second.
    pub(crate) rate: f64,
    /// Resident memory of both proxies, MiB.
    pub(crate) memory: f64,
}

impl Load {
    /// One second, so that connections, tokens and caches are there.
    pub(crate) fn warm(&self, pair: &Pair) -> Result<(), Failure> {
        self.run(pair, 1).map(drop)
    }

    /// One turn.
    pub(crate) fn measure(&self, pair: &Pair) -> Result<Turn, Failure> {
        let before = pair.cpu()?;
        let answered = self.run(pair, self.seconds)?;
        let spent = pair.cpu()?.saturating_sub(before);
        Ok(Turn {
            cpu_micros: spent.as_secs_f64() * 1e6 / answered,
            rate: answered / f64::from(self.seconds),
            memory: pair.memory()?,
        })
    }

    /// The number of answered requests; one that failed is an error.
    fn run(&self, pair: &Pair, seconds: u32) -> Result<f64, Failure> {
        match self.app {
            Protocol::H1 => self.wrk(pair, seconds),
            Protocol::H2 => self.h2load(pair, &["-D", &seconds.to_string()]),
        }
    }

    fn tool(&self, name: &str) -> Command {
        let mut command = Command::new("taskset");
        command.args(["-c", &self.core.to_string(), name]);
        command
    }

    fn wrk(&self, pair: &Pair, seconds: u32) -> Result<f64, Failure> {
        let script = pair.folder().join("absolute.lua");
        // An explicit proxy is asked with the whole URL.
        fs::write(&script, format!("wrk.path = \"{}\"\n", pair.url()))?;
        let output = self
            .tool("wrk")
            .args(["-t1", &format!("-c{}", self.connections), &format!("-d{seconds}s"), "-s"])
            .arg(&script)
            .arg(format!("http://{}/", pair.outbound()))
            .output()?;
        let text = String::from_utf8_lossy(&output.stdout);
        if text.contains("Non-2xx") || text.contains("Socket errors") || !output.status.success() {
            return Err(format!("wrk met failures:\n{text}{}", String::from_utf8_lossy(&output.stderr)).into());
        }
        let count = text.lines().find_map(|line| line.trim().split_once(" requests in ")).ok_or("wrk said no count")?.0;
        Ok(count.parse()?)
    }

    fn h2load(&self, pair: &Pair, extra: &[&str]) -> Result<f64, Failure> {
        let output = self
            .tool("h2load")
            .args(["-t1", "-m1", &format!("-c{}", self.connections), &format!("--connect-to={}", pair.outbound())])
            .args(extra)
            .arg(pair.url())
            .output()?;
        let text = String::from_utf8_lossy(&output.stdout);
        let field = |name: &str| {
            let line = text.lines().find(|line| line.starts_with("requests:"))?;
            let words = line.trim_start_matches("requests:").split(',').map(str::trim);
            words.filter_map(|word| word.split_once(' ')).find(|(_, what)| *what == name)?.0.parse::<f64>().ok()
        };
        let good =
            text.lines().find_map(|line| line.strip_prefix("status codes: ")?.split_once(" 2xx")?.0.parse().ok());
        match (field("succeeded"), field("failed"), good) {
            (Some(succeeded), Some(0.0), Some(good)) if f64::abs(succeeded - good) < 0.5 => Ok(good),
            _ => Err(format!("h2load met failures:\n{text}").into()),
        }
    }

    /// p99 at 2,000 requests a second over all connections, HTTP/2 apps.
    pub(crate) fn p99(&self, pair: &Pair) -> Result<Duration, Failure> {
        let log = pair.folder().join("latency.tsv");
        let _ = fs::remove_file(&log);
        let rate = (2000 / self.connections).max(1).to_string();
        let log_flag = format!("--log-file={}", log.display());
        self.h2load(pair, &["-D", &self.seconds.to_string(), "--rps", &rate, &log_flag])?;
        let mut micros: Vec<u64> =
            fs::read_to_string(&log)?.lines().filter_map(|line| line.split('\t').nth(2)?.parse().ok()).collect();
        micros.sort_unstable();
        let at = micros.len() * 99 / 100;
        micros.get(at).copied().map(Duration::from_micros).ok_or_else(|| "h2load logged nothing".into())
    }
}
