//! What keeps the images of our containers in pods that run as injection made them.

use k8s_openapi::api::admissionregistration::v1::{ValidatingAdmissionPolicy, ValidatingAdmissionPolicyBinding};
use operator::names;

use super::finding::{Check, Finding, about};
use crate::cluster::Seen;

/// The policy, and what puts it in force. One without the other does nothing.
pub(super) fn judge(
    policy: &Seen<ValidatingAdmissionPolicy>,
    binding: &Seen<ValidatingAdmissionPolicyBinding>,
) -> Vec<Finding> {
    let check = Check::ImagePolicy;
    let named = |kind: &str| format!("{kind} {}", names::IMAGES);
    let remedy = "upgrade the chart fapi-mesh, or undo the change: whoever may update pods could have another program enrol as the pod";
    let mut findings = about(check, &named("ValidatingAdmissionPolicy"), policy, |policy| {
        let fails =
            policy.spec.as_ref().and_then(|spec| spec.failure_policy.as_deref()).is_none_or(|how| how == "Fail");
        let found = format!("{}: failurePolicy is not Fail", named("ValidatingAdmissionPolicy"));
        (!fails).then(|| Finding::failed(check, found, remedy)).into_iter().collect()
    });
    findings.extend(about(check, &named("ValidatingAdmissionPolicyBinding"), binding, |binding| {
        let spec = &binding.spec;
        let denies = spec.validation_actions.iter().any(|action| action == "Deny");
        let everywhere = spec.match_resources.is_none();
        let found = format!("{} does not deny, or not everywhere", named("ValidatingAdmissionPolicyBinding"));
        (!(denies && everywhere)).then(|| Finding::failed(check, found, remedy)).into_iter().collect()
    }));
    if findings.is_empty() {
        findings.push(Finding::ok(check, format!("{} denies other images", named("ValidatingAdmissionPolicy"))));
    }
    findings
}
