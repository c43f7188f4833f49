//! Calls in progress, so that the app can hand them on (RFC 8693).
//!
//! A call of a peer has a handle of 128 random bits, which the app finds in `x-fapi-context` and passes on with the calls that
//! it makes for it. The handle stands for the token of the call, which the app never sees: it is no credential, means nothing
//! to any other process, is never taken from the network, and dies with its call.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use fapi::{TokenHash, UnixTime};
use http::HeaderValue;

use crate::random;

/// Calls that have a handle at one time. The tokens of all of them fit into 32 MiB, mostly into 4.
const CAPACITY: usize = 4096;
const SHARDS: usize = 16;

/// The name of a call in progress.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) struct Handle([u8; 16]);

/// The token that a call came with.
pub(crate) struct Subject {
    pub(crate) token: Box<str>,
    pub(crate) hash: TokenHash,
    /// When it ends, or is too old for the rule that admitted it.
    pub(crate) expires: UnixTime,
}

/// The calls of a process that have handles. Peers and the app may come in by different workers, so all share it; a shard is
/// locked for one step in a map.
pub(crate) struct Contexts([Mutex<HashMap<Handle, Arc<Subject>>>; SHARDS]);

impl Handle {
    /// Reads a handle, which has one spelling: 32 hexadecimal digits in lower case.
    pub(crate) fn parse(text: &[u8]) -> Option<Self> {
        let (pairs, rest) = text.as_chunks::<2>();
        let bytes: Option<Vec<u8>> = pairs.iter().map(|[high, low]| Some(digit(*high)? << 4 | digit(*low)?)).collect();
        bytes.filter(|_| rest.is_empty())?.try_into().ok().map(Self)
    }

    /// As the app gets it.
    pub(crate) fn header(self) -> HeaderValue {
        const HEX: &[u8; 16] = b"0123456789abcdef";
        let digits = self.0.iter().flat_map(|byte| [byte >> 4, byte & 0xf]);
        let text: Vec<u8> = digits.filter_map(|digit| HEX.get(usize::from(digit)).copied()).collect();
        // Hexadecimal digits are a legal value.
        let mut value = HeaderValue::try_from(text).unwrap_or(HeaderValue::from_static(""));
        value.set_sensitive(true);
        value
    }
}

fn digit(byte: u8) -> Option<u8> {
    match byte {
        b'0'..=b'9' => Some(byte - b'0'),
        b'a'..=b'f' => Some(byte - b'a' + 10),
        _ => None,
    }
}

impl Contexts {
    pub(crate) fn new() -> Self {
        Self(std::array::from_fn(|_| Mutex::default()))
    }

    /// Gives a call a handle; end it with [`Contexts::end`]. `None` when there is no room, or no randomness.
    pub(crate) fn begin(&self, subject: Subject) -> Option<Handle> {
        let handle = Handle(random::bytes().ok()?);
        let mut shard = self.shard(handle)?;
        if shard.len() >= CAPACITY / SHARDS {
            return None;
        }
        shard.insert(handle, Arc::new(subject));
        Some(handle)
    }

    /// The token of a call that is in progress here.
    pub(crate) fn find(&self, handle: Handle, now: UnixTime) -> Option<Arc<Subject>> {
        self.shard(handle)?.get(&handle).filter(|subject| now < subject.expires).cloned()
    }

    /// The call is over.
    pub(crate) fn end(&self, handle: Handle) {
        if let Some(mut shard) = self.shard(handle) {
            shard.remove(&handle);
        }
    }

    /// How many there are, for metrics.
    pub(crate) fn len(&self) -> usize {
        self.0.iter().map(|shard| lock(shard).len()).sum()
    }

    fn shard(&self, Handle([first, ..]): Handle) -> Option<MutexGuard<'_, HashMap<Handle, Arc<Subject>>>> {
        self.0.get(usize::from(first) % SHARDS).map(lock)
    }
}

/// Each step leaves a good map, so another holder's panic does.
fn lock<T>(shard: &Mutex<T>) -> MutexGuard<'_, T> {
    shard.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use super::*;

    const END: UnixTime = UnixTime::from_secs(100);
    const NOW: UnixTime = UnixTime::from_secs(99);

    fn subject(token: &str) -> Subject {
        Subject { token: token.into(), hash: TokenHash::of(token), expires: END }
    }

    #[test]
    fn a_handle_means_its_call_and_dies_with_it() {
        let contexts = Contexts::new();
        let (one, other) = (contexts.begin(subject("a")).unwrap(), contexts.begin(subject("b")).unwrap());
        assert_ne!(one, other);
        assert_eq!(&*contexts.find(one, NOW).unwrap().token, "a");
        assert_eq!(&*contexts.find(other, NOW).unwrap().token, "b");
        contexts.end(one);
        contexts.end(one);
        assert!(contexts.find(one, NOW).is_none());
        assert_eq!(contexts.len(), 1);
        assert!(Contexts::new().find(other, NOW).is_none(), "another process");
    }

    #[test]
    fn it_does_not_outlive_the_token() {
        let contexts = Contexts::new();
        let handle = contexts.begin(subject("a")).unwrap();
        assert!(contexts.find(handle, NOW).is_some());
        assert!(contexts.find(handle, END).is_none());
    }

    #[test]
    fn there_is_room_for_so_many_and_no_more() {
        let contexts = Contexts::new();
        let begun: Vec<_> = (0..2 * CAPACITY).map_while(|_| contexts.begin(subject("a"))).collect();
        assert!(begun.len() <= CAPACITY && contexts.len() == begun.len());
        contexts.end(begun[0]);
        let again = (0..SHARDS * 100).find_map(|_| contexts.begin(subject("a")));
        assert!(again.is_some(), "a call that ends makes room");
    }

    #[test]
    fn a_handle_has_one_spelling() {
        let handle = Handle([0xab; 16]);
        let text = "ab".repeat(16);
        assert_eq!(handle.header(), text);
        assert_eq!(Handle::parse(text.as_bytes()), Some(handle));
        for bad in [text.to_uppercase(), format!("{text}0"), format!("{text}00"), text[2..].to_owned(), "g".repeat(32)]
        {
            assert_eq!(Handle::parse(bad.as_bytes()), None, "{bad}");
        }
        assert_eq!(Handle::parse(b""), None);
    }
}
