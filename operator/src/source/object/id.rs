//! Which object a document is.

use std::fmt;

use crate::model::Key;
use crate::source::located::Node;

/// The kinds that a folder may hold.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) enum Kind {
    FapiClient,
    FapiIssuer,
    FapiMesh,
    FapiPolicy,
    Revocation,
    Workload,
}

/// Kind, namespace and name. The names are safe in a path.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) struct ObjectId {
    pub(crate) kind: Kind,
    /// `None` for what belongs to no namespace.
    pub(crate) namespace: Option<String>,
    pub(crate) name: String,
}

impl Kind {
    pub(crate) const ALL: [Self; 6] =
        [Self::FapiClient, Self::FapiIssuer, Self::FapiMesh, Self::FapiPolicy, Self::Revocation, Self::Workload];

    pub(crate) const fn name(self) -> &'static str {
        match self {
            Self::FapiClient => "FapiClient",
            Self::FapiIssuer => "FapiIssuer",
            Self::FapiMesh => "FapiMesh",
            Self::FapiPolicy => "FapiPolicy",
            Self::Revocation => "Revocation",
            Self::Workload => "Workload",
        }
    }

    pub(crate) const fn is_namespaced(self) -> bool {
        !matches!(self, Self::FapiIssuer | Self::FapiMesh | Self::Revocation)
    }

    pub(crate) fn from_name(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|kind| kind.name() == name)
    }
}

impl ObjectId {
    /// The object of these names; `None` if a name could not be one in a cluster.
    pub(crate) fn new(kind: Kind, namespace: Option<&str>, name: &str) -> Option<Self> {
        let namespace = match (kind.is_namespaced(), namespace) {
            (true, Some(namespace)) if is_label(namespace) => Some(namespace.to_owned()),
            (false, None) => None,
            _ => return None,
        };
        let is_name = name.len() <= 253 && name.split('.').all(is_label);
        is_name.then(|| Self { kind, namespace, name: name.to_owned() })
    }

    /// Reads what a document says it is, whatever else may be wrong with it.
    pub(super) fn of(node: &Node) -> Option<Self> {
        let kind = Kind::from_name(node.get("kind")?.text()?)?;
        let metadata = node.get("metadata")?;
        let namespace = metadata.get("namespace").and_then(Node::text);
        Self::new(kind, namespace, metadata.get("name")?.text()?)
    }

    /// Namespace and name; the namespace is empty for what has none.
    pub(crate) fn key(&self) -> Key {
        Key::new(self.namespace.as_deref().unwrap_or_default(), &self.name)
    }
}

fn is_label(text: &str) -> bool {
    let good = |byte: u8| matches!(byte, b'a'..=b'z' | b'0'..=b'9' | b'-');
    (1..=63).contains(&text.len()) && text.bytes().all(good) && !text.starts_with('-') && !text.ends_with('-')
}

impl fmt::Display for ObjectId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} ", self.kind.name())?;
        if let Some(namespace) = &self.namespace {
            write!(f, "{namespace}/")?;
        }
        f.write_str(&self.name)
    }
}
