use std::net::IpAddr;

use serde::{Deserialize, Serialize};

use super::compile::{Report, check_path};
use crate::{path::normal_path, value::Network};

/// What somebody outside the mesh may get without certificate and token: for scrapers.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct WireExemption {
    /// The number of the pod's port; never 0.
    pub port: u16,
    /// Paths, compared whole; 1 to 8.
    pub paths: Vec<String>,
    /// Networks of those who may ask, in CIDR notation; 1 to 8.
    pub sources: Vec<String>,
}

/// All exemptions of a policy, compiled.
#[derive(Debug, Default)]
pub(crate) struct Exemptions(Vec<Exemption>);

#[derive(Debug)]
struct Exemption {
    port: u16,
    paths: Vec<Box<str>>,
    sources: Vec<Network>,
}

impl Exemptions {
    pub(super) fn compile(report: &mut Report, wire: &[WireExemption]) -> Self {
        if wire.len() > MOST {
            report.add("exempt", "want at most 8");
        }
        let mut all = Vec::new();
        for (index, exemption) in wire.iter().enumerate() {
            let field = |name: &str| format!("exempt[{index}].{name}");
            if exemption.port == 0 {
                report.add(&field("port"), "want the number of a port, 1 to 65535");
            }
            for (name, list) in [("paths", &exemption.paths), ("sources", &exemption.sources)] {
                report.need(&field(name), list);
                if list.len() > MOST {
                    report.add(&field(name), "want at most 8");
                }
            }
            report.each(&field("paths"), &exemption.paths, check_path);
            let sources = report.each(&field("sources"), &exemption.sources, Network::parse);
            let paths = exemption.paths.iter().map(|path| path.as_str().into()).collect();
            all.push(Exemption { port: exemption.port, paths, sources });
        }
        Self(all)
    }

    /// Whether anything is exempt at this port for somebody at this address.
    pub(crate) fn are_for(&self, port: u16, source: IpAddr) -> bool {
        self.of(port, source).next().is_some()
    }

    /// Whether exactly this is.
    pub(crate) fn admit(&self, port: u16, source: IpAddr, path: &str) -> bool {
        normal_path(path).is_ok() && self.of(port, source).any(|one| one.paths.iter().any(|known| **known == *path))
    }

    fn of(&self, port: u16, source: IpAddr) -> impl Iterator<Item = &Exemption> {
        let here = self.0.iter().filter(move |one| one.port == port);
        here.filter(move |one| one.sources.iter().any(|network| network.contains(source)))
    }
}

const MOST: usize = 8;
