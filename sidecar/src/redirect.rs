//! `fapi-sidecar redirect`: the rules that bring every call of a pod to its sidecar.
//!
//! Runs once, as the first init container of a pod, and sets one nftables table (family `inet`, so IPv4 and IPv6 stand or
//! fall together) in the network namespace that it finds itself in. The whole table is replaced in one transaction: running
//! it again changes nothing, and there is no moment with half of the rules. Then it reads back what the kernel has.

mod attributes;
mod netlink;
mod rules;
mod settings;

use std::io;

pub use settings::{Passed, RedirectArgs, Transport};

use netlink::Netlink;
use rules::{Chain, TABLE};

/// Why the rules are not in force.
#[derive(Debug, thiserror::Error)]
pub enum RedirectError {
    /// The file that names the resolvers cannot be read.
    #[error("--resolv-conf {file}: {source}; give the resolver configuration of the pod")]
    Resolvers {
        /// The file.
        file: String,
        /// Why not.
        source: io::Error,
    },
    /// The kernel cannot be spoken to.
    #[error("no netlink socket to the kernel's packet filter: {0}; a kernel with nf_tables is needed")]
    Socket(#[source] io::Error),
    /// The kernel does not do what it was told. Nothing of it is in force.
    #[error(
        "the kernel refuses {what}: {source}; run it as uid 0 with the capability NET_ADMIN, on a kernel with nf_tables, \
         NAT and conntrack for IPv4 and IPv6"
    )]
    Refused {
        /// The part that it refuses.
        what: String,
        /// Why.
        source: io::Error,
    },
    /// The kernel answers what netlink does not allow.
    #[error(
        "the kernel's answer about {0} cannot be read; this is a defect, please report it with the kernel's version"
    )]
    Unreadable(&'static str),
    /// What is in force is not what should be.
    #[error("{0}; set the rules again with `fapi-sidecar redirect`, before the app starts")]
    Differs(String),
}

/// Sets the rules, or only looks at them, and says what is in force.
///
/// # Errors
/// See [`RedirectError`]; after any of them the pod must not start.
pub fn redirect(args: &RedirectArgs) -> Result<String, RedirectError> {
    let chains = rules::chains(&args.settings()?);
    let mut netlink = Netlink::open().map_err(RedirectError::Socket)?;
    if !args.check {
        netlink.replace(&chains)?;
    }
    netlink.check(&chains)?;
    Ok(text(&chains))
}

/// The rules as `nft list table inet fapi` would spell them.
fn text(chains: &[Chain]) -> String {
    let mut text = format!("table inet {TABLE} is in force\n");
    for chain in chains {
        text += &format!("chain {}\n", chain.name);
        for rule in &chain.rules {
            text += &format!("  {}\n", rule.text);
        }
    }
    text
}
