//! Where a rotation is asked for and told of: files of the state folder, or entries of the ConfigMap that belongs to the
//! operator's own namespace.

use std::fs;
use std::path::PathBuf;
use std::time::Duration;

use super::judge::Pace;
use super::progress::Progress;
use crate::files::{self, FileError, PUBLIC};
use crate::kubernetes::Desk;

/// What a rotation is asked for by: a file of the state folder, or an entry of the ConfigMap. Its content is the name.
pub const REQUEST: &str = "rotate-root";
/// Where it is told how far it is: `status/rotation.json` of the state folder, or an entry of the ConfigMap.
pub const PROGRESS: &str = "rotation.json";

/// Whether a rotation may be called so.
pub fn is_name(text: &str) -> bool {
    let is_good = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'-';
    (1..=63).contains(&text.len()) && text.bytes().all(is_good)
}

/// Where.
pub(crate) struct Place {
    home: Home,
    /// What people were told last.
    shown: Option<Progress>,
}

enum Home {
    /// This state folder.
    Folder(PathBuf),
    /// The operator's namespace.
    Cluster(Desk),
}

impl Place {
    pub(crate) fn folder(state: PathBuf) -> Self {
        Self { home: Home::Folder(state), shown: None }
    }

    pub(crate) fn cluster(desk: Desk) -> Self {
        Self { home: Home::Cluster(desk), shown: None }
    }

    pub(super) fn is_cluster(&self) -> bool {
        matches!(self.home, Home::Cluster(_))
    }

    /// How often it is looked at: often while it goes on, and by whoever `leads` and may be asked to begin.
    pub(super) fn pause(&self, leads: bool, goes_on: bool) -> Duration {
        Duration::from_secs(match self.home {
            Home::Folder(_) => 2,
            Home::Cluster(_) if goes_on => 5,
            Home::Cluster(_) if leads => 15,
            // Others hear of what is written.
            Home::Cluster(_) => 30,
        })
    }

    pub(super) fn pace(&self) -> Pace {
        match self.home {
            Home::Folder(_) => Pace { prepared: Duration::ZERO, other: Duration::ZERO, unused: Duration::ZERO },
            Home::Cluster(_) => Pace {
                prepared: Duration::from_secs(120),
                other: Duration::from_secs(30),
                unused: Duration::from_secs(3600),
            },
        }
    }

    /// The name of a rotation that is asked for.
    pub(super) fn request(&self) -> Result<Option<String>, FileError> {
        let text = match &self.home {
            Home::Folder(state) => {
                let bytes = files::read_optional(&state.join(REQUEST))?;
                bytes.map(|bytes| String::from_utf8_lossy(&bytes).into_owned())
            }
            Home::Cluster(desk) => desk.recorded(REQUEST)?,
        };
        Ok(text.map(|text| text.trim().to_owned()))
    }

    /// It was taken, or refused.
    pub(super) fn remove_request(&self) -> Result<(), FileError> {
        match &self.home {
            Home::Folder(state) => files::remove_if_there(&state.join(REQUEST)),
            Home::Cluster(desk) => desk.record(REQUEST, None),
        }
    }

    /// Tells people how far it is, if that is new.
    pub(super) fn show(&mut self, progress: &Progress) -> Result<(), FileError> {
        if self.shown.as_ref() == Some(progress) {
            return Ok(());
        }
        self.shown = None;
        // Texts and numbers under texts: it can always be written.
        let json = serde_json::to_string_pretty(progress).unwrap_or_default();
        match &self.home {
            Home::Folder(state) => {
                let path = state.join("status");
                fs::create_dir_all(&path).map_err(FileError::io("create", &path))?;
                files::replace(&path.join(PROGRESS), json.as_bytes(), PUBLIC)?;
            }
            Home::Cluster(desk) => desk.record(PROGRESS, Some(&json))?,
        }
        self.shown = Some(progress.clone());
        Ok(())
    }
}
