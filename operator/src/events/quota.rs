//! How much is told because of reviews. Whoever reaches the webhooks can have reviews of things that never happened.

use std::collections::BTreeMap;

use fapi::UnixTime;

/// Things that are told for the first time in a namespace within a minute.
const A_MINUTE: u32 = 60;
const MINUTE: u64 = 60;
/// Namespaces that are counted at one time.
const NAMESPACES: usize = 4096;

/// What was told in each namespace, in its minute.
#[derive(Debug, Default)]
pub(super) struct Quota(BTreeMap<String, Minute>);

#[derive(Debug)]
struct Minute {
    began: UnixTime,
    told: u32,
}

impl Quota {
    /// Whether one more thing may be told in a namespace. If so, it counts.
    pub(super) fn take(&mut self, namespace: &str, now: UnixTime) -> bool {
        let is_over = |minute: &Minute| minute.began.plus(MINUTE) <= now;
        if self.0.len() >= NAMESPACES {
            self.0.retain(|_, minute| !is_over(minute));
        }
        let has_room = self.0.len() < NAMESPACES;
        match self.0.get_mut(namespace) {
            Some(minute) if !is_over(minute) => {
                let may = minute.told < A_MINUTE;
                minute.told += u32::from(may);
                may
            }
            None if !has_room => false,
            _ => {
                self.0.insert(namespace.to_owned(), Minute { began: now, told: 1 });
                true
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::NOW;

    #[test]
    fn each_namespace_has_so_many_in_a_minute() {
        let mut quota = Quota::default();
        let mut told = |namespace: &str, now| (0..100).filter(|_| quota.take(namespace, now)).count();
        assert_eq!(told("bank", NOW), 60);
        assert_eq!((told("bank", NOW.plus(59)), told("web", NOW.plus(59))), (0, 60));
        assert_eq!(told("bank", NOW.plus(60)), 60);
    }

    #[test]
    fn so_many_namespaces_are_counted_and_those_of_before_make_room() {
        let mut quota = Quota::default();
        for number in 0..NAMESPACES {
            assert!(quota.take(&number.to_string(), NOW));
        }
        assert!(!quota.take("one more", NOW) && quota.take("0", NOW));
        assert!(quota.take("one more", NOW.plus(MINUTE)));
        assert_eq!(quota.0.len(), 1);
    }
}
