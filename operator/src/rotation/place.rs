//! Where a rotation is asked for and told of: files of the state folder, or entries of the ConfigMap that belongs to the
//! operator's own namespace.

use std::collections::{BTreeMap, HashMap};
use std::fs;
use std::path::PathBuf;
use std::time::Duration;

use fapi::UnixTime;
use serde::{Deserialize, Serialize};

use super::judge::Pace;
use super::progress::Progress;
use super::streams::Heard;
use crate::files::{self, FileError, PUBLIC};
use crate::kubernetes::Desk;
use crate::pki::Roots;

/// What a rotation is asked for by: a file of the state folder, or an entry of the ConfigMap. Its content is the name.
pub const REQUEST: &str = "rotate-root";
/// Where it is told how far it is: `status/rotation.json` of the state folder, or an entry of the ConfigMap.
pub const PROGRESS: &str = "rotation.json";
/// What other operators tell the leader: an entry of each.
const TOLD: &str = "rotation.told.";
/// What is told is told again this often,
const AGAIN: u64 = 10;
/// and what was not told again for so long is not so any more.
const LASTS: u64 = 45;

/// Whether a rotation may be called so.
pub fn is_name(text: &str) -> bool {
    let is_good = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'-';
    (1..=63).contains(&text.len()) && text.bytes().all(is_good)
}

/// Where.
pub(crate) enum Place {
    /// This state folder.
    Folder(Box<Folder>),
    /// The operator's namespace.
    Cluster(Box<Namespace>),
}

/// A state folder.
pub(crate) struct Folder {
    state: PathBuf,
    shown: Option<Progress>,
}

/// The namespace of several operators.
pub(crate) struct Namespace {
    desk: Desk,
    /// The entry of this process.
    own: String,
    last: Option<(Told, UnixTime)>,
    shown: Option<Progress>,
    /// Whether what operators have told is removed.
    is_clean: bool,
    /// What others told, and when that was new.
    heard: HashMap<String, (String, UnixTime)>,
}

/// What one operator tells of the sidecars that it hears, measured by the roots that it has.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Told {
    digest: String,
    signer: String,
    /// Changes, so that it is seen to be new.
    at: u64,
    sidecars: BTreeMap<String, Heard>,
}

impl Told {
    pub(super) fn of(roots: &Roots, heard: HashMap<String, Heard>, now: UnixTime) -> Self {
        let (digest, signer) = (roots.digest.clone(), signer(roots));
        Self { digest, signer, at: now.as_secs(), sidecars: heard.into_iter().collect() }
    }

    /// What it means to somebody with these roots.
    fn heard(self, roots: &Roots) -> impl Iterator<Item = (String, Heard)> {
        let (same_roots, same_signer) = (self.digest == roots.digest, self.signer == signer(roots));
        self.sidecars.into_iter().map(move |(uid, heard)| {
            let Heard { trusts, renewed, refused, .. } = heard;
            let refused = refused.filter(|_| same_roots);
            (uid, Heard { connected: true, trusts: trusts && same_roots, renewed: renewed && same_signer, refused })
        })
    }
}

fn signer(roots: &Roots) -> String {
    roots.signer.iter().map(|byte| format!("{byte:02x}")).collect()
}

impl Place {
    pub(crate) fn folder(state: PathBuf) -> Self {
        Self::Folder(Box::new(Folder { state, shown: None }))
    }

    /// `me` is a name that no other process has.
    pub(crate) fn cluster(desk: Desk, me: &str) -> Self {
        let own = format!("{TOLD}{me}");
        Self::Cluster(Box::new(Namespace {
            desk,
            own,
            last: None,
            shown: None,
            is_clean: false,
            heard: HashMap::new(),
        }))
    }

    pub(super) fn is_cluster(&self) -> bool {
        matches!(self, Self::Cluster(_))
    }

    /// How often it is looked at: often by whoever may be asked, and while somebody waits.
    pub(super) fn pause(&self, is_busy: bool) -> Duration {
        Duration::from_secs(match self {
            Self::Folder(_) => 2,
            Self::Cluster(_) if is_busy => 5,
            // Others hear of what is written.
            Self::Cluster(_) => 30,
        })
    }

    pub(super) fn pace(&self) -> Pace {
        match self {
            Self::Folder(_) => Pace { prepared: Duration::ZERO, other: Duration::ZERO },
            Self::Cluster(_) => Pace { prepared: Duration::from_secs(120), other: Duration::from_secs(30) },
        }
    }

    /// The name of a rotation that is asked for.
    pub(super) fn request(&self) -> Result<Option<String>, FileError> {
        let text = match self {
            Self::Folder(folder) => {
                let bytes = files::read_optional(&folder.state.join(REQUEST))?;
                bytes.map(|bytes| String::from_utf8_lossy(&bytes).into_owned())
            }
            Self::Cluster(namespace) => namespace.desk.recorded(REQUEST)?,
        };
        Ok(text.map(|text| text.trim().to_owned()))
    }

    /// It was taken, or refused.
    pub(super) fn remove_request(&self) -> Result<(), FileError> {
        match self {
            Self::Folder(folder) => files::remove_if_there(&folder.state.join(REQUEST)),
            Self::Cluster(namespace) => namespace.desk.record(REQUEST, None),
        }
    }

    /// Tells people how far it is, if that is new.
    pub(super) fn show(&mut self, progress: &Progress) -> Result<(), FileError> {
        let shown = match self {
            Self::Folder(folder) => &mut folder.shown,
            Self::Cluster(namespace) => &mut namespace.shown,
        };
        if shown.as_ref() == Some(progress) {
            return Ok(());
        }
        *shown = None;
        // Texts and numbers under texts: it can always be written.
        let json = serde_json::to_string_pretty(progress).unwrap_or_default();
        match self {
            Self::Folder(folder) => {
                let path = folder.state.join("status");
                fs::create_dir_all(&path).map_err(FileError::io("create", &path))?;
                files::replace(&path.join(PROGRESS), json.as_bytes(), PUBLIC)?;
                folder.shown = Some(progress.clone());
            }
            Self::Cluster(namespace) => {
                namespace.desk.record(PROGRESS, Some(&json))?;
                (namespace.shown, namespace.is_clean) = (Some(progress.clone()), false);
            }
        }
        Ok(())
    }

    /// Tells the leader what we hear, if that is new or was told long ago.
    pub(super) fn tell(&mut self, told: &Told, now: UnixTime) -> Result<(), FileError> {
        let Self::Cluster(namespace) = self else { return Ok(()) };
        let same =
            |last: &Told| last.digest == told.digest && last.signer == told.signer && last.sidecars == told.sidecars;
        let is_known = namespace.last.as_ref().is_some_and(|(last, at)| same(last) && now < at.plus(AGAIN));
        if !is_known {
            let json = serde_json::to_string(told).unwrap_or_default();
            namespace.desk.record(&namespace.own, Some(&json))?;
            namespace.last = Some((told.clone(), now));
        }
        Ok(())
    }

    /// What other operators hear, by the uid of the pod.
    pub(super) fn told(&mut self, roots: &Roots, now: UnixTime) -> Result<Vec<(String, Heard)>, FileError> {
        let Self::Cluster(namespace) = self else { return Ok(Vec::new()) };
        let mut all = namespace.desk.records()?;
        all.retain(|name, _| name.starts_with(TOLD) && *name != namespace.own);
        namespace.heard.retain(|name, _| all.contains_key(name));
        for (name, text) in all {
            let known = namespace.heard.get(&name).is_some_and(|(known, _)| *known == text);
            if !known {
                namespace.heard.insert(name, (text, now));
            }
        }
        let fresh = namespace.heard.values().filter(|(_, at)| now < at.plus(LASTS));
        // What cannot be read is of another version: its sidecars have said nothing.
        let read = fresh.filter_map(|(text, _)| serde_json::from_str::<Told>(text).ok());
        Ok(read.flat_map(|told| told.heard(roots)).collect())
    }

    /// Nobody needs to be told any more: removes what operators have told.
    pub(super) fn forget_told(&mut self) -> Result<(), FileError> {
        let Self::Cluster(namespace) = self else { return Ok(()) };
        if namespace.is_clean {
            return Ok(());
        }
        for name in namespace.desk.records()?.keys().filter(|name| name.starts_with(TOLD)) {
            namespace.desk.record(name, None)?;
        }
        namespace.heard.clear();
        namespace.is_clean = true;
        Ok(())
    }
}
