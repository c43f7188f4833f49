//! What the tasks of one thread share without locks.

use std::{
    cell::Cell,
    hash::{BuildHasher as _, RandomState},
    pin::pin,
    rc::Rc,
    sync::Arc,
};

use http::{HeaderMap, HeaderValue};

use crate::{
    headers::INTERACTION_ID,
    log::{Direction, LogBuffer},
    state::Shared,
};

/// The state of one data worker, or of the control thread.
pub(crate) struct Local {
    pub(crate) shared: Arc<Shared>,
    pub(crate) log: Rc<LogBuffer>,
    ids: Cell<u64>,
}

impl Local {
    /// The state of this thread, which must be inside a `LocalSet`: the log is flushed by a task of it.
    pub(crate) fn new(shared: Arc<Shared>) -> Rc<Self> {
        let log = Rc::new(LogBuffer::new(Arc::clone(&shared)));
        tokio::task::spawn_local(Rc::clone(&log).keep_flushing());
        Rc::new(Self { shared, log, ids: Cell::new(RandomState::new().hash_one(0_u8)) })
    }

    /// The id of a call: the one that came with it if it is one UUID, else a new one (RFC 9562, version 4). It names the
    /// call in logs and guards nothing.
    pub(crate) fn interaction_id(&self, headers: &HeaderMap) -> HeaderValue {
        let mut given = headers.get_all(INTERACTION_ID).iter();
        let mut id = match (given.next(), given.next()) {
            (Some(id), None) if is_uuid(id.as_bytes()) => id.clone(),
            _ => {
                let random = u128::from(self.next_random()) << 64 | u128::from(self.next_random());
                // Digits and dashes are a legal value.
                HeaderValue::from_bytes(&uuid_text(random)).unwrap_or(HeaderValue::from_static(""))
            }
        };
        // No secret, but no value comes twice: HTTP/2 must not fill its table of headers with them, nor search it.
        id.set_sensitive(true);
        id
    }

    /// Tells that an answer broke off whose head has been passed on already: nothing else can tell its receiver's side why.
    pub(crate) fn answer_broke(&self, direction: Direction, id: &HeaderValue) {
        self.shared.metrics.broken_answers(direction).add(1);
        self.log.broken_answer(direction, id.to_str().unwrap_or_default());
    }

    /// The next number of a sequence that starts at a random place (splitmix64).
    fn next_random(&self) -> u64 {
        let state = self.ids.get().wrapping_add(0x9e37_79b9_7f4a_7c15);
        self.ids.set(state);
        let mixed = (state ^ (state >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }
}

/// Spawns hyper's tasks on the thread that asks for it; they need not be `Send`.
#[derive(Debug, Clone, Copy)]
pub(crate) struct LocalExecutor;

impl<F> hyper::rt::Executor<F> for LocalExecutor
where
    F: Future + 'static,
    F::Output: 'static,
{
    fn execute(&self, future: F) {
        tokio::task::spawn_local(future);
    }
}

/// Waits for an answer while its connection moves the bytes. Many servers end a connection with the answer, so its end is none of
/// the answer's: what broke it shows there.
pub(crate) async fn answer_over<T>(connection: impl Future, answer: impl Future<Output = T>) -> T {
    let mut answer = pin!(answer);
    // Dropped as soon as it is over, so that an answer which still waits for it fails.
    let connection = async move { drop(connection.await) };
    tokio::select! {
        answer = answer.as_mut() => answer,
        () = connection => answer.await,
    }
}

fn uuid_text(random: u128) -> [u8; 36] {
    const HEX: &[u8; 16] = b"0123456789abcdef";
    let versioned = random & !(0xf << 76) & !(0x3 << 62) | 0x4 << 76 | 0x2 << 62;
    let mut text = [b'-'; 36];
    let places = (0..36).filter(|at| !matches!(at, 8 | 13 | 18 | 23));
    for (nibble, at) in (0..32).rev().zip(places) {
        let value = (versioned >> (nibble * 4)) & 0xf;
        text[at] = HEX[usize::try_from(value).unwrap_or(0)];
    }
    text
}

/// Whether a text is a UUID (RFC 9562), of any version, in either case.
pub(crate) fn is_uuid(text: &[u8]) -> bool {
    text.len() == 36
        && text.iter().enumerate().all(|(at, byte)| match at {
            8 | 13 | 18 | 23 => *byte == b'-',
            _ => byte.is_ascii_hexdigit(),
        })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_made_id_is_a_version_4_uuid() {
        for random in [0, u128::MAX, 0x0123_4567_89ab_cdef_0123_4567_89ab_cdef] {
            let text = uuid_text(random);
            assert!(is_uuid(&text));
            assert_eq!(text[14], b'4');
            assert!(matches!(text[19], b'8' | b'9' | b'a' | b'b'));
        }
    }

    #[test]
    fn only_a_uuid_is_one() {
        assert!(is_uuid(b"6F9619FF-8B86-D011-B42D-00CF4FC964FF"));
        assert!(!is_uuid(b"6f9619ff-8b86-d011-b42d-00cf4fc964f"));
        assert!(!is_uuid(b"6f9619ff-8b86-d011-b42d-00cf4fc964fg"));
        assert!(!is_uuid(b"6f9619ff 8b86 d011 b42d 00cf4fc964ff"));
    }
}
