use crds::FapiClientSpec;
use crds::policy::AuthorizationDetail;
use fapi::{AuthorizationDetails, InvalidValue, WireDetail};

use super::{BodyProblem, ObjectId, all_or};
use crate::model::{ClientSpec, ClientTarget, Key};
use crate::source::object::body::policy::{constraint, detail};

/// The authorization details that are asked for; `None`: whatever is given.
fn details(asked: Vec<AuthorizationDetail>) -> Result<Option<AuthorizationDetails>, InvalidValue> {
    let asked: Vec<WireDetail> = asked.into_iter().map(detail).collect();
    let text = serde_json::to_string(&asked).unwrap_or_default();
    if asked.is_empty() { Ok(None) } else { AuthorizationDetails::parse(&text).map(Some) }
}

/// Reads a FapiClient: fills in namespaces, and refuses a Service named twice, however it is spelled.
pub(super) fn read(id: &ObjectId, spec: FapiClientSpec) -> Result<ClientSpec, Vec<BodyProblem>> {
    let own = id.key().namespace;
    let mut problems = Vec::new();
    let mut targets: Vec<ClientTarget> = Vec::new();
    for (position, target) in spec.targets.into_iter().enumerate() {
        let namespace = target.namespace.as_deref().unwrap_or(&own);
        let service = Key::new(namespace, &target.service_name);
        if targets.iter().any(|known| known.service == service) {
            let field = format!("spec.targets[{position}]");
            problems.push(BodyProblem::new(field, format!("{service} stands above"), "name each Service once"));
        }
        let sender_constraint = target.sender_constraint.map(constraint);
        let details = details(target.authorization_details).map_err(|error| {
            let field = format!("spec.targets[{position}].authorizationDetails");
            let remedy = "write only the common fields of RFC 9396, texts of 1 to 256 characters";
            problems.push(BodyProblem::new(field, error.to_string(), remedy));
        });
        targets.push(ClientTarget {
            service,
            scopes: target.scopes,
            details: details.unwrap_or(None),
            sender_constraint,
        });
    }
    all_or(ClientSpec { service_account: spec.service_account_name, targets }, problems)
}
