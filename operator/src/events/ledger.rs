//! What was told, what is written of it, and what is to be written next. Pure: time is an argument.
//!
//! The same of the same object is one line. The first time is written at once; how often it happened since is written once a
//! minute, as a series. A line that nobody adds to is forgotten when the API server forgets its Event.

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;
use std::time::Duration;

use fapi::UnixTime;

use super::quota::Quota;
use super::{About, Reason};
use crate::crypto;

/// Lines at one time: some megabytes at most.
const ROOM: usize = 4096;
/// How long an API server keeps an Event, seconds.
const LIFE: u64 = 3600;
/// How often a count is written, seconds.
const SERIES: u64 = 60;
/// What an API server takes as a note, bytes.
const NOTE: usize = 1024;
/// Of a name, so that it can be told apart and is still one.
const NAME: usize = 200;

/// One thing that is told: of what, why, and in which words.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Told {
    pub(super) about: About,
    pub(super) reason: Reason,
    pub(super) note: String,
}

/// What stands in the ledger of it.
#[derive(Clone, Debug)]
struct Line {
    /// What its Event is called.
    name: String,
    last: UnixTime,
    count: u32,
    /// The count that is written; nothing is, if it is 0.
    written: u32,
    written_at: UnixTime,
}

/// What was told, of a bounded number of things.
#[derive(Debug, Default)]
pub(super) struct Ledger {
    lines: BTreeMap<Arc<Told>, Line>,
    /// What is written for the first time, in its order.
    fresh: VecDeque<Arc<Told>>,
    /// What may still be told because of reviews.
    quota: Quota,
    dropped: u64,
}

/// What is to be done.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Due {
    /// An Event is to be made, or its series is to be written.
    Write(Entry),
    /// Nothing before so much time has passed.
    Later(Duration),
    /// Nothing before something is told.
    Nothing,
}

/// What an Event says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Entry {
    pub(super) told: Arc<Told>,
    pub(super) name: String,
    /// How often it was told, and when the last time.
    pub(super) count: u32,
    pub(super) last: UnixTime,
    /// Whether there is no Event of it yet.
    pub(super) is_new: bool,
}

impl Told {
    /// Something that is told; of words that are too many, the first ones.
    pub(super) fn new(about: About, reason: Reason, mut note: String) -> Self {
        note.truncate(note.floor_char_boundary(NOTE));
        Self { about, reason, note }
    }

    /// The name of its Event. What is told once has the same name whoever tells it, so it stands there once; what is counted has
    /// another for every count.
    fn name(&self) -> String {
        let About { api_version, kind, namespace, name, uid } = &self.about;
        let salt: [u8; 16] = if self.reason.is_counted() { crypto::random() } else { [0; 16] };
        let parts = [api_version, kind, namespace, name, uid, self.reason.id(), &self.note];
        let text = parts.map(str::as_bytes).into_iter().chain([&salt[..]]).collect::<Vec<_>>().join(&0);
        let name = name.get(..NAME).unwrap_or(name).trim_end_matches(['.', '-']);
        format!("{name}.{}", crypto::sha256_hex(&text).get(..16).unwrap_or_default())
    }
}

impl Ledger {
    /// Takes what is told. True if something may have become due.
    pub(super) fn tell(&mut self, told: Told, now: UnixTime) -> bool {
        if let Some(line) = self.lines.get_mut(&told)
            && (line.written == 0 || line.last.plus(LIFE) > now)
        {
            // What waits to be written waits for its time.
            let waits = line.count > line.written;
            (line.count, line.last) = (line.count.saturating_add(1), now);
            return told.reason.is_counted() && !waits;
        }
        let may = !told.reason.is_of_a_review() || self.quota.take(&told.about.namespace, now);
        if !may || self.lines.len() >= ROOM && !self.make_room(now) {
            self.dropped += 1;
            return false;
        }
        let told = Arc::new(told);
        let line = Line { name: told.name(), last: now, count: 1, written: 0, written_at: now };
        self.lines.insert(told.clone(), line);
        self.fresh.push_back(told);
        true
    }

    /// What is to be done now. Whatever is to be written counts as written.
    pub(super) fn next(&mut self, now: UnixTime) -> Due {
        while let Some(told) = self.fresh.pop_front() {
            if let Some(line) = self.lines.get_mut(&told) {
                return Due::Write(line.write(told, now));
            }
        }
        let waiting = |(told, line): &(&Arc<Told>, &mut Line)| told.reason.is_counted() && line.count > line.written;
        let first = self.lines.iter_mut().filter(waiting).min_by_key(|(_, line)| line.written_at);
        let Some((told, line)) = first else { return Due::Nothing };
        match line.written_at.plus(SERIES).as_secs().saturating_sub(now.as_secs()) {
            0 => Due::Write(line.write(told.clone(), now)),
            seconds => Due::Later(Duration::from_secs(seconds)),
        }
    }

    /// There is no such Event any more: it is made anew.
    pub(super) fn lost(&mut self, told: &Arc<Told>) {
        if let Some(line) = self.lines.get_mut(told) {
            (line.written, line.name) = (0, told.name());
            self.fresh.push_back(told.clone());
        }
    }

    /// It could not be written: whoever tells it again begins anew.
    pub(super) fn failed(&mut self, told: &Arc<Told>) {
        self.lines.remove(told);
    }

    /// What found no room, or was too much for its namespace.
    pub(super) fn dropped(&self) -> u64 {
        self.dropped
    }

    /// Forgets what the API server has forgotten too, or else what nobody has added to for the longest time.
    fn make_room(&mut self, now: UnixTime) -> bool {
        self.lines.retain(|_, line| line.written == 0 || line.last.plus(LIFE) > now);
        if self.lines.len() < ROOM {
            return true;
        }
        let settled = |(told, line): &(&Arc<Told>, &Line)| {
            line.written > 0 && (line.written == line.count || !told.reason.is_counted())
        };
        let oldest = self.lines.iter().filter(settled).min_by_key(|(_, line)| line.last);
        let oldest = oldest.map(|(told, _)| told.clone());
        oldest.is_some_and(|told| self.lines.remove(&told).is_some())
    }
}

impl Line {
    fn write(&mut self, told: Arc<Told>, now: UnixTime) -> Entry {
        let is_new = self.written == 0;
        (self.written, self.written_at) = (self.count, now);
        Entry { told, name: self.name.clone(), count: self.count, last: self.last, is_new }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::NOW;

    fn told(name: &str, reason: Reason) -> Told {
        let about = About { name: name.to_owned(), kind: "Job".to_owned(), ..About::default() };
        Told::new(about, reason, "because".to_owned())
    }

    /// Count and newness of what is written now; `None` if nothing is.
    fn written(ledger: &mut Ledger, now: UnixTime) -> Option<(u32, bool)> {
        match ledger.next(now) {
            Due::Write(entry) => Some((entry.count, entry.is_new)),
            Due::Later(_) | Due::Nothing => None,
        }
    }

    #[test]
    fn the_first_is_written_at_once_and_the_rest_as_a_series_once_a_minute() {
        let mut ledger = Ledger::default();
        assert_eq!(ledger.next(NOW), Due::Nothing);
        assert!(ledger.tell(told("a", Reason::InjectionRefused), NOW));
        assert_eq!(written(&mut ledger, NOW), Some((1, true)));
        for _ in 0..1000 {
            ledger.tell(told("a", Reason::InjectionRefused), NOW.plus(20));
        }
        assert_eq!(ledger.next(NOW.plus(20)), Due::Later(Duration::from_secs(40)));
        assert_eq!(written(&mut ledger, NOW.plus(60)), Some((1001, false)));
        assert_eq!(ledger.next(NOW.plus(600)), Due::Nothing, "nothing happens, nothing is written");
        assert_eq!(ledger.dropped(), 0);
    }

    #[test]
    fn what_is_as_it_should_be_is_told_once_and_under_one_name() {
        let mut ledger = Ledger::default();
        assert!(ledger.tell(told("a", Reason::Injected), NOW));
        assert_eq!(written(&mut ledger, NOW), Some((1, true)));
        assert!(!ledger.tell(told("a", Reason::Injected), NOW.plus(5)));
        assert_eq!(ledger.next(NOW.plus(300)), Due::Nothing);
        let names = |reason| [told("a", reason).name(), told("a", reason).name()];
        let [one, other] = names(Reason::Injected);
        assert_eq!(one, other);
        let [one, other] = names(Reason::EnrolmentRepeated);
        assert_ne!(one, other);
        // When the Event is gone, what happens then is news.
        assert!(ledger.tell(told("a", Reason::Injected), NOW.plus(5 + LIFE)));
        assert_eq!(written(&mut ledger, NOW.plus(5 + LIFE)), Some((1, true)));
    }

    #[test]
    fn what_is_lost_is_made_anew_and_what_failed_is_forgotten() {
        let mut ledger = Ledger::default();
        ledger.tell(told("a", Reason::EnrolmentRefused), NOW);
        let Due::Write(first) = ledger.next(NOW) else { panic!("nothing is due") };
        ledger.tell(told("a", Reason::EnrolmentRefused), NOW);
        assert_eq!(written(&mut ledger, NOW.plus(SERIES)), Some((2, false)));
        ledger.lost(&first.told);
        let Due::Write(again) = ledger.next(NOW.plus(SERIES)) else { panic!("nothing is due") };
        assert!(again.is_new && again.count == 2 && again.name != first.name);
        ledger.failed(&first.told);
        assert_eq!(ledger.next(NOW.plus(2 * SERIES)), Due::Nothing);
        assert!(ledger.tell(told("a", Reason::EnrolmentRefused), NOW.plus(2 * SERIES)));
    }

    #[test]
    fn there_is_room_for_so_many_and_what_finds_none_is_counted() {
        let mut ledger = Ledger::default();
        for number in 0..ROOM {
            assert!(ledger.tell(told(&number.to_string(), Reason::EnrolmentRefused), NOW.plus(number as u64)));
        }
        let late = NOW.plus(ROOM as u64);
        assert!(!ledger.tell(told("one more", Reason::EnrolmentRefused), late));
        assert_eq!((ledger.dropped(), ledger.lines.len()), (1, ROOM));
        // What is written and silent makes room, the longest silent first.
        assert_eq!(written(&mut ledger, late), Some((1, true)));
        assert_eq!(written(&mut ledger, late), Some((1, true)));
        ledger.tell(told("0", Reason::EnrolmentRefused), late);
        assert!(ledger.tell(told("one more", Reason::EnrolmentRefused), late));
        assert!(ledger.lines.contains_key(&told("0", Reason::EnrolmentRefused)));
        assert!(!ledger.lines.contains_key(&told("1", Reason::EnrolmentRefused)));
        assert_eq!((ledger.dropped(), ledger.lines.len()), (1, ROOM));
    }

    #[test]
    fn reviews_tell_so_much_in_a_namespace_and_no_more_where_nothing_of_it_can_be_written() {
        let mut ledger = Ledger::default();
        let tell = |ledger: &mut Ledger, reason| {
            let all = (0..100).filter(|number| ledger.tell(told(&number.to_string(), reason), NOW)).count();
            while let Due::Write(entry) = ledger.next(NOW) {
                ledger.failed(&entry.told);
            }
            all
        };
        assert_eq!(tell(&mut ledger, Reason::InjectionRefused), 60);
        assert_eq!(tell(&mut ledger, Reason::ChangeRefused), 0);
        assert_eq!(tell(&mut ledger, Reason::EnrolmentRefused), 100, "whoever enrols has shown who it is");
        assert_eq!(ledger.dropped(), 140);
    }

    #[test]
    fn words_and_names_have_bounds() {
        let about = About { name: format!("{}.a", "a".repeat(NAME - 1)), ..About::default() };
        let told = Told::new(about, Reason::NotInForce, "ä".repeat(NOTE));
        assert_eq!(told.note.len(), NOTE);
        let name = told.name();
        assert!(name.len() <= 253 && !name.contains(".."), "{name}");
    }
}
