//! Netlink attributes: a length, a kind and a value each, padded to four bytes.

const HEAD: usize = 4;
/// The value is attributes again.
const NESTED: u16 = 0x8000;
/// What is left of a kind without its two flags.
const KIND: u16 = 0x3fff;

/// Attributes, written one after another.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Attributes(Vec<u8>);

impl Attributes {
    pub(super) fn bytes(mut self, kind: u16, value: &[u8]) -> Self {
        // No value here comes near the limit of 65,535 bytes.
        let length = u16::try_from(HEAD + value.len()).unwrap_or(u16::MAX);
        self.0.extend(length.to_ne_bytes());
        self.0.extend(kind.to_ne_bytes());
        self.0.extend(value);
        self.0.resize(self.0.len().next_multiple_of(4), 0);
        self
    }

    /// Numbers of nf_tables are in network byte order.
    pub(super) fn number(self, kind: u16, value: u32) -> Self {
        self.bytes(kind, &value.to_be_bytes())
    }

    pub(super) fn text(self, kind: u16, value: &str) -> Self {
        self.bytes(kind, &[value.as_bytes(), b"\0"].concat())
    }

    pub(super) fn nested(self, kind: u16, inner: &Self) -> Self {
        self.bytes(kind | NESTED, &inner.0)
    }

    /// Takes bytes that are attributes already.
    pub(super) fn from_bytes(bytes: Vec<u8>) -> Self {
        Self(bytes)
    }

    pub(super) fn as_bytes(&self) -> &[u8] {
        &self.0
    }

    /// Whether `found` says all that this says: each kind as often, with the same values in the same order. The kernel may
    /// add kinds that it derives itself.
    pub(super) fn are_in(&self, found: &[u8]) -> bool {
        covers(&self.0, found)
    }
}

/// The kinds and values in `bytes`; what is cut off is left out.
pub(super) fn read(bytes: &[u8]) -> impl Iterator<Item = (u16, &[u8])> {
    raw(bytes).map(|(kind, value)| (kind & KIND, value))
}

/// The first value of a kind.
pub(super) fn find(bytes: &[u8], kind: u16) -> Option<&[u8]> {
    read(bytes).find(|(found, _)| *found == kind).map(|(_, value)| value)
}

/// The value of a kind, as text.
pub(super) fn find_text(bytes: &[u8], kind: u16) -> Option<&str> {
    let value = find(bytes, kind)?;
    std::str::from_utf8(value.strip_suffix(b"\0").unwrap_or(value)).ok()
}

fn raw(mut bytes: &[u8]) -> impl Iterator<Item = (u16, &[u8])> {
    std::iter::from_fn(move || {
        let (length, rest) = bytes.split_first_chunk()?;
        let (kind, _) = rest.split_first_chunk()?;
        let length = usize::from(u16::from_ne_bytes(*length));
        let value = bytes.get(HEAD..length)?;
        bytes = bytes.get(length.next_multiple_of(4)..).unwrap_or_default();
        Some((u16::from_ne_bytes(*kind), value))
    })
}

fn covers(wanted: &[u8], found: &[u8]) -> bool {
    raw(wanted).all(|(kind, _)| {
        let of_kind = |bytes| raw(bytes).filter(move |(other, _)| other & KIND == kind & KIND);
        let values = |bytes| of_kind(bytes).map(|(_, value)| value).collect::<Vec<_>>();
        let same = |(ours, theirs)| if kind & NESTED == 0 { ours == theirs } else { covers(ours, theirs) };
        let (ours, theirs) = (values(wanted), values(found));
        ours.len() == theirs.len() && ours.into_iter().zip(theirs).all(same)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn list(items: &[u32]) -> Attributes {
        items.iter().fold(Attributes::default(), |list, item| list.nested(1, &Attributes::default().number(2, *item)))
    }

    #[test]
    fn what_is_written_is_read() {
        let written = Attributes::default().text(1, "inet").number(2, 7).nested(3, &list(&[1]));
        let read: Vec<_> = read(written.as_bytes()).collect();
        assert_eq!(read[0], (1, b"inet\0".as_slice()));
        assert_eq!(read[1], (2, [0, 0, 0, 7].as_slice()));
        assert_eq!(read[2], (3, list(&[1]).as_bytes()));
        assert_eq!(find_text(written.as_bytes(), 1), Some("inet"));
    }

    #[test]
    fn the_kernel_may_add_but_not_change() {
        let wanted = Attributes::default().number(1, 5).nested(4, &list(&[1, 2]));
        let added = Attributes::default().number(9, 9).nested(4, &list(&[1, 2])).number(1, 5);
        assert!(wanted.are_in(added.as_bytes()));
        for other in [
            Attributes::default().number(1, 5),
            Attributes::default().number(1, 6).nested(4, &list(&[1, 2])),
            Attributes::default().number(1, 5).nested(4, &list(&[2, 1])),
            Attributes::default().number(1, 5).nested(4, &list(&[1, 2, 3])),
            Attributes::default().number(1, 5).nested(4, &list(&[1])),
        ] {
            assert!(!wanted.are_in(other.as_bytes()), "{other:?}");
        }
    }

    #[test]
    fn what_is_cut_off_is_left_out() {
        let written = Attributes::default().number(1, 5).number(2, 6);
        for end in 0..written.as_bytes().len() {
            assert!(read(&written.as_bytes()[..end]).count() < 2);
        }
    }
}
