use std::{cmp::Ordering, fmt, sync::Arc};

use super::InvalidValue;

/// A set of scope tokens (RFC 6749 section 3.3), sorted; may be empty. Cloning is cheap.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct ScopeSet(Arc<[Box<str>]>);

impl ScopeSet {
    /// The set without any scope.
    #[must_use]
    pub fn empty() -> Self {
        Self(Arc::new([]))
    }

    /// Reads the `scope` parameter or claim: tokens divided by single spaces; the empty text is the empty set.
    ///
    /// # Errors
    /// A token that is empty, longer than 256 bytes or holds characters beyond RFC 6749; more than 128 tokens.
    pub fn parse(text: &str) -> Result<Self, InvalidValue> {
        if text.is_empty() {
            return Ok(Self::empty());
        }
        Self::from_list(text.split(' '))
    }

    /// The set of these tokens; one given twice counts once.
    ///
    /// # Errors
    /// As [`ScopeSet::parse`].
    pub fn from_list<T: AsRef<str>>(tokens: impl IntoIterator<Item = T>) -> Result<Self, InvalidValue> {
        let mut list = Vec::new();
        for token in tokens {
            let token = token.as_ref();
            if list.len() == MAX_TOKENS {
                return Err(InvalidValue::new("scope", "more than 128 tokens"));
            }
            if token.is_empty() || token.len() > MAX_TOKEN || !token.bytes().all(is_scope_byte) {
                return Err(InvalidValue::new(
                    "scope",
                    "a token is 1 to 256 printable ASCII characters without space, quote or backslash",
                ));
            }
            list.push(Box::from(token));
        }
        Ok(Self::from_vec(list))
    }

    /// Whether every scope of `other` is in this set.
    #[must_use]
    pub fn is_superset(&self, other: &Self) -> bool {
        let mut mine = self.0.iter();
        other.0.iter().all(|wanted| {
            for have in mine.by_ref() {
                match have.cmp(wanted) {
                    Ordering::Less => {}
                    Ordering::Equal => return true,
                    Ordering::Greater => return false,
                }
            }
            false
        })
    }

    /// The scopes of both sets.
    #[must_use]
    pub fn union(&self, other: &Self) -> Self {
        Self::from_vec(self.0.iter().chain(other.0.iter()).cloned().collect())
    }

    /// The scopes of this set that are not in `other`.
    #[must_use]
    pub fn difference(&self, other: &Self) -> Self {
        Self(self.0.iter().filter(|scope| other.0.binary_search(scope).is_err()).cloned().collect())
    }

    /// The scopes that are in both sets.
    #[must_use]
    pub fn intersection(&self, other: &Self) -> Self {
        Self(self.0.iter().filter(|scope| other.0.binary_search(scope).is_ok()).cloned().collect())
    }

    /// The scopes, sorted.
    pub fn iter(&self) -> impl Iterator<Item = &str> {
        self.0.iter().map(|scope| &**scope)
    }

    /// Whether the set has no scope.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    fn from_vec(mut list: Vec<Box<str>>) -> Self {
        list.sort_unstable();
        list.dedup();
        Self(list.into())
    }
}

impl Default for ScopeSet {
    fn default() -> Self {
        Self::empty()
    }
}

/// The `scope` parameter: tokens divided by spaces.
impl fmt::Display for ScopeSet {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, scope) in self.iter().enumerate() {
            if index > 0 {
                f.write_str(" ")?;
            }
            f.write_str(scope)?;
        }
        Ok(())
    }
}

/// RFC 6749 appendix A.4, `NQCHAR`.
fn is_scope_byte(byte: u8) -> bool {
    matches!(byte, 0x21 | 0x23..=0x5b | 0x5d..=0x7e)
}

const MAX_TOKENS: usize = 128;
const MAX_TOKEN: usize = 256;
