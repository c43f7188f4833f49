use std::net::IpAddr;

use super::InvalidValue;

/// A network of IP addresses in CIDR notation (RFC 4632 section 3.1, RFC 4291 section 2.3), written with no bit set behind its
/// prefix. One that is larger than any private network (a prefix of less than 8 bits) is none: it would be anybody.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Network {
    first: IpAddr,
    prefix: u32,
}

impl Network {
    const SHORTEST: u32 = 8;

    /// Reads `10.1.0.0/16` or `fd00:1::/32`.
    ///
    /// # Errors
    /// It is not in this notation.
    pub fn parse(text: &str) -> Result<Self, InvalidValue> {
        let not = |problem| InvalidValue::new("network", problem);
        let notation = || not("want CIDR notation, such as 10.1.0.0/16 or fd00:1::/32");
        let (address, prefix) = text.split_once('/').ok_or_else(notation)?;
        let first: IpAddr = address.parse().map_err(|_| notation())?;
        let is_number = prefix.bytes().all(|byte| byte.is_ascii_digit()) && !prefix.starts_with('0');
        let prefix: u32 = prefix.parse().ok().filter(|_| is_number).ok_or_else(notation)?;
        if first.to_canonical() != first {
            return Err(not("an IPv4 address is written as one, without ::ffff:"));
        }
        if !(Self::SHORTEST..=width(first)).contains(&prefix) {
            return Err(not("want a prefix of 8 to 32 bits, of IPv6 8 to 128"));
        }
        let network = Self { first, prefix };
        // Whoever wrote more may have meant one address.
        if network.behind(first) != 0 {
            return Err(not(
                "no bit of the address may be set behind the prefix; one address has a prefix of 32 or 128",
            ));
        }
        Ok(network)
    }

    /// Whether an address is in it. An IPv4 address is one, whatever the socket's family.
    #[must_use]
    pub fn contains(&self, address: IpAddr) -> bool {
        let address = address.to_canonical();
        address.is_ipv4() == self.first.is_ipv4() && bits(address) - self.behind(address) == bits(self.first)
    }

    /// The bits of an address behind the prefix.
    fn behind(&self, address: IpAddr) -> u128 {
        bits(address) & ((1 << (width(address) - self.prefix)) - 1)
    }
}

const fn width(address: IpAddr) -> u32 {
    if address.is_ipv4() { 32 } else { 128 }
}

const fn bits(address: IpAddr) -> u128 {
    match address {
        IpAddr::V4(v4) => v4.to_bits() as u128,
        IpAddr::V6(v6) => v6.to_bits(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn contains(network: &str, address: &str) -> bool {
        Network::parse(network).unwrap().contains(address.parse().unwrap())
    }

    #[test]
    fn an_address_is_in_a_network_by_its_first_bits() {
        for (network, inside, outside) in [
            ("10.0.0.0/8", "10.255.255.255", "11.0.0.0"),
            ("10.1.0.0/16", "10.1.2.3", "10.2.0.0"),
            ("10.1.2.3/32", "10.1.2.3", "10.1.2.2"),
            ("192.168.1.128/25", "192.168.1.128", "192.168.1.127"),
            ("fd00::/8", "fdff:ffff::1", "fe00::1"),
            ("fd00:1::/32", "fd00:1:2::3", "fd00:2::1"),
            ("::1/128", "::1", "::2"),
        ] {
            assert!(contains(network, inside), "{network} {inside}");
            assert!(!contains(network, outside), "{network} {outside}");
        }
        assert!(contains("10.1.0.0/16", "::ffff:10.1.2.3"), "a socket of both families");
        assert!(!contains("fd00::/8", "10.1.2.3"));
        assert!(!contains("10.1.0.0/16", "::10.1.2.3"), "that is no IPv4 address");
    }

    #[test]
    fn only_one_way_of_writing_is_taken() {
        for text in [
            "",
            "/",
            "10.0.0.0",
            "10.0.0.0/",
            "10.0.0.0/+8",
            "10.0.0.0/08",
            "10.0.0.0/33",
            "10.0.0.0/0",
            "0.0.0.0/0",
            "0.0.0.0/7",
            "::/0",
            "::/7",
            "10.0.0.1/8",
            "10.1/16",
            "010.0.0.0/8",
            "fd00::1/32",
            "fd00::/129",
            "::ffff:10.0.0.0/104",
            " 10.0.0.0/8",
            "10.0.0.0/8 ",
            "10.0.0.0/8/8",
            "localhost/8",
            "fe80::1%eth0/128",
        ] {
            assert!(Network::parse(text).is_err(), "{text:?}");
        }
    }
}
