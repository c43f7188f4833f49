//! `fapictl rotate-root`: asks the operator for another root of the mesh, by a name, and says what became of that.
//!
//! In a cluster the request is an entry of the ConfigMap that belongs to the operator's own namespace, and whoever may write
//! that may ask; on one machine it is a file of the operator's own folder. No port is opened for it.

use std::path::{Path, PathBuf};
use std::time::Duration;

use k8s_openapi::api::core::v1::ConfigMap;
use kube::api::{Api, Patch, PatchParams};
use operator::names::STATE;
use operator::rotation::{PROGRESS, Progress, REQUEST, Step, is_name};
use serde_json::json;

use crate::args::RotateArgs;
use crate::cluster::{Cluster, Seen, Unseen, ask};
use crate::failure::{Failure, OrFail};
use crate::files::{self, Mode};
use crate::{clock, wait};

/// The operator that leads looks every fifteen seconds; when it has just died, another one leads within twenty.
const TAKEN_WITHIN: Duration = Duration::from_secs(60);
const REMEDY: &str = "look at `fapictl status`, and ask again";

/// Asks for it.
pub(crate) async fn run(args: &RotateArgs) -> Result<(), Failure> {
    let name = args.name.clone().unwrap_or_else(|| format!("root-{}", clock::now()));
    if !is_name(&name) {
        return Err(Failure::new("no name of a rotation", name, "give 1 to 63 lower case letters, digits and -"));
    }
    let place = match &args.state {
        Some(state) => Place::Folder(state.clone()),
        None => Place::Cluster(Cluster::connect(&args.connection).await?, args.connection.operator_namespace.clone()),
    };
    let found = place.look().await?;
    match answer(&found, &name) {
        Answer::Known => {}
        Answer::Refused(why) => {
            return Err(Failure::new(why, place.name(), "wait until `fapictl status` says Removed"));
        }
        Answer::Ask => place.ask(&name, &found).await?,
    }
    let taken = wait::until(TAKEN_WITHIN, async || place.look().await.ok().and_then(|found| outcome(&found, &name)));
    match taken.await {
        Some(Ok(said)) => {
            println!("{said}");
            Ok(())
        }
        Some(Err(why)) => Err(Failure::new(why, place.name(), REMEDY)),
        None => Err(Failure::new(
            format!("{name} is asked for, and no operator has taken it"),
            place.name(),
            "see that an operator runs and what its log says; it takes the request when it can",
        )),
    }
}

/// How far the last rotation is, in the state folder of an operator; none if there never was one.
pub(crate) fn in_folder(state: &Path) -> Result<Option<Progress>, Failure> {
    let path = state.join("status").join(PROGRESS);
    if !state.is_dir() {
        return Err(Failure::new("there is no such folder", state.display(), "give the operator's --state"));
    }
    match std::fs::read_to_string(&path) {
        Ok(text) => read(&text).map(Some).or_fail("cannot read it", path.display(), "see what wrote it: no operator"),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(Failure::new(error, path.display(), "ask as the user whose operator it is")),
    }
}

/// How far the last rotation is, in a cluster; none if there never was one.
pub(crate) async fn in_cluster(cluster: &Cluster, namespace: &str) -> Seen<Option<Progress>> {
    match ask(maps(cluster, namespace).get(STATE)).await {
        Ok(map) => Ok(map.data.unwrap_or_default().get(PROGRESS).and_then(|text| read(text))),
        Err(Unseen::Absent) => Ok(None),
        Err(unseen) => Err(unseen),
    }
}

fn read(text: &str) -> Option<Progress> {
    serde_json::from_str(text).ok()
}

fn maps(cluster: &Cluster, namespace: &str) -> Api<ConfigMap> {
    Api::namespaced(cluster.client(), namespace)
}

/// Where an operator is asked.
enum Place {
    Folder(PathBuf),
    /// With the operator's namespace.
    Cluster(Cluster, String),
}

/// What stands there.
#[derive(Debug, Default)]
struct Found {
    progress: Option<Progress>,
    request: Option<String>,
    /// Of the ConfigMap.
    version: Option<String>,
}

/// What to do about a name.
#[derive(Debug, PartialEq)]
enum Answer {
    Ask,
    /// It was asked for, or has begun.
    Known,
    Refused(String),
}

impl Place {
    fn name(&self) -> String {
        match self {
            Self::Folder(state) => state.display().to_string(),
            Self::Cluster(_, namespace) => format!("ConfigMap {namespace}/{STATE}"),
        }
    }

    async fn look(&self) -> Result<Found, Failure> {
        match self {
            Self::Folder(state) => {
                let request = std::fs::read_to_string(state.join(REQUEST)).ok();
                let request = request.map(|text| text.trim().to_owned());
                Ok(Found { progress: in_folder(state)?, request, version: None })
            }
            Self::Cluster(cluster, namespace) => {
                let map = ask(maps(cluster, namespace).get(STATE)).await;
                let remedy = "you need to get and patch it; it is made by the operator: look at `fapictl check`";
                let map =
                    map.map_err(|unseen| Failure::new(unseen.said("what is known of the root"), self.name(), remedy))?;
                let mut data = map.data.unwrap_or_default();
                let progress = data.get(PROGRESS).and_then(|text| read(text));
                Ok(Found { progress, request: data.remove(REQUEST), version: map.metadata.resource_version })
            }
        }
    }

    /// Writes the request, if everything is as it was `found`.
    async fn ask(&self, name: &str, found: &Found) -> Result<(), Failure> {
        match self {
            Self::Folder(state) => files::write(&state.join(REQUEST), name.as_bytes(), Mode::Secret),
            Self::Cluster(cluster, namespace) => {
                let patch = json!({"metadata": {"resourceVersion": found.version}, "data": {REQUEST: name}});
                let maps = maps(cluster, namespace);
                let asked = ask(maps.patch(STATE, &PatchParams::default(), &Patch::Merge(patch))).await;
                let failed = |unseen: Unseen| Failure::new(unseen.said("it cannot be asked for"), self.name(), REMEDY);
                asked.map(drop).map_err(failed)
            }
        }
    }
}

fn answer(found: &Found, name: &str) -> Answer {
    let known = found.progress.as_ref();
    match (known, &found.request) {
        (Some(known), _) if known.name == name => Answer::Known,
        (Some(known), _) if known.step != Step::Removed => {
            Answer::Refused(format!("the rotation {} runs; its step is {:?}", known.name, known.step))
        }
        (_, Some(asked)) if asked == name => Answer::Known,
        (_, Some(asked)) => Answer::Refused(format!("the rotation {asked} is asked for and has not begun yet")),
        _ => Answer::Ask,
    }
}

/// What became of a request, once the operator has looked at it.
fn outcome(found: &Found, name: &str) -> Option<Result<String, String>> {
    let progress = found.progress.as_ref()?;
    let refused = progress.refused.as_ref().filter(|refused| refused.name == name && found.request.is_none());
    if let Some(refused) = refused {
        return Some(Err(format!("{name} is refused: {}", refused.why)));
    }
    let Progress { step, since, .. } = progress;
    (progress.name == name)
        .then(|| Ok(format!("{name}: {step:?} since {since}; `fapictl status` shows how it goes on")))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a failed test may panic")]

    use operator::rotation::Refused;

    use super::*;

    fn found(progress: Option<(&str, Step)>, request: Option<&str>) -> Found {
        let progress = progress.map(|(name, step)| Progress {
            name: name.to_owned(),
            step,
            since: "2026-11-28T16:00:00Z".to_owned(),
            sidecars: 3,
            followed: 1,
            oldest: None,
            waits_for: None,
            refused: None,
        });
        Found { progress, request: request.map(str::to_owned), version: None }
    }

    #[test]
    fn one_rotation_runs_at_a_time_and_the_same_may_be_asked_for_again() {
        for (progress, request, expected) in [
            (None, None, Answer::Ask),
            (None, Some("b"), Answer::Known),
            (Some(("a", Step::Removed)), None, Answer::Ask),
            (Some(("b", Step::Tainted)), None, Answer::Known),
            (Some(("b", Step::Removed)), None, Answer::Known),
        ] {
            assert_eq!(answer(&found(progress, request), "b"), expected);
        }
        for (progress, request, why) in [
            (Some(("a", Step::Active)), None, "the rotation a runs; its step is Active"),
            (None, Some("a"), "the rotation a is asked for and has not begun yet"),
        ] {
            assert_eq!(answer(&found(progress, request), "b"), Answer::Refused(why.to_owned()));
        }
    }

    #[test]
    fn an_outcome_is_told_once_the_operator_has_looked() {
        assert_eq!(outcome(&found(None, Some("b")), "b"), None);
        assert_eq!(outcome(&found(Some(("a", Step::Removed)), Some("b")), "b"), None);
        let begun = outcome(&found(Some(("b", Step::Prepared)), None), "b").unwrap().unwrap();
        assert!(begun.starts_with("b: Prepared since 2026-11-28T16:00:00Z"), "{begun}");
        let mut refused = found(Some(("a", Step::Active)), None);
        refused.progress.as_mut().unwrap().refused = Some(Refused { name: "b".to_owned(), why: "a runs".to_owned() });
        assert_eq!(outcome(&refused, "b"), Some(Err("b is refused: a runs".to_owned())));
    }
}
