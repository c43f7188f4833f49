//! The domain under which the DNS of a cluster answers for Services.

use std::sync::Arc;

/// Such as `cluster.local`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ClusterDomain(Arc<str>);

/// With the names below it, it must fit into a name of DNS.
const LONGEST: usize = 200;
/// A label (RFC 1123 section 2.1).
const LONGEST_LABEL: usize = 63;

impl ClusterDomain {
    /// Reads labels of lower-case letters, digits and `-`, with dots between them; a dot at the end changes nothing.
    ///
    /// # Errors
    /// It is not one; the text says what to write.
    pub fn parse(text: &str) -> Result<Self, String> {
        let domain = text.strip_suffix('.').unwrap_or(text);
        let is_label = |label: &str| {
            let good = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'-';
            !label.is_empty()
                && label.len() <= LONGEST_LABEL
                && label.bytes().all(good)
                && !label.starts_with('-')
                && !label.ends_with('-')
        };
        if domain.len() > LONGEST || !domain.split('.').all(is_label) {
            return Err("write the domain of the cluster's DNS in lower case, such as cluster.local".to_owned());
        }
        Ok(Self(domain.into()))
    }

    /// Whether a name that ends in these labels is one of this domain.
    pub(crate) fn is(&self, labels: &[&str]) -> bool {
        self.0.split('.').eq(labels.iter().copied())
    }
}

impl Default for ClusterDomain {
    fn default() -> Self {
        Self("cluster.local".into())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_is_a_name_of_dns() {
        for text in ["cluster.local", "k8s", "eu-1.prod.bank.example", "bank.example."] {
            let domain = ClusterDomain::parse(text).unwrap();
            assert!(domain.is(&text.trim_end_matches('.').split('.').collect::<Vec<_>>()), "{text}");
            assert!(!domain.is(&["example"]), "{text}");
        }
        for text in ["", ".", "Cluster.local", "a..b", "-a", "a-.b", "a_b", "a b", &"a.".repeat(120), &"a".repeat(64)] {
            assert!(ClusterDomain::parse(text).is_err(), "{text}");
        }
        assert_eq!(ClusterDomain::parse("cluster.local"), Ok(ClusterDomain::default()));
    }
}
