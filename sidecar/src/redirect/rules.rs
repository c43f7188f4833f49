//! The rules themselves: a function of the settings.
//!
//! Two chains redirect, two guard. What redirecting misses, whatever the reason, is dropped by a guard: nothing reaches the
//! app past its sidecar, and the app reaches nothing.

use std::net::IpAddr;

use control::pod::{HEALTH_PORT, INBOUND_PORT, OUTBOUND_PORT};

use super::{
    attributes::Attributes,
    settings::{Passed, Settings, Transport},
};

/// The table of the mesh in a pod.
pub(super) const TABLE: &str = "fapi";

const ICMP: u8 = 1;
const TCP: u8 = 6;
const UDP: u8 = 17;
const ICMPV6: u8 = 58;
const SCTP: u8 = 132;
const DNS: u16 = 53;

/// A chain that the kernel enters by itself.
#[derive(Debug)]
pub(super) struct Chain {
    pub(super) name: &'static str,
    kind: &'static str,
    hook: u32,
    priority: i32,
    policy: u32,
    pub(super) rules: Vec<Rule>,
}

/// One rule.
#[derive(Debug, Default)]
pub(super) struct Rule {
    /// As nft spells it.
    pub(super) text: String,
    expressions: Attributes,
}

/// All chains of the table.
pub(super) fn chains(settings: &Settings) -> [Chain; 4] {
    [inbound_redirect(), outbound_redirect(settings), inbound_guard(settings), outbound_guard(settings)]
}

/// Whatever TCP comes from outside goes to the sidecar.
fn inbound_redirect() -> Chain {
    let rules = vec![
        from_loopback().accept(),
        to_port(TCP, INBOUND_PORT).accept(),
        to_port(TCP, HEALTH_PORT).accept(),
        protocol(TCP).redirect(INBOUND_PORT),
    ];
    Chain { name: "inbound_redirect", kind: "nat", hook: PREROUTING, priority: DSTNAT, policy: ACCEPT, rules }
}

/// Whatever TCP leaves the pod goes through the sidecar, unless it is the sidecar's own. The resolvers are asked directly
/// over TCP as they are over UDP. What stays inside the pod, also by the pod's own address, is left alone.
fn outbound_redirect(settings: &Settings) -> Chain {
    let mut rules = vec![of_group(settings.sidecar).accept(), to_loopback().accept()];
    rules.extend(settings.resolvers.iter().map(|resolver| to_address(*resolver).and(to_port(TCP, DNS)).accept()));
    rules.push(protocol(TCP).redirect(OUTBOUND_PORT));
    Chain { name: "outbound_redirect", kind: "nat", hook: OUTPUT, priority: DSTNAT, policy: ACCEPT, rules }
}

/// What may come in: what is for the sidecar, answers, ICMP, and what is listed.
fn inbound_guard(settings: &Settings) -> Chain {
    let mut rules = vec![
        from_loopback().accept(),
        of_known_connection().accept(),
        protocol(ICMP).accept(),
        protocol(ICMPV6).accept(),
        to_port(TCP, INBOUND_PORT).accept(),
        to_port(TCP, HEALTH_PORT).accept(),
    ];
    rules.extend(settings.inbound.iter().map(|passed| passed.rule().accept()));
    Chain { name: "inbound_guard", kind: "filter", hook: INPUT, priority: FILTER, policy: DROP, rules }
}

/// What may go out: what the sidecar sends, what was redirected to it, answers, ICMP, questions to the resolvers, and what
/// is listed.
fn outbound_guard(settings: &Settings) -> Chain {
    let mut rules = vec![
        of_group(settings.sidecar).accept(),
        to_loopback().accept(),
        redirected().accept(),
        of_known_connection().accept(),
        protocol(ICMP).accept(),
        protocol(ICMPV6).accept(),
    ];
    for resolver in &settings.resolvers {
        rules.push(to_address(*resolver).and(to_port(UDP, DNS)).accept());
        rules.push(to_address(*resolver).and(to_port(TCP, DNS)).accept());
    }
    rules.extend(settings.outbound.iter().map(|passed| passed.rule().accept()));
    Chain { name: "outbound_guard", kind: "filter", hook: OUTPUT, priority: FILTER, policy: DROP, rules }
}

impl Passed {
    fn rule(&self) -> Rule {
        let protocol = match self.transport {
            Transport::Udp => UDP,
            Transport::Sctp => SCTP,
        };
        to_port(protocol, self.port)
    }
}

impl Chain {
    /// The chain without its rules, as a message to the kernel says it.
    pub(super) fn attributes(&self) -> Attributes {
        let hook = Attributes::default().number(1, self.hook).number(2, self.priority.cast_unsigned());
        let named = Attributes::default().text(1, TABLE).text(CHAIN_NAME, self.name);
        named.nested(4, &hook).number(5, self.policy).text(7, self.kind)
    }

    /// A rule of it, as a message to the kernel says it.
    pub(super) fn rule_attributes(&self, rule: &Rule) -> Attributes {
        let place = Attributes::default().text(1, TABLE).text(RULE_CHAIN, self.name);
        place.nested(RULE_EXPRESSIONS, &rule.expressions)
    }
}

impl Rule {
    fn and(mut self, other: Self) -> Self {
        self.text = format!("{} {}", self.text, other.text);
        let both = [self.expressions.as_bytes(), other.expressions.as_bytes()].concat();
        self.expressions = Attributes::from_bytes(both);
        self
    }

    fn accept(self) -> Self {
        let verdict = Attributes::default().nested(2, &Attributes::default().number(1, ACCEPT));
        let data = Attributes::default().number(1, VERDICT_REGISTER).nested(2, &verdict);
        self.and(Self::new("accept", Attributes::default().expression("immediate", &data)))
    }

    fn redirect(self, port: u16) -> Self {
        let data = Attributes::default().number(1, REGISTER).nested(2, &value(&port.to_be_bytes()));
        let to = Attributes::default().number(1, REGISTER).number(3, PORT_GIVEN);
        let expressions = Attributes::default().expression("immediate", &data).expression("redir", &to);
        self.and(Self::new(&format!("redirect to :{port}"), expressions))
    }

    fn new(text: &str, expressions: Attributes) -> Self {
        Self { text: text.to_owned(), expressions }
    }
}

fn from_loopback() -> Rule {
    Rule::new("iifname \"lo\"", meta(IIFNAME, &LOOPBACK))
}

fn to_loopback() -> Rule {
    Rule::new("oifname \"lo\"", meta(OIFNAME, &LOOPBACK))
}

fn of_group(id: u32) -> Rule {
    Rule::new(&format!("meta skgid {id}"), meta(SKGID, &id.to_ne_bytes()))
}

fn of_known_connection() -> Rule {
    Rule::new("ct state established,related", connection(CT_STATE, ESTABLISHED | RELATED))
}

fn redirected() -> Rule {
    Rule::new("ct status dnat", connection(CT_STATUS, DNAT))
}

fn protocol(number: u8) -> Rule {
    Rule::new(&format!("meta l4proto {}", protocol_name(number)), meta(L4PROTO, &[number]))
}

fn to_port(number: u8, port: u16) -> Rule {
    let expressions = meta(L4PROTO, &[number]);
    // TCP, UDP and SCTP have it at the same place.
    let expressions = payload(expressions, TRANSPORT_HEADER, 2, &port.to_be_bytes());
    Rule::new(&format!("{} dport {port}", protocol_name(number)), expressions)
}

fn to_address(address: IpAddr) -> Rule {
    match address {
        IpAddr::V4(v4) => {
            let expressions = payload(meta(NFPROTO, &[IPV4]), NETWORK_HEADER, 16, &v4.octets());
            Rule::new(&format!("ip daddr {v4}"), expressions)
        }
        IpAddr::V6(v6) => {
            let expressions = payload(meta(NFPROTO, &[IPV6]), NETWORK_HEADER, 24, &v6.octets());
            Rule::new(&format!("ip6 daddr {v6}"), expressions)
        }
    }
}

fn protocol_name(number: u8) -> &'static str {
    match number {
        ICMP => "icmp",
        ICMPV6 => "ipv6-icmp",
        UDP => "udp",
        SCTP => "sctp",
        _ => "tcp",
    }
}

/// Something about a packet is this.
fn meta(key: u32, is: &[u8]) -> Attributes {
    let load = Attributes::default().number(1, REGISTER).number(2, key);
    compare(Attributes::default().expression("meta", &load), EQUAL, is)
}

/// Bytes of a packet are these.
fn payload(before: Attributes, header: u32, offset: u32, is: &[u8]) -> Attributes {
    let length = u32::try_from(is.len()).unwrap_or(u32::MAX);
    let load = Attributes::default().number(1, REGISTER).number(2, header).number(3, offset).number(4, length);
    compare(before.expression("payload", &load), EQUAL, is)
}

/// One of these bits is set for the connection of a packet.
fn connection(key: u32, bits: u32) -> Attributes {
    let load = Attributes::default().number(1, REGISTER).number(2, key);
    let mask = Attributes::default().number(1, REGISTER).number(2, REGISTER).number(3, 4);
    let mask = mask.nested(4, &value(&bits.to_ne_bytes())).nested(5, &value(&[0; 4]));
    let expressions = Attributes::default().expression("ct", &load).expression("bitwise", &mask);
    compare(expressions, NOT_EQUAL, &[0; 4])
}

fn compare(before: Attributes, operator: u32, with: &[u8]) -> Attributes {
    let compare = Attributes::default().number(1, REGISTER).number(2, operator).nested(3, &value(with));
    before.expression("cmp", &compare)
}

fn value(bytes: &[u8]) -> Attributes {
    Attributes::default().bytes(1, bytes)
}

impl Attributes {
    /// One more expression of a rule.
    fn expression(self, name: &str, data: &Self) -> Self {
        self.nested(1, &Self::default().text(1, name).nested(2, data))
    }
}

// The kernel's numbers: linux/netfilter.h, linux/netfilter/nf_tables.h, nf_conntrack_common.h.
pub(super) const CHAIN_NAME: u16 = 3;
pub(super) const RULE_CHAIN: u16 = 2;
pub(super) const RULE_EXPRESSIONS: u16 = 4;
const PREROUTING: u32 = 0;
const INPUT: u32 = 1;
const OUTPUT: u32 = 3;
const DSTNAT: i32 = -100;
const FILTER: i32 = 0;
const DROP: u32 = 0;
const ACCEPT: u32 = 1;
const VERDICT_REGISTER: u32 = 0;
const REGISTER: u32 = 1;
const EQUAL: u32 = 0;
const NOT_EQUAL: u32 = 1;
const IIFNAME: u32 = 6;
const OIFNAME: u32 = 7;
const SKGID: u32 = 11;
const NFPROTO: u32 = 15;
const L4PROTO: u32 = 16;
const IPV4: u8 = 2;
const IPV6: u8 = 10;
const NETWORK_HEADER: u32 = 1;
const TRANSPORT_HEADER: u32 = 2;
const CT_STATE: u32 = 0;
const CT_STATUS: u32 = 2;
const ESTABLISHED: u32 = 1 << 1;
const RELATED: u32 = 1 << 2;
const DNAT: u32 = 1 << 5;
const PORT_GIVEN: u32 = 1 << 1;
/// Names of interfaces have this length.
const LOOPBACK: [u8; 16] = *b"lo\0\0\0\0\0\0\0\0\0\0\0\0\0\0";

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_listed_is_passed_and_the_rest_is_not() {
        let settings = Settings {
            sidecar: 20000,
            resolvers: ["10.96.0.10", "fd00::a"].iter().map(|address| address.parse().unwrap()).collect(),
            inbound: ["udp/5353".parse().unwrap()].into(),
            outbound: ["sctp/36412".parse().unwrap()].into(),
        };
        let [inbound, outbound, inbound_guard, outbound_guard] = chains(&settings);
        let texts = |chain: &Chain| chain.rules.iter().map(|rule| rule.text.clone()).collect::<Vec<_>>();
        assert_eq!(
            texts(&inbound),
            [
                "iifname \"lo\" accept",
                "tcp dport 15006 accept",
                "tcp dport 15020 accept",
                "meta l4proto tcp redirect to :15006"
            ]
        );
        assert_eq!(
            texts(&outbound),
            [
                "meta skgid 20000 accept",
                "oifname \"lo\" accept",
                "ip daddr 10.96.0.10 tcp dport 53 accept",
                "ip6 daddr fd00::a tcp dport 53 accept",
                "meta l4proto tcp redirect to :15001"
            ]
        );
        assert_eq!(texts(&inbound_guard).last().unwrap(), "udp dport 5353 accept");
        assert_eq!(texts(&outbound_guard).last().unwrap(), "sctp dport 36412 accept");
        assert!(texts(&outbound_guard).contains(&"ip daddr 10.96.0.10 udp dport 53 accept".to_owned()));
        assert_eq!([inbound_guard.policy, outbound_guard.policy], [DROP, DROP]);
    }
}
