//! Everything that is ever told as an Event. `docs/operating.md` shows this table, and a test compares.

/// Why there is an Event.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Reason {
    /// Pods of it get a sidecar.
    Injected,
    /// A pod of it asked for a sidecar and starts without.
    InjectionSkipped,
    /// A pod of it asked for a sidecar, may not have one, and does not start.
    InjectionRefused,
    /// It got no certificate.
    EnrolmentRefused,
    /// It enrolled once more as if it had no certificate.
    EnrolmentRepeated,
    /// Nobody gets a certificate.
    IssuingFailed,
    /// A change of it was refused.
    ChangeRefused,
    /// It is not in force as it stands.
    NotInForce,
}

impl Reason {
    /// All of them, as they are documented.
    #[cfg(test)]
    pub(super) const ALL: [Self; 8] = [
        Self::Injected,
        Self::InjectionSkipped,
        Self::InjectionRefused,
        Self::EnrolmentRefused,
        Self::EnrolmentRepeated,
        Self::IssuingFailed,
        Self::ChangeRefused,
        Self::NotInForce,
    ];

    /// The stable name.
    pub(super) const fn id(self) -> &'static str {
        match self {
            Self::Injected => "Injected",
            Self::InjectionSkipped => "InjectionSkipped",
            Self::InjectionRefused => "InjectionRefused",
            Self::EnrolmentRefused => "EnrolmentRefused",
            Self::EnrolmentRepeated => "EnrolmentRepeated",
            Self::IssuingFailed => "IssuingFailed",
            Self::ChangeRefused => "ChangeRefused",
            Self::NotInForce => "NotInForce",
        }
    }

    /// What the operator was about to do.
    pub(super) const fn action(self) -> &'static str {
        match self {
            Self::Injected | Self::InjectionSkipped | Self::InjectionRefused => "Inject",
            Self::EnrolmentRefused | Self::EnrolmentRepeated | Self::IssuingFailed => "Enrol",
            Self::ChangeRefused | Self::NotInForce => "Validate",
        }
    }

    /// `Normal` for what is as it should be, `Warning` for what somebody should look at.
    pub(super) const fn severity(self) -> &'static str {
        match self {
            Self::Injected | Self::InjectionSkipped => "Normal",
            Self::InjectionRefused
            | Self::EnrolmentRefused
            | Self::EnrolmentRepeated
            | Self::IssuingFailed
            | Self::ChangeRefused
            | Self::NotInForce => "Warning",
        }
    }

    /// Whether it is told how often it happened. What is as it should be is told once, by whichever operator is first.
    pub(super) fn is_counted(self) -> bool {
        !matches!(self, Self::Injected | Self::NotInForce)
    }

    /// Whether it is told because of what somebody says who has not shown who he is: a review may be invented.
    pub(super) fn is_of_a_review(self) -> bool {
        matches!(self, Self::Injected | Self::InjectionSkipped | Self::InjectionRefused | Self::ChangeRefused)
    }

    /// What it is told of, and when.
    #[cfg(test)]
    const fn manual(self) -> [&'static str; 2] {
        match self {
            Self::Injected => ["the pod's owner", "its pods get a sidecar; told once, not for each pod"],
            Self::InjectionSkipped => {
                ["the pod's owner", "a pod asked for a sidecar and starts without, with the [reason](injection.md)"]
            }
            Self::InjectionRefused => {
                ["the pod's owner", "a pod was refused, with all [reasons](injection.md) and what to do"]
            }
            Self::EnrolmentRefused => {
                ["the Pod", "it got no certificate, with the reason of the log's line `enrolment`"]
            }
            Self::EnrolmentRepeated => [
                "the Pod",
                "it has a certificate and enrolled as if it had none: its sidecar restarted, or somebody has its token",
            ],
            Self::IssuingFailed => {
                ["the Pod", "the operator could not make its certificate, nor that of any other pod"]
            }
            Self::ChangeRefused => ["the object of ours", "the webhook refused a change of it"],
            Self::NotInForce => [
                "the object of ours",
                "it does not compile: its last good version is in force, or it closes what it targets",
            ],
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a failed step fails the test")]

    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn the_manual_shows_every_reason() {
        let manual = std::fs::read_to_string(concat!(env!("CARGO_MANIFEST_DIR"), "/../docs/operating.md")).unwrap();
        let row = |reason: Reason| {
            let [object, when] = reason.manual();
            format!("| `{}` | {} | {object} | {when} |\n", reason.id(), reason.severity())
        };
        let table: String = Reason::ALL.into_iter().map(row).collect();
        let shown = manual.split_once("### Events\n").and_then(|(_, rest)| rest.split_once("|---|---|---|---|\n"));
        let shown = shown.and_then(|(_, rest)| rest.split_once("\n\n")).map_or("", |(table, _)| table);
        assert_eq!(format!("{shown}\n"), table, "write this table into docs/operating.md:\n{table}");
    }

    #[test]
    fn each_has_a_name_of_its_own() {
        let ids: BTreeSet<&str> = Reason::ALL.iter().map(|reason| reason.id()).collect();
        assert_eq!(ids.len(), Reason::ALL.len());
        assert!(ids.iter().all(|id| id.bytes().all(|byte| byte.is_ascii_alphabetic()) && id.len() <= 128));
    }
}
