use crds::FapiClientSpec;

use super::{BodyProblem, ObjectId, all_or};
use crate::model::{ClientSpec, ClientTarget, Key};
use crate::source::object::body::policy::constraint;

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
        targets.push(ClientTarget { service, scopes: target.scopes, sender_constraint });
    }
    all_or(ClientSpec { service_account: spec.service_account_name, targets }, problems)
}
