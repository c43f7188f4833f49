//! The webhook configurations: all entries there, failing closed, with an authority to trust.

use fapi::UnixTime;
use k8s_openapi::api::admissionregistration::v1::{
    MutatingWebhookConfiguration, ValidatingWebhookConfiguration, WebhookClientConfig,
};
use operator::names;
use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject as _;

use super::finding::{Check, Finding, about, several};
use crate::cluster::Seen;

/// What matters of an entry, whatever the kind of its configuration.
struct Entry<'a> {
    name: &'a str,
    failure_policy: Option<&'a str>,
    bundle: &'a [u8],
}

/// The configuration that injects.
pub(super) fn injection(found: &Seen<MutatingWebhookConfiguration>) -> Vec<Finding> {
    let what = format!("MutatingWebhookConfiguration {}", names::OPERATOR);
    about(Check::InjectionWebhook, &what, found, |configuration| {
        let entries = configuration.webhooks.iter().flatten();
        let entries = entries.map(|entry| Entry {
            name: &entry.name,
            failure_policy: entry.failure_policy.as_deref(),
            bundle: bundle(&entry.client_config),
        });
        judge(Check::InjectionWebhook, &what, &names::INJECTORS, &entries.collect::<Vec<_>>())
    })
}

/// The configuration that validates.
pub(super) fn validation(found: &Seen<ValidatingWebhookConfiguration>) -> Vec<Finding> {
    let what = format!("ValidatingWebhookConfiguration {}", names::OPERATOR);
    about(Check::ValidationWebhook, &what, found, |configuration| {
        let entries = configuration.webhooks.iter().flatten();
        let entries = entries.map(|entry| Entry {
            name: &entry.name,
            failure_policy: entry.failure_policy.as_deref(),
            bundle: bundle(&entry.client_config),
        });
        judge(Check::ValidationWebhook, &what, &names::VALIDATORS, &entries.collect::<Vec<_>>())
    })
}

/// How long API servers trust the webhooks. Where no certificate is seen there is nothing to say: the checks before it do.
pub(super) fn certificate(
    injecting: &Seen<MutatingWebhookConfiguration>,
    validating: &Seen<ValidatingWebhookConfiguration>,
    now: UnixTime,
) -> Option<Finding> {
    let injecting =
        injecting.iter().flat_map(|found| found.webhooks.iter().flatten()).map(|entry| &entry.client_config);
    let validating =
        validating.iter().flat_map(|found| found.webhooks.iter().flatten()).map(|entry| &entry.client_config);
    // Any certificate of an entry will do, and every entry is needed.
    let end = injecting.chain(validating).filter_map(|config| end_of(bundle(config))).min()?;
    let remedy =
        "see that the operator runs: it makes another one in time, and its log says `pki` or `webhook` where it cannot";
    Some(match end.as_secs().checked_sub(now.as_secs()).map(|left| left / DAY) {
        None | Some(0) => {
            let found =
                "the authority in a caBundle has ended, or does so today: API servers ask the webhooks nothing then";
            Finding::failed(Check::WebhookCertificate, found, remedy)
        }
        Some(days) if days < SOON => {
            let found = format!("the authority in a caBundle ends in {days} days, and should have been replaced");
            Finding::warning(Check::WebhookCertificate, found, remedy)
        }
        Some(days) => {
            Finding::ok(Check::WebhookCertificate, format!("the authority in each caBundle lasts {days} days"))
        }
    })
}

/// When the last certificate of a PEM text ends.
fn end_of(pem: &[u8]) -> Option<UnixTime> {
    let certificates = CertificateDer::pem_slice_iter(pem).filter_map(Result::ok);
    certificates.filter_map(|certificate| control::identity::not_after(&certificate)).max()
}

/// Seconds.
const DAY: u64 = 24 * 3600;
/// Days. The operator makes another one when 121 are left.
const SOON: u64 = 90;

fn judge(check: Check, what: &str, wanted: &[&str], entries: &[Entry<'_>]) -> Vec<Finding> {
    let missing: Vec<&str> =
        wanted.iter().copied().filter(|wanted| !entries.iter().any(|entry| entry.name == *wanted)).collect();
    let mut findings = Vec::new();
    if !missing.is_empty() {
        let found = format!("{what} has no entry {}", several(&missing));
        findings.push(Finding::failed(check, found, "upgrade the chart fapi-mesh, or undo the change"));
    }
    let ours = || entries.iter().filter(|entry| wanted.contains(&entry.name));
    // The default of the API is Fail.
    let open: Vec<&str> =
        ours().filter(|entry| entry.failure_policy.is_some_and(|policy| policy != "Fail")).map(|e| e.name).collect();
    if !open.is_empty() {
        let found = format!("{what}: failurePolicy is not Fail in {}: what it cannot look at passes", several(&open));
        let remedy = "set it to Fail; the operator does so itself for what it validates, once it serves";
        findings.push(Finding::failed(check, found, remedy));
    }
    let untrusted: Vec<&str> = ours().filter(|entry| !are_certificates(entry.bundle)).map(|entry| entry.name).collect();
    if !untrusted.is_empty() {
        let found = format!("{what}: there is no caBundle with certificates in {}", several(&untrusted));
        let remedy = "see that the operator runs: it writes it, and its log says `webhook` where it cannot";
        findings.push(Finding::failed(check, found, remedy));
    }
    if findings.is_empty() {
        findings.push(Finding::ok(check, format!("{what} fails closed and has a caBundle")));
    }
    findings
}

fn bundle(config: &WebhookClientConfig) -> &[u8] {
    config.ca_bundle.as_ref().map(|bundle| bundle.0.as_slice()).unwrap_or_default()
}

/// Whether a PEM text has certificates, and nothing that cannot be read.
pub(super) fn are_certificates(pem: &[u8]) -> bool {
    let mut count = 0;
    let readable = CertificateDer::pem_slice_iter(pem).inspect(|_| count += 1).all(|certificate| certificate.is_ok());
    readable && count > 0
}
