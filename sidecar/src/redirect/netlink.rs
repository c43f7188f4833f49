//! nf_tables over netlink: one transaction to set a table, two questions to read it back.

use std::{collections::HashMap, io, os::fd::OwnedFd, time::Duration};

use rustix::net::{
    AddressFamily, RecvFlags, SendFlags, SocketFlags, SocketType, bind, netlink, recv, sendto, socket_with,
    sockopt::{Timeout, set_socket_timeout},
};

use super::{
    RedirectError,
    attributes::{self, Attributes},
    rules::{CHAIN_NAME, Chain, RULE_CHAIN, TABLE},
};

/// The kernel answers at once.
const ANSWER_WITHIN: Duration = Duration::from_secs(10);
/// The kernel sends no more in one piece.
const PIECE: usize = 64 * 1024;

/// A socket to the kernel's packet filter.
pub(super) struct Netlink {
    socket: OwnedFd,
    sequence: u32,
}

/// A transaction: all of it is done, or nothing.
struct Batch {
    bytes: Vec<u8>,
    first: u32,
    /// What each message asks for, for people.
    parts: Vec<String>,
}

/// A message of the kernel.
struct Message<'a> {
    kind: u16,
    sequence: u32,
    body: &'a [u8],
}

impl Netlink {
    pub(super) fn open() -> io::Result<Self> {
        let protocol = Some(netlink::NETFILTER);
        let socket = socket_with(AddressFamily::NETLINK, SocketType::RAW, SocketFlags::CLOEXEC, protocol)?;
        set_socket_timeout(&socket, Timeout::Recv, Some(ANSWER_WITHIN))?;
        bind(&socket, &netlink::SocketAddrNetlink::new(0, 0))?;
        Ok(Self { socket, sequence: 0 })
    }

    /// Puts these chains in the place of the table, in one transaction.
    pub(super) fn replace(&mut self, chains: &[Chain]) -> Result<(), RedirectError> {
        let table = Attributes::default().text(1, TABLE);
        let mut batch = Batch { bytes: Vec::new(), first: self.sequence, parts: Vec::new() };
        batch.push(BATCH_BEGIN, 0, UNSPECIFIED, &Attributes::default(), "a transaction");
        // Made first, so that there is something to remove.
        batch.push(NEW_TABLE, CREATE | ACK, INET, &table, "a table");
        batch.push(REMOVE_TABLE, ACK, INET, &table, "the removal of a table");
        batch.push(NEW_TABLE, CREATE | ACK, INET, &table, "a table");
        for chain in chains {
            batch.push(NEW_CHAIN, CREATE | ACK, INET, &chain.attributes(), &format!("chain {}", chain.name));
            for rule in &chain.rules {
                let what = format!("the rule `{}`", rule.text);
                batch.push(NEW_RULE, CREATE | APPEND | ACK, INET, &chain.rule_attributes(rule), &what);
            }
        }
        batch.push(BATCH_END, 0, UNSPECIFIED, &Attributes::default(), "the end of a transaction");
        self.sequence += batch.count();
        self.send(&batch.bytes).map_err(RedirectError::Socket)?;
        self.acknowledged(&batch)
    }

    /// Whether exactly these chains and rules are in force.
    pub(super) fn check(&mut self, chains: &[Chain]) -> Result<(), RedirectError> {
        let found = self.dump(GET_CHAIN, "chains")?;
        let found = found.iter().filter_map(|body| Some((attributes::find_text(body, CHAIN_NAME)?, body)));
        let found: HashMap<&str, &Vec<u8>> = found.collect();
        for chain in chains {
            let Some(body) = found.get(chain.name) else {
                return Err(RedirectError::Differs(format!("there is no chain {} in table {TABLE}", chain.name)));
            };
            if !chain.attributes().are_in(body) {
                return Err(RedirectError::Differs(format!("chain {} is not as it was set", chain.name)));
            }
        }
        if found.len() != chains.len() {
            return Err(RedirectError::Differs(format!("table {TABLE} has chains that are not ours")));
        }
        let found = self.dump(GET_RULE, "rules")?;
        for chain in chains {
            let in_chain = |body: &&Vec<u8>| attributes::find_text(body, RULE_CHAIN) == Some(chain.name);
            let found: Vec<_> = found.iter().filter(in_chain).collect();
            if found.len() != chain.rules.len() {
                return Err(RedirectError::Differs(format!("chain {} has other rules than were set", chain.name)));
            }
            for (rule, body) in chain.rules.iter().zip(found) {
                if !chain.rule_attributes(rule).are_in(body) {
                    let what = format!("chain {} has another rule in the place of `{}`", chain.name, rule.text);
                    return Err(RedirectError::Differs(what));
                }
            }
        }
        Ok(())
    }

    fn send(&self, bytes: &[u8]) -> io::Result<()> {
        let kernel = netlink::SocketAddrNetlink::new(0, 0);
        let sent = sendto(&self.socket, bytes, SendFlags::empty(), &kernel)?;
        if sent == bytes.len() { Ok(()) } else { Err(io::ErrorKind::WriteZero.into()) }
    }

    /// Waits until every part of a transaction is acknowledged, or one is refused.
    fn acknowledged(&self, batch: &Batch) -> Result<(), RedirectError> {
        // All but its two ends.
        let mut missing = batch.parts.len().saturating_sub(2);
        let mut piece = vec![0; PIECE];
        while missing > 0 {
            let (count, _) = recv(&self.socket, piece.as_mut_slice(), RecvFlags::empty())
                .map_err(|error| RedirectError::Socket(error.into()))?;
            for message in messages(piece.get(..count).unwrap_or_default()) {
                let Some(outcome) = message.outcome() else { continue };
                let at = message.sequence.checked_sub(batch.first).and_then(|at| usize::try_from(at).ok());
                let Some(part) = at.and_then(|at| batch.parts.get(at)) else { continue };
                outcome.map_err(|source| RedirectError::Refused { what: part.clone(), source })?;
                missing = missing.saturating_sub(1);
            }
        }
        Ok(())
    }

    /// The bodies of all objects of a kind in the table.
    fn dump(&mut self, kind: u16, what: &'static str) -> Result<Vec<Vec<u8>>, RedirectError> {
        let refused = |source| RedirectError::Refused { what: format!("to list {what}"), source };
        let sequence = self.sequence;
        self.sequence += 1;
        let table = Attributes::default().text(1, TABLE);
        self.send(&message(NF_TABLES | kind, REQUEST | DUMP, sequence, INET, &table)).map_err(RedirectError::Socket)?;
        let mut found = Vec::new();
        let mut piece = vec![0; PIECE];
        loop {
            let (count, _) = recv(&self.socket, piece.as_mut_slice(), RecvFlags::empty())
                .map_err(|error| RedirectError::Socket(error.into()))?;
            let received = piece.get(..count).unwrap_or_default();
            for message in messages(received).filter(|message| message.sequence == sequence) {
                match message.outcome() {
                    Some(Err(source)) if source.raw_os_error() == Some(NO_SUCH) => return Ok(found),
                    Some(outcome) => return outcome.map(|()| found).map_err(refused),
                    None if message.kind == DONE => return Ok(found),
                    None => {}
                }
                let body = message.body.get(FAMILY_HEAD..).ok_or(RedirectError::Unreadable(what))?;
                if attributes::find_text(body, 1) == Some(TABLE) {
                    found.push(body.to_vec());
                }
            }
        }
    }
}

impl Batch {
    fn push(&mut self, kind: u16, flags: u16, family: u8, attributes: &Attributes, what: &str) {
        let sequence = self.first + self.count();
        let kind = if family == UNSPECIFIED { kind } else { NF_TABLES | kind };
        self.bytes.extend(message(kind, REQUEST | flags, sequence, family, attributes));
        self.parts.push(what.to_owned());
    }

    fn count(&self) -> u32 {
        u32::try_from(self.parts.len()).unwrap_or(u32::MAX)
    }
}

impl Message<'_> {
    /// What became of a request, if this says so.
    fn outcome(&self) -> Option<io::Result<()>> {
        if self.kind != ERROR {
            return None;
        }
        let (code, _) = self.body.split_first_chunk()?;
        Some(match i32::from_ne_bytes(*code) {
            0 => Ok(()),
            code => Err(io::Error::from_raw_os_error(code.saturating_neg())),
        })
    }
}

/// A message to the kernel: the heads of netlink and of its packet filter, and attributes.
fn message(kind: u16, flags: u16, sequence: u32, family: u8, attributes: &Attributes) -> Vec<u8> {
    let length = HEAD + FAMILY_HEAD + attributes.as_bytes().len();
    let mut bytes = Vec::with_capacity(length);
    // No message here comes near the limit.
    bytes.extend(u32::try_from(length).unwrap_or(u32::MAX).to_ne_bytes());
    bytes.extend(kind.to_ne_bytes());
    bytes.extend(flags.to_ne_bytes());
    bytes.extend(sequence.to_ne_bytes());
    bytes.extend(0_u32.to_ne_bytes());
    let [high, low] = if family == UNSPECIFIED { SUBSYSTEM.to_be_bytes() } else { [0, 0] };
    bytes.extend([family, 0, high, low]);
    bytes.extend(attributes.as_bytes());
    bytes
}

/// The messages in a piece; what is cut off is left out.
fn messages(mut piece: &[u8]) -> impl Iterator<Item = Message<'_>> {
    std::iter::from_fn(move || {
        let (length, rest) = piece.split_first_chunk()?;
        let (kind, rest) = rest.split_first_chunk()?;
        let (_flags, rest) = rest.split_first_chunk::<2>()?;
        let (sequence, _) = rest.split_first_chunk()?;
        let length = usize::try_from(u32::from_ne_bytes(*length)).ok()?;
        let body = piece.get(HEAD..length)?;
        piece = piece.get(length.next_multiple_of(4)..).unwrap_or_default();
        Some(Message { kind: u16::from_ne_bytes(*kind), sequence: u32::from_ne_bytes(*sequence), body })
    })
}

// The kernel's numbers: linux/netlink.h, linux/netfilter/nfnetlink.h, linux/netfilter/nf_tables.h.
const HEAD: usize = 16;
const FAMILY_HEAD: usize = 4;
const REQUEST: u16 = 0x1;
const ACK: u16 = 0x4;
const DUMP: u16 = 0x300;
const CREATE: u16 = 0x400;
const APPEND: u16 = 0x800;
const ERROR: u16 = 2;
const DONE: u16 = 3;
const NO_SUCH: i32 = 2;
const BATCH_BEGIN: u16 = 0x10;
const BATCH_END: u16 = 0x11;
const SUBSYSTEM: u16 = 10;
const NF_TABLES: u16 = SUBSYSTEM << 8;
const NEW_TABLE: u16 = 0;
const REMOVE_TABLE: u16 = 2;
const NEW_CHAIN: u16 = 3;
const GET_CHAIN: u16 = 4;
const NEW_RULE: u16 = 6;
const GET_RULE: u16 = 7;
const UNSPECIFIED: u8 = 0;
const INET: u8 = 1;
