//! Versions, as far as they say what goes with what.

/// Major and minor of a version such as `0.3.1` or `v1.37.1`.
pub(super) fn parse(text: &str) -> Option<(u32, u32)> {
    let mut numbers = text.trim_start_matches('v').split('.');
    Some((numbers.next()?.parse().ok()?, numbers.next()?.parse().ok()?))
}

/// How an operator and a sidecar of a pod go together.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Skew {
    /// The same version.
    Same,
    /// They work together: the sidecar is at most two minor versions older, or one newer.
    Supported,
    /// Nobody has tried it.
    Unsupported,
}

/// What two versions are to each other.
pub(super) fn skew(operator: &str, sidecar: &str) -> Skew {
    if operator == sidecar {
        return Skew::Same;
    }
    let (Some((major, minor)), Some((sidecar_major, sidecar_minor))) = (parse(operator), parse(sidecar)) else {
        return Skew::Unsupported;
    };
    let near = (minor.saturating_sub(2)..=minor + 1).contains(&sidecar_minor);
    if major == sidecar_major && near { Skew::Supported } else { Skew::Unsupported }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sidecars_may_be_two_versions_older_and_one_newer() {
        assert_eq!(skew("0.5.0", "0.5.0"), Skew::Same);
        for sidecar in ["0.3.9", "0.4.0", "0.5.1", "0.6.0"] {
            assert_eq!(skew("0.5.0", sidecar), Skew::Supported, "{sidecar}");
        }
        for sidecar in ["0.2.0", "0.7.0", "1.5.0", "", "main"] {
            assert_eq!(skew("0.5.0", sidecar), Skew::Unsupported, "{sidecar}");
        }
    }
}
