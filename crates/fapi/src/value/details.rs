use std::sync::Arc;

use serde::{Serialize, Serializer};
use serde_json::Value;

use super::InvalidValue;
use crate::json::{self, Members, NotStrict, View};

/// Authorization details (RFC 9396 section 2) with the common fields of section 2.2 and no others. Cloning is cheap.
///
/// Lists grant: what a list does not name is not given, so a missing list gives nothing. `locations` and `identifier`
/// limit: a detail for one account is not one for all, and the app never sees it. So a limited detail covers only what is
/// limited to the same.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct AuthorizationDetails(Arc<[Detail]>);

/// One of them.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub(crate) struct Detail {
    #[serde(rename = "type")]
    kind: Box<str>,
    #[serde(skip_serializing_if = "<[_]>::is_empty")]
    locations: Texts,
    #[serde(skip_serializing_if = "<[_]>::is_empty")]
    actions: Texts,
    #[serde(skip_serializing_if = "<[_]>::is_empty")]
    datatypes: Texts,
    #[serde(skip_serializing_if = "Option::is_none")]
    identifier: Option<Box<str>>,
    #[serde(skip_serializing_if = "<[_]>::is_empty")]
    privileges: Texts,
}

type Texts = Box<[Box<str>]>;

impl AuthorizationDetails {
    /// A token with more of them is refused.
    pub const MOST_GIVEN: usize = 64;

    /// Reads the `authorization_details` parameter of a request. A field that is not understood is refused, as section 5
    /// asks for (`invalid_authorization_details`).
    ///
    /// # Errors
    /// Not a JSON list of 1 to 16 objects; a field that is no common one, or empty, or longer than 256 bytes.
    pub fn parse(text: &str) -> Result<Self, InvalidValue> {
        let list = json::parse_list(text.as_bytes()).map_err(|_| InvalidValue::new(WHAT, "want a JSON list"))?;
        if !(1..=MAX_ASKED).contains(&list.len()) {
            return Err(InvalidValue::new(WHAT, "want 1 to 16 of them"));
        }
        list.iter().map(Detail::parse).collect()
    }

    /// Reads the claim of a token (section 9.1). A detail with a field that is not understood here may be limited by it,
    /// so it is left out: it covers nothing.
    pub(crate) fn of_claim(value: &Value) -> Result<Self, NotStrict> {
        let list = value.as_array().filter(|list| list.len() <= Self::MOST_GIVEN).ok_or(NotStrict)?;
        let mut known = Vec::with_capacity(list.len());
        for value in list {
            let members = Members::of(value)?;
            let detail = Detail::read(members)?;
            if Detail::is_understood(members) {
                known.push(detail);
            }
        }
        Ok(known.into_iter().collect())
    }

    /// Whether each of `wanted` is covered by one of these.
    #[must_use]
    pub fn covers(&self, wanted: &Self) -> bool {
        wanted.0.iter().all(|wanted| self.0.iter().any(|mine| mine.covers(wanted)))
    }

    /// These and those of `other`.
    #[must_use]
    pub fn union(&self, other: &Self) -> Self {
        let new = other.0.iter().filter(|detail| !self.0.contains(detail));
        self.0.iter().chain(new).cloned().collect()
    }

    /// What both cover.
    #[must_use]
    pub fn intersection(&self, other: &Self) -> Self {
        let of = |mine: &Self, theirs: &Self| -> Self {
            let covered = mine.0.iter().filter(|mine| theirs.0.iter().any(|theirs| theirs.covers(mine)));
            covered.cloned().collect()
        };
        of(self, other).union(&of(other, self))
    }

    /// How many there are.
    #[must_use]
    pub fn len(&self) -> usize {
        self.0.len()
    }

    /// Whether there is none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

impl FromIterator<Detail> for AuthorizationDetails {
    fn from_iter<I: IntoIterator<Item = Detail>>(details: I) -> Self {
        Self(details.into_iter().collect())
    }
}

/// The JSON list of the parameter and the claim.
impl Serialize for AuthorizationDetails {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_seq(self.0.iter())
    }
}

impl Detail {
    /// Reads a detail that is asked for.
    pub(crate) fn parse(value: &Value) -> Result<Self, InvalidValue> {
        let members = Members::of(value).map_err(|_| InvalidValue::new(WHAT, "want a JSON object"))?;
        if !Self::is_understood(members) {
            let problem = "a field beyond type, locations, actions, datatypes, identifier, privileges (RFC 9396 2.2)";
            return Err(InvalidValue::new(WHAT, problem));
        }
        let problem = "want a text `type`; `identifier` is a text, other fields are lists of 1 to 64 texts, not empty";
        let detail = Self::read(members).map_err(|_| InvalidValue::new(WHAT, problem))?;
        if detail.texts().any(|text| text.len() > MAX_TEXT || text.chars().any(char::is_control)) {
            return Err(InvalidValue::new(WHAT, "a text is longer than 256 bytes or has control characters"));
        }
        Ok(detail)
    }

    fn read(members: View<'_>) -> Result<Self, NotStrict> {
        let list = |name| texts(members.value(name));
        Ok(Self {
            kind: not_empty(members.need_text("type")?)?.into(),
            locations: list("locations")?,
            actions: list("actions")?,
            datatypes: list("datatypes")?,
            identifier: members.text("identifier")?.map(not_empty).transpose()?.map(Box::from),
            privileges: list("privileges")?,
        })
    }

    fn is_understood(members: View<'_>) -> bool {
        members.names().all(|name| COMMON.contains(&name))
    }

    fn covers(&self, wanted: &Self) -> bool {
        self.kind == wanted.kind
            && self.identifier == wanted.identifier
            && self.locations.is_empty() == wanted.locations.is_empty()
            && has_all(&self.locations, &wanted.locations)
            && has_all(&self.actions, &wanted.actions)
            && has_all(&self.datatypes, &wanted.datatypes)
            && has_all(&self.privileges, &wanted.privileges)
    }

    fn texts(&self) -> impl Iterator<Item = &str> {
        let lists = [&self.locations, &self.actions, &self.datatypes, &self.privileges];
        let listed = lists.into_iter().flat_map(|list| list.iter());
        listed.chain([&self.kind]).chain(&self.identifier).map(|text| &**text)
    }
}

fn has_all(mine: &[Box<str>], wanted: &[Box<str>]) -> bool {
    wanted.iter().all(|text| mine.contains(text))
}

/// A list of texts. An empty one could be read as "all", so it is refused.
fn texts(value: Option<&Value>) -> Result<Texts, NotStrict> {
    let Some(value) = value else { return Ok(Texts::default()) };
    let list = value.as_array().filter(|list| (1..=MAX_LIST).contains(&list.len())).ok_or(NotStrict)?;
    list.iter().map(|text| Ok(not_empty(text.as_str().ok_or(NotStrict)?)?.into())).collect()
}

fn not_empty(text: &str) -> Result<&str, NotStrict> {
    if text.is_empty() { Err(NotStrict) } else { Ok(text) }
}

const WHAT: &str = "authorization detail";
const COMMON: [&str; 6] = ["type", "locations", "actions", "datatypes", "identifier", "privileges"];
const MAX_ASKED: usize = 16;
const MAX_LIST: usize = 64;
const MAX_TEXT: usize = 256;

#[cfg(test)]
mod tests;
