//! The models.

use std::{
    pin::pin,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
};

use loom::{future::block_on, thread};

use super::{
    answers::{Answers, Question},
    awaited::found,
    cells::Cells,
    sync::{Mutex, Notify},
};

/// A place for one answer, as a token or a destination has it.
#[derive(Default)]
struct Place {
    answer: Mutex<Option<u32>>,
    changed: Notify,
}

impl Place {
    fn publish(&self, answer: u32) {
        *self.answer.lock().unwrap() = Some(answer);
        self.changed.notify_waiters();
    }

    fn get(&self) -> Option<u32> {
        *self.answer.lock().unwrap()
    }
}

#[test]
fn whoever_waits_finds_the_answer_whenever_it_comes() {
    loom::model(|| {
        let place = Arc::new(Place::default());
        let other = place.clone();
        let waiter = thread::spawn(move || block_on(found(&other.changed, || other.get())));
        place.publish(7);
        assert_eq!(waiter.join().unwrap(), 7);
    });
}

#[test]
fn an_answer_that_does_not_fit_is_no_end_of_waiting() {
    loom::model(|| {
        let place = Arc::new(Place::default());
        let other = place.clone();
        let writer = thread::spawn(move || {
            other.publish(1);
            other.publish(2);
        });
        let answer = block_on(found(&place.changed, || place.get().filter(|answer| *answer == 2)));
        assert_eq!(answer, 2);
        writer.join().unwrap();
    });
}

/// Shows that a notice which is lost is found here: one that looks first can have seen nothing and be told nothing.
#[test]
fn looking_before_waiting_can_miss_it() {
    static MISSED: AtomicBool = AtomicBool::new(false);
    loom::model(|| {
        let place = Arc::new(Place::default());
        let other = place.clone();
        let writer = thread::spawn(move || other.publish(7));
        if place.get().is_none() {
            let told = pin!(place.changed.notified()).enable();
            MISSED.fetch_or(!told && place.get().is_some(), Ordering::Relaxed);
        }
        writer.join().unwrap();
    });
    assert!(MISSED.load(Ordering::Relaxed));
}

#[test]
fn a_name_that_several_need_is_asked_for_once() {
    loom::model(|| {
        let cells = Arc::new(Cells::<Place>::new(8));
        let askers: Vec<_> = (0..2)
            .map(|_| {
                let cells = cells.clone();
                thread::spawn(move || cells.cell("a.b").unwrap())
            })
            .collect();
        block_on(cells.added());
        assert_eq!(cells.take_new(), ["a.b".into()]);
        let places: Vec<_> = askers.into_iter().map(|asker| asker.join().unwrap()).collect();
        assert!(Arc::ptr_eq(&places[0], &places[1]));
        assert!(cells.take_new().is_empty());
    });
}

#[test]
fn a_stream_hears_of_every_name() {
    loom::model(|| {
        let cells = Arc::new(Cells::<Place>::new(8));
        let other = cells.clone();
        let asker = thread::spawn(move || ["a.b", "c.d"].map(|name| drop(other.cell(name))));
        let mut heard = Vec::new();
        while heard.len() < 2 {
            block_on(cells.added());
            heard.extend(cells.take_new());
        }
        heard.sort_unstable();
        assert_eq!(heard, ["a.b".into(), "c.d".into()]);
        asker.join().unwrap();
    });
}

#[test]
fn a_new_stream_asks_for_everything_and_for_nothing_twice() {
    loom::model(|| {
        let cells = Arc::new(Cells::<Place>::new(8));
        let old = cells.cell("a.b").unwrap();
        let other = cells.clone();
        let asker = thread::spawn(move || drop(other.cell("c.d")));
        let mut asked = cells.take_all();
        asker.join().unwrap();
        asked.extend(cells.take_new());
        asked.sort_unstable();
        assert_eq!(asked, ["a.b".into(), "c.d".into()]);
        drop(old);
    });
}

#[test]
fn what_is_in_use_is_not_swept_and_gets_its_answer() {
    loom::model(|| {
        let cells = Arc::new(Cells::<Place>::new(8));
        let other = cells.clone();
        let asker = thread::spawn(move || {
            let place = other.cell("a.b").unwrap();
            let answer = block_on(found(&place.changed, || place.get()));
            (place, answer)
        });
        cells.sweep();
        block_on(cells.added());
        for name in cells.take_new() {
            cells.get(&name).unwrap().publish(7);
        }
        let (place, answer) = asker.join().unwrap();
        assert_eq!(answer, 7);
        cells.sweep();
        assert!(Arc::ptr_eq(&place, &cells.cell("a.b").unwrap()));
        drop(place);
        cells.sweep();
        assert_eq!(cells.len(), 0);
    });
}

#[test]
fn the_last_place_is_given_once() {
    loom::model(|| {
        let cells = Arc::new(Cells::<Place>::new(1));
        let other = cells.clone();
        let asker = thread::spawn(move || other.cell("a.b").is_some());
        let here = cells.cell("c.d").is_some();
        assert_ne!(asker.join().unwrap(), here);
        assert_eq!(cells.len(), 1);
    });
}

type Known = Answers<u32, u32, u32>;

/// Needs the answer to `key`, no worse than `least`; if this is the one to ask, `answer` gets the question.
fn need(known: &Known, key: u32, least: u32, answer: impl FnOnce(Question<u32>)) -> Option<u32> {
    block_on(known.get(key, 0, |answer| *answer >= least, answer).given())
}

/// Asks for `key`, where nobody has.
fn asked(known: &Known, key: u32) -> Question<u32> {
    let mut question = None;
    known.get(key, 0, |_| true, |asked| question = Some(asked));
    question.unwrap()
}

#[test]
fn what_two_need_at_once_is_asked_once_and_answered_to_both() {
    loom::model(|| {
        let known = Arc::new(Known::new(8));
        // What is no longer good is as what is not known.
        asked(&known, 1).answer(1);
        let needs = |known: &Known| {
            let mut question = None;
            (known.get(1, 0, |answer| *answer >= 2, |asked| question = Some(asked)), question)
        };
        let other = known.clone();
        let other = thread::spawn(move || needs(&other));
        let ((here, asked_here), (there, asked_there)) = (needs(&known), other.join().unwrap());
        let [question] = <[_; 1]>::try_from(Vec::from_iter(asked_here.into_iter().chain(asked_there))).ok().unwrap();
        question.answer(2);
        assert_eq!([block_on(here.given()), block_on(there.given())], [Some(2), Some(2)]);
    });
}

#[test]
fn whoever_needs_what_was_asked_gets_the_answer_whenever_it_comes() {
    loom::model(|| {
        let known = Arc::new(Known::new(8));
        let question = asked(&known, 1);
        let other = known.clone();
        let other = thread::spawn(move || need(&other, 1, 0, drop));
        question.answer(7);
        assert_eq!(other.join().unwrap(), Some(7));
    });
}

#[test]
fn whoever_waits_for_an_answer_that_nobody_gives_is_told_or_asks_anew() {
    loom::model(|| {
        let known = Arc::new(Known::new(8));
        let question = asked(&known, 1);
        let other = known.clone();
        let other = thread::spawn(move || need(&other, 1, 0, |question| question.answer(9)));
        drop(question);
        let told = other.join().unwrap();
        assert!(told.is_none() || told == Some(9));
        assert_eq!(need(&known, 1, 0, |question| question.answer(9)), Some(9), "it is forgotten");
    });
}

#[test]
fn whoever_loses_the_place_gets_the_answer_all_the_same() {
    loom::model(|| {
        let known = Arc::new(Known::new(1));
        let mut question = None;
        let waiting = known.get(1, 0, |_| true, |asked| question = Some(asked));
        let other = known.clone();
        let other = thread::spawn(move || need(&other, 2, 0, |question| question.answer(9)));
        question.unwrap().answer(7);
        assert_eq!((block_on(waiting.given()), other.join().unwrap()), (Some(7), Some(9)));
    });
}
