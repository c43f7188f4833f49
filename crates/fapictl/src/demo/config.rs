//! The documents of the demo's mesh: the bank of `examples/`, where its workloads run, and the rules that the
//! story changes.

use std::net::SocketAddr;
use std::path::PathBuf;

use crate::failure::Failure;
use crate::files::{self, Mode};

pub(crate) const TRUST_DOMAIN: &str = "bank.example";
/// Seconds. A certificate is renewed at two thirds of its life, a token at half.
pub(crate) const CERTIFICATE_SECONDS: u64 = 30;
pub(crate) const TOKEN_SECONDS: u64 = 9;

const MESH: &str = include_str!("../../../../examples/bank/mesh.yaml");
const CLIENTS: &str = include_str!("../../../../examples/bank/clients.yaml");
const POLICIES: &str = include_str!("../../../../examples/bank/policies.yaml");
const WORKLOADS: &str = include_str!("../../../../examples/bank/workloads.yaml");
const OUTSIDE: &str = include_str!("../../../../examples/bank/outside.yaml");

const CLIENTS_FILE: &str = "clients.yaml";
const PAYMENTS_FILE: &str = "payments.yaml";
/// An address that the example leaves open.
const OPEN: &str = "127.0.0.1:0";

/// Where one instance runs.
pub(crate) struct Place<'a> {
    /// The name of its Workload document.
    pub(crate) name: &'a str,
    pub(crate) inbound: SocketAddr,
    pub(crate) app: SocketAddr,
}

/// The folder that the operator watches.
pub(crate) struct Config {
    folder: PathBuf,
}

impl Config {
    /// Writes everything the mesh starts with.
    pub(crate) fn create(folder: PathBuf, places: &[Place<'_>]) -> Result<Self, Failure> {
        files::private_folder(&folder)?;
        let config = Self { folder };
        config.lifetimes(CERTIFICATE_SECONDS, TOKEN_SECONDS)?;
        config.write("workloads.yaml", &placed(WORKLOADS, places)?)?;
        config.write("outside.yaml", OUTSIDE)?;
        config.write("policies.yaml", POLICIES)?;
        config.write(CLIENTS_FILE, CLIENTS)?;
        config.payments(&Payments::default())?;
        Ok(config)
    }

    /// The documents of a mesh that somebody else has started.
    pub(crate) fn of_another(folder: PathBuf) -> Self {
        Self { folder }
    }

    /// Where it is.
    pub(crate) fn folder(&self) -> &std::path::Path {
        &self.folder
    }

    /// How long certificates and tokens live, in seconds.
    pub(crate) fn lifetimes(&self, certificate: u64, token: u64) -> Result<(), Failure> {
        self.write("mesh.yaml", &mesh(certificate, token))
    }

    /// Puts the rules of payments in force.
    pub(crate) fn payments(&self, payments: &Payments) -> Result<(), Failure> {
        self.write(PAYMENTS_FILE, &payments.document())
    }

    /// Lets shop's FapiClient list its scopes, instead of asking for whatever payments gives.
    pub(crate) fn shop_lists_scopes(&self) -> Result<(), Failure> {
        let listed = CLIENTS.replace(
            "{serviceName: payments}",
            r#"{serviceName: payments, scopes: ["transfers:write", "accounts:read"]}"#,
        );
        self.write(CLIENTS_FILE, &listed)
    }

    /// Lets payments call ledger for whoever called it, or for itself again.
    pub(crate) fn payments_hands_on(&self, hands_on: bool) -> Result<(), Failure> {
        let exchanging = CLIENTS.replace("{serviceName: ledger}", "{serviceName: ledger, grantType: TokenExchange}");
        self.write(CLIENTS_FILE, if hands_on { &exchanging } else { CLIENTS })
    }

    /// Revokes what the field `what` of a Revocation says, for much longer than any demo lasts.
    pub(crate) fn revoke(&self, name: &str, what: &str) -> Result<(), Failure> {
        let document = format!(
            "apiVersion: fapi-mesh.dev/v1alpha1\nkind: Revocation\nmetadata: {{name: {name}}}\n\
             spec:\n  {what}\n  expires: \"2100-01-01T00:00:00Z\"\n"
        );
        self.write(&format!("revoked-{name}.yaml"), &document)
    }

    /// Puts something in the place of payments' rules that is no document. Its name, for the problem list.
    pub(crate) fn break_payments(&self) -> Result<&'static str, Failure> {
        let broken = Payments::default().document().replace("methods: [POST]", "methods: [FETCH]");
        self.write(PAYMENTS_FILE, &broken)?;
        Ok(PAYMENTS_FILE)
    }

    fn write(&self, name: &str, text: &str) -> Result<(), Failure> {
        files::write(&self.folder.join(name), text.as_bytes(), Mode::Public)
    }
}

/// The rules of payments, as far as the story changes them.
pub(crate) struct Payments {
    pub(crate) mode: &'static str,
    pub(crate) caller: &'static str,
    /// The scope that a transfer needs.
    pub(crate) scope: &'static str,
}

impl Default for Payments {
    fn default() -> Self {
        Self { mode: "Enforce", caller: "shop", scope: "transfers:write" }
    }
}

impl Payments {
    fn document(&self) -> String {
        let Self { mode, caller, scope } = self;
        format!(
            r#"apiVersion: fapi-mesh.dev/v1alpha1
kind: FapiPolicy
metadata: {{name: payments, namespace: bank}}
spec:
  targetRefs: [{{name: payments}}]
  mode: {mode}
  rules:
  - methods: [POST]
    paths: [/transfers, /bank.Payments/Transfer]
    callers: [{{serviceAccountName: {caller}}}]
    scopes: ["{scope}"]
  - methods: [GET]
    paths: [/ws, /balance]
    callers: [{{serviceAccountName: {caller}}}]
    scopes: ["accounts:read"]
"#
        )
    }
}

/// The mesh of the example, with lifetimes of its own.
fn mesh(certificate: u64, token: u64) -> String {
    let lifetimes = format!("  certificateLifetime: {certificate}s\n  tokenLifetime: {token}s\n");
    format!("{}\n{lifetimes}", MESH.trim_end())
}

/// The Workload documents of the example, with the addresses that it leaves open.
fn placed(documents: &str, places: &[Place<'_>]) -> Result<String, Failure> {
    let mut all = Vec::new();
    for document in documents.split("---\n") {
        let place = places.iter().find(|place| document.contains(&format!("{{name: {},", place.name)));
        let text = match place {
            Some(place) => {
                document.replacen(OPEN, &place.inbound.to_string(), 1).replacen(OPEN, &place.app.to_string(), 1)
            }
            None => document.to_owned(),
        };
        if text.contains(OPEN) {
            return Err(Failure::new("a workload of the example has no place", "examples/bank", "give it one"));
        }
        all.push(text);
    }
    Ok(all.join("---\n"))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a failed test may panic")]

    use super::*;

    fn folder(name: &str) -> PathBuf {
        std::env::temp_dir().join(format!("fapictl-config-{name}-{}", std::process::id()))
    }

    #[test]
    fn every_open_address_of_the_example_gets_a_value() {
        let at = |port: u16| SocketAddr::from(([127, 0, 0, 1], port));
        let names = ["shop-1", "payments-1", "ledger-1", "intruder-1"];
        let places: Vec<Place<'_>> =
            names.iter().zip(1..).map(|(name, n)| Place { name, inbound: at(n), app: at(n + 100) }).collect();
        let config = Config::create(folder("all"), &places).unwrap();
        let read = |name: &str| std::fs::read_to_string(config.folder().join(name)).unwrap();
        assert!(read("workloads.yaml").contains(r#"address: "127.0.0.1:2", appAddress: "127.0.0.1:102""#));
        assert!(read("workloads.yaml").contains(r#"address: "127.0.0.1:4", appAddress: "127.0.0.1:104""#));
        assert!(read("mesh.yaml").contains("trustDomain: bank.example\n  certificateLifetime: 30s\n"));
        config.shop_lists_scopes().unwrap();
        assert!(read("clients.yaml").contains("accounts:read"), "the example has changed");
        config.payments_hands_on(true).unwrap();
        assert!(read("clients.yaml").contains("grantType"), "the example has changed");
        config.break_payments().unwrap();
        assert!(read("payments.yaml").contains("FETCH"));
        std::fs::remove_dir_all(config.folder()).unwrap();
        let few = places.get(..2).unwrap();
        assert!(placed(WORKLOADS, few).is_err(), "a workload without a place is a mistake");
    }
}
