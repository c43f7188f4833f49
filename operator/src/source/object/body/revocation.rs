use crds::revocation::{IssuedId, RevocationSpec};
use fapi::{CertThumbprint, InvalidValue, Issuer, Revocation, Revoked, SpiffeId, UnixTime};
use k8s_openapi::jiff::Timestamp;

use super::BodyProblem;

/// Reads a Revocation.
pub(super) fn read(spec: RevocationSpec) -> Result<Revocation, Vec<BodyProblem>> {
    let mut problems = Vec::new();
    let issued_before = spec.issued_before.as_ref().and_then(|text| time("issuedBefore", text, &mut problems));
    let expires = time("expires", &spec.expires, &mut problems);
    let named = [
        spec.token.map(|token| ("token", issued(token).map(|(issuer, id)| Revoked::Token { issuer, id }))),
        spec.certificate.map(|text| ("certificate", CertThumbprint::parse(&text).map(Revoked::Certificate))),
        spec.pod_uid.map(|uid| ("podUid", Ok(Revoked::Pod(uid.into())))),
        spec.spiffe_id.map(|id| ("spiffeId", SpiffeId::parse(&id).map(Revoked::SpiffeId))),
        spec.client.map(|client| ("client", issued(client).map(|(issuer, id)| Revoked::Client { issuer, id }))),
    ];
    let mut named = named.into_iter().flatten();
    let revoked = match (named.next(), named.next()) {
        (Some((field, revoked)), None) => revoked.map_err(|error| problems.push(problem(field, &error))).ok(),
        _ => {
            let remedy = "give one of token, certificate, podUid, spiffeId and client";
            problems.push(BodyProblem::new("spec", "a revocation is of one thing", remedy));
            None
        }
    };
    let (Some(revoked), Some(expires), true) = (revoked, expires, problems.is_empty()) else { return Err(problems) };
    // What else could be wrong, the schema has said already.
    Revocation::new(revoked, issued_before, expires).map_err(|error| vec![problem("issuedBefore", &error)])
}

fn issued(id: IssuedId) -> Result<(Issuer, std::sync::Arc<str>), InvalidValue> {
    Ok((Issuer::parse(&id.issuer)?, id.id.into()))
}

fn problem(field: &str, error: &InvalidValue) -> BodyProblem {
    BodyProblem::new(format!("spec.{field}"), format!("not a valid {}", error.what), error.problem)
}

fn time(field: &str, text: &str, problems: &mut Vec<BodyProblem>) -> Option<UnixTime> {
    let read = text.parse::<Timestamp>().ok().and_then(|time| u64::try_from(time.as_second()).ok());
    if read.is_none() {
        let remedy = "write it in UTC, such as 2026-12-31T23:59:59Z";
        problems.push(BodyProblem::new(format!("spec.{field}"), format!("{text:?} is no time"), remedy));
    }
    read.map(UnixTime::from_secs)
}
