//! What a policy in `Audit` let pass, summed over pods.

use std::cmp::Reverse;
use std::collections::BTreeMap;

use crds::policy::{RefusedCaller, WouldRefuse};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;

use super::condition::timestamp;
use crate::audits::Counted;

/// Reasons and callers that are shown.
const TOP: usize = 5;

/// The sum; `None` if nothing was counted.
pub(super) fn sum<'a>(counted: impl IntoIterator<Item = &'a Counted>) -> Option<WouldRefuse> {
    let (mut since, mut sums, mut count) = (None, BTreeMap::<_, u64>::new(), 0_u64);
    for counted in counted {
        since = since.into_iter().chain([counted.since()]).min();
        for line in counted.callers() {
            let sum = sums.entry((line.reason.as_str(), line.caller.as_str())).or_default();
            *sum = sum.saturating_add(line.count);
            count = count.saturating_add(line.count);
        }
    }
    let mut top: Vec<_> = sums.into_iter().filter(|(_, count)| *count > 0).collect();
    // It is stable: of those that are equal, the first by name comes first.
    top.sort_by_key(|(_, count)| Reverse(*count));
    let shown = |((reason, caller), count): ((&str, &str), u64)| RefusedCaller {
        reason: reason.to_owned(),
        caller: caller.to_owned(),
        count: number(count),
    };
    let since = since.filter(|_| count > 0)?;
    let top = top.into_iter().take(TOP).map(shown).collect();
    Some(WouldRefuse { since: Time(timestamp(since)), count: number(count), top })
}

/// As a status has it.
fn number(count: u64) -> i64 {
    i64::try_from(count).unwrap_or(i64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::audits::tests::counted;
    use crate::testing::NOW;

    #[test]
    fn counts_of_pods_are_added_and_the_most_frequent_come_first() {
        let one =
            counted("bank/p", NOW.plus(60), &[("token_missing", "web/checkout", 4), ("token_expired", "web/a", 9)]);
        let other = counted("bank/p", NOW, &[("token_missing", "web/checkout", 5), ("scope_insufficient", "other", 1)]);
        let sum = sum([&one, &other]).unwrap();
        let top: Vec<_> = sum.top.iter().map(|line| (&*line.reason, &*line.caller, line.count)).collect();
        let expected =
            [("token_expired", "web/a", 9), ("token_missing", "web/checkout", 9), ("scope_insufficient", "other", 1)];
        assert_eq!((sum.count, &top[..]), (19, &expected[..]));
        assert_eq!(sum.since.0.to_string(), "2027-01-15T08:00:00Z", "of the first that counts");
    }

    #[test]
    fn no_more_than_five_are_shown_and_all_are_counted() {
        let names: Vec<String> = (0..9).map(|number| format!("web/a{number}")).collect();
        let lines: Vec<_> = names.iter().map(|name| ("r", name.as_str(), u64::MAX)).collect();
        let sum = sum([&counted("bank/p", NOW, &lines)]).unwrap();
        assert_eq!((sum.top.len(), sum.count), (5, i64::MAX));
        assert_eq!(sum.top[0].caller, "web/a0");
    }

    #[test]
    fn nothing_is_nothing() {
        assert_eq!(sum([]), None);
        assert_eq!(sum([&counted("bank/p", NOW, &[("r", "other", 0)])]), None);
    }
}
