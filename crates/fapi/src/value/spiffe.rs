use std::{
    fmt,
    hash::{Hash, Hasher},
    sync::Arc,
};

use super::InvalidValue;

/// The name of a SPIFFE trust domain, such as `bank.example`; compared as a whole. Cloning is cheap.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct TrustDomain(Arc<str>);

impl TrustDomain {
    /// Reads a trust domain name (SPIFFE ID section 2.1).
    ///
    /// # Errors
    /// Empty, longer than 255 bytes, or characters other than `a-z 0-9 . - _`.
    pub fn parse(text: &str) -> Result<Self, InvalidValue> {
        check_trust_domain(text)?;
        Ok(Self(Arc::from(text)))
    }

    /// The name.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for TrustDomain {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// The identity of a workload: `spiffe://<trust-domain>/ns/<namespace>/sa/<service-account>`. Cloning is cheap.
#[derive(Clone)]
pub struct SpiffeId {
    text: Arc<str>,
    domain_end: u16,
    namespace_end: u16,
}

impl SpiffeId {
    /// Reads a SPIFFE ID of the one shape that the mesh gives out.
    ///
    /// # Errors
    /// Any other scheme, path, empty part, port, query, fragment or percent-encoding.
    pub fn parse(text: &str) -> Result<Self, InvalidValue> {
        let shape = InvalidValue::new(WHAT, "want spiffe://<trust-domain>/ns/<namespace>/sa/<service-account>");
        let rest = text.strip_prefix(SCHEME).ok_or(shape)?;
        let (domain, rest) = rest.split_once(NS).ok_or(shape)?;
        let (namespace, account) = rest.split_once(SA).ok_or(shape)?;
        check_trust_domain(domain)?;
        check_names(namespace, account)?;
        Ok(Self::assemble(Arc::from(text), domain.len(), namespace.len()))
    }

    /// The identity of a service account.
    ///
    /// # Errors
    /// A namespace or service account that Kubernetes would refuse.
    pub fn new(domain: &TrustDomain, namespace: &str, account: &str) -> Result<Self, InvalidValue> {
        check_names(namespace, account)?;
        let text = format!("{SCHEME}{domain}{NS}{namespace}{SA}{account}");
        Ok(Self::assemble(Arc::from(text), domain.0.len(), namespace.len()))
    }

    /// The trust domain part.
    #[must_use]
    pub fn trust_domain(&self) -> &str {
        self.part(SCHEME.len(), usize::from(self.domain_end))
    }

    /// The namespace part.
    #[must_use]
    pub fn namespace(&self) -> &str {
        self.part(usize::from(self.domain_end) + NS.len(), usize::from(self.namespace_end))
    }

    /// The service account part.
    #[must_use]
    pub fn service_account(&self) -> &str {
        self.part(usize::from(self.namespace_end) + SA.len(), self.text.len())
    }

    /// The whole identity.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.text
    }

    fn assemble(text: Arc<str>, domain: usize, namespace: usize) -> Self {
        let domain_end = SCHEME.len() + domain;
        let namespace_end = domain_end + NS.len() + namespace;
        // At most 9 + 255 + 4 + 63 bytes, by the checks before.
        let offset = |end: usize| u16::try_from(end).unwrap_or(u16::MAX);
        Self { text, domain_end: offset(domain_end), namespace_end: offset(namespace_end) }
    }

    fn part(&self, start: usize, end: usize) -> &str {
        self.text.get(start..end).unwrap_or_default()
    }
}

impl PartialEq for SpiffeId {
    fn eq(&self, other: &Self) -> bool {
        self.text == other.text
    }
}

impl Eq for SpiffeId {}

impl PartialOrd for SpiffeId {
    fn partial_cmp(&self, other: &Self) -> Option<std::cmp::Ordering> {
        Some(self.cmp(other))
    }
}

impl Ord for SpiffeId {
    fn cmp(&self, other: &Self) -> std::cmp::Ordering {
        self.text.cmp(&other.text)
    }
}

impl Hash for SpiffeId {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.text.hash(state);
    }
}

impl fmt::Debug for SpiffeId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "SpiffeId({})", self.text)
    }
}

impl fmt::Display for SpiffeId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

fn check_trust_domain(text: &str) -> Result<(), InvalidValue> {
    let good = |byte: u8| matches!(byte, b'a'..=b'z' | b'0'..=b'9' | b'.' | b'-' | b'_');
    if text.is_empty() || text.len() > 255 || !text.bytes().all(good) {
        return Err(InvalidValue::new("trust domain", "want 1 to 255 of a-z, 0-9, '.', '-', '_'"));
    }
    Ok(())
}

fn check_names(namespace: &str, account: &str) -> Result<(), InvalidValue> {
    if !is_label(namespace) {
        return Err(InvalidValue::new(WHAT, "the namespace is no DNS label (RFC 1123)"));
    }
    if account.len() > 253 || !account.split('.').all(is_label) {
        return Err(InvalidValue::new(WHAT, "the service account is no DNS name (RFC 1123)"));
    }
    Ok(())
}

/// A DNS label as Kubernetes takes it: lower case, no dash at either end.
pub(super) fn is_label(text: &str) -> bool {
    let good = |byte: u8| matches!(byte, b'a'..=b'z' | b'0'..=b'9' | b'-');
    (1..=63).contains(&text.len()) && text.bytes().all(good) && !text.starts_with('-') && !text.ends_with('-')
}

const WHAT: &str = "SPIFFE ID";
const SCHEME: &str = "spiffe://";
const NS: &str = "/ns/";
const SA: &str = "/sa/";
