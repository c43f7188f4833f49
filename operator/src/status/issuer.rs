//! The status of a FapiIssuer. Its keys are fetched by the sidecars, so it says only what the operator knows.

use crds::conditions::{READY, reason};
use crds::issuer::FapiIssuerStatus;

use super::condition::Conditions;
use super::documents::Facts;
use crate::model::Issuer;

pub(super) fn status(facts: &Facts<'_>, name: &str, issuer: &Issuer) -> FapiIssuerStatus {
    let conditions = Conditions { generation: issuer.generation, now: facts.now };
    let fails = |reason, message| conditions.fails(READY, reason, message);
    let ready = match (&issuer.spec, &issuer.fault) {
        (None, fault) => {
            let fault = fault.as_deref().unwrap_or_default();
            fails(reason::INVALID, format!("no version of it was ever good, so it admits nothing: {fault}"))
        }
        (Some(_), Some(fault)) => fails(reason::INVALID, format!("the last good version stays in force: {fault}")),
        (Some(spec), None) if spec.server.issuer == facts.issuer.issuer => {
            let message =
                "this is the mesh's own issuer, which policies name as mesh; it admits nothing under this name";
            fails(reason::CONFLICTED, message.to_owned())
        }
        (Some(spec), None) => match facts.view.index().issuers().holder(name, &spec.server.issuer) {
            Some(holder) => {
                let message = format!("{holder} has the same issuer and is older; remove one of them, or merge them");
                fails(reason::CONFLICTED, message)
            }
            None => conditions.ready([]),
        },
    };
    FapiIssuerStatus { conditions: vec![ready] }
}
