//! What was read last, found again by its exact bytes.

use std::sync::Arc;

/// The last `PLACES` values that were kept, each with the bytes that it was read from. The oldest makes room.
pub(crate) struct Recent<T, const PLACES: usize> {
    known: Vec<(Box<[u8]>, Arc<T>)>,
    next: usize,
}

impl<T, const PLACES: usize> Default for Recent<T, PLACES> {
    fn default() -> Self {
        Self { known: Vec::new(), next: 0 }
    }
}

impl<T, const PLACES: usize> Recent<T, PLACES> {
    pub(crate) fn find(&self, bytes: &[u8]) -> Option<Arc<T>> {
        self.known.iter().find(|(known, _)| **known == *bytes).map(|(_, value)| Arc::clone(value))
    }

    pub(crate) fn keep(&mut self, bytes: &[u8], value: &Arc<T>) {
        let entry = (Box::from(bytes), Arc::clone(value));
        if self.known.len() < PLACES {
            self.known.push(entry);
            return;
        }
        if let Some(oldest) = self.known.get_mut(self.next) {
            *oldest = entry;
        }
        self.next = (self.next + 1) % PLACES;
    }

    pub(crate) const fn len(&self) -> usize {
        self.known.len()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_oldest_makes_room() {
        let mut recent = Recent::<u8, 3>::default();
        for value in 0..8 {
            recent.keep(&[value], &Arc::new(value));
            assert_eq!(recent.len(), usize::from(value + 1).min(3));
            for older in 0..=value {
                let kept = older + 3 > value;
                assert_eq!(recent.find(&[older]).as_deref(), kept.then_some(&older), "{older} after {value}");
            }
        }
    }
}
