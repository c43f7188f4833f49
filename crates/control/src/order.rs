//! Which of two snapshots is older.

/// What the operator knew when it made a snapshot.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Order {
    /// Grows with every change of the desired state, as one operator sees it. Between operators of a cluster it says little: one
    /// that lags in one kind of objects may be ahead in another.
    pub number: u64,
    /// The resource version up to which each kind of objects was known, always in the same sequence of kinds, which only grows at
    /// its end. Empty where the desired state is no cluster.
    pub versions: Vec<u64>,
}

impl Order {
    /// Whether something was known to `other` that was not known here: this must not take its place.
    ///
    /// An operator or a sidecar from before the versions tells a number only, and is compared by that.
    #[must_use]
    pub fn is_behind(&self, other: &Self) -> bool {
        if self.versions.is_empty() || other.versions.is_empty() {
            return self.number < other.number;
        }
        self.versions.iter().zip(&other.versions).any(|(own, other)| own < other)
    }
}

/// An order of numbers alone.
impl From<u64> for Order {
    fn from(number: u64) -> Self {
        Self { number, versions: Vec::new() }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn order(number: u64, versions: &[u64]) -> Order {
        Order { number, versions: versions.to_vec() }
    }

    #[test]
    fn what_lags_in_one_kind_is_behind() {
        let [policy, pods] = [order(2005, &[1005, 1000]), order(2400, &[1000, 1400])];
        assert!(pods.is_behind(&policy), "for all that it knows of pods");
        assert!(policy.is_behind(&pods));
        let both = order(9, &[1005, 1400]);
        assert!(!both.is_behind(&policy) && !both.is_behind(&pods) && !both.is_behind(&both));
        assert!(pods.is_behind(&both));
    }

    #[test]
    fn numbers_count_where_one_side_has_no_versions() {
        for (own, other) in [(order(7, &[]), order(8, &[1])), (order(7, &[9]), order(8, &[])), (7.into(), 8.into())] {
            assert!(own.is_behind(&other) && !other.is_behind(&own), "{own:?} {other:?}");
        }
    }

    #[test]
    fn a_kind_that_only_one_side_knows_says_nothing() {
        assert!(!order(1, &[5]).is_behind(&order(2, &[5, 9])));
        assert!(!order(1, &[5, 9]).is_behind(&order(2, &[5])));
    }
}
