//! Names: federations, principals and their roles, and the SPIFFE id that joins the three.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

/// A principal's name inside its federation: 8 to 64 characters of `[A-Za-z0-9_-]`.
///
/// The alphabet needs no escaping in a path, a URI, a file name or a log line. Compared as bytes: `Site-0001` and
/// `site-0001` are two principals.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct PrincipalId(String);

impl PrincipalId {
    /// Fewest characters of an id.
    pub const MIN_LEN: usize = 8;
    /// Most characters of an id.
    pub const MAX_LEN: usize = 64;

    /// The id as text.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    fn check(text: &str) -> Result<(), InvalidName> {
        if !(Self::MIN_LEN..=Self::MAX_LEN).contains(&text.len()) {
            return Err(InvalidName::PrincipalLength { bytes: text.len() });
        }
        match text.chars().find(|&c| !(c.is_ascii_alphanumeric() || c == '_' || c == '-')) {
            Some(found) => Err(InvalidName::PrincipalCharacter { found }),
            None => Ok(()),
        }
    }
}

/// The name of a federation, which is also its SPIFFE trust domain: 1 to 63 characters of `[a-z0-9.-]` that neither
/// begin nor end with a dot or a dash, and hold no two dots in a row.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct FederationId(String);

impl FederationId {
    /// Most characters of a federation's name.
    pub const MAX_LEN: usize = 63;

    /// The name as text.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// The SPIFFE id of the trust domain itself, as its authorities carry it: `spiffe://<federation>`.
    pub fn spiffe_id(&self) -> String {
        format!("{SPIFFE_SCHEME}{self}")
    }

    fn check(text: &str) -> Result<(), InvalidName> {
        if !(1..=Self::MAX_LEN).contains(&text.len()) {
            return Err(InvalidName::FederationLength { bytes: text.len() });
        }
        let edge = |c: char| c == '.' || c == '-';
        if text.starts_with(edge) || text.ends_with(edge) || text.contains("..") {
            return Err(InvalidName::FederationShape);
        }
        match text.chars().find(|&c| !(c.is_ascii_lowercase() || c.is_ascii_digit() || edge(c))) {
            Some(found) => Err(InvalidName::FederationCharacter { found }),
            None => Ok(()),
        }
    }
}

/// What a principal is in its federation. [`Role::may`] says what that permits.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Role {
    /// A site that takes part in rounds.
    Client,
    /// The service that runs rounds, or whoever runs tasks on it.
    Coordinator,
    /// An operator who admits participants and creates tasks.
    Admin,
    /// Reads everything that is not a model's weights, changes nothing.
    Auditor,
}

impl Role {
    /// Every role, in the order of declaration.
    pub const ALL: [Self; 4] = [Self::Client, Self::Coordinator, Self::Admin, Self::Auditor];

    /// The role as it stands in SPIFFE ids, JSON and configuration.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Client => "client",
            Self::Coordinator => "coordinator",
            Self::Admin => "admin",
            Self::Auditor => "auditor",
        }
    }
}

/// A named member of a federation in one role. As text, its SPIFFE id: `spiffe://<federation>/<role>/<id>`.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Principal {
    /// The federation, and trust domain, it belongs to.
    pub federation: FederationId,
    /// What it is there.
    pub role: Role,
    /// Its name there.
    pub id: PrincipalId,
}

impl Principal {
    /// Most bytes of a SPIFFE id of ours; longer text is refused before it is read.
    pub const MAX_SPIFFE_LEN: usize =
        SPIFFE_SCHEME.len() + FederationId::MAX_LEN + "/coordinator/".len() + PrincipalId::MAX_LEN;

    /// `spiffe://<federation>/<role>/<id>` ([SPIFFE-ID] section 2).
    ///
    /// [SPIFFE-ID]: https://github.com/spiffe/spiffe/blob/main/standards/SPIFFE-ID.md
    pub fn spiffe_id(&self) -> String {
        format!("{SPIFFE_SCHEME}{}/{}/{}", self.federation, self.role, self.id)
    }

    /// Reads what [`Principal::spiffe_id`] writes, and nothing else: no query, port, user, escape, empty segment or
    /// other case.
    ///
    /// # Errors
    /// [`InvalidName`], naming the part that is wrong.
    pub fn parse_spiffe(text: &str) -> Result<Self, InvalidName> {
        if text.len() > Self::MAX_SPIFFE_LEN {
            return Err(InvalidName::SpiffeLength { bytes: text.len() });
        }
        let rest = text.strip_prefix(SPIFFE_SCHEME).ok_or(InvalidName::SpiffeShape)?;
        let mut parts = rest.split('/');
        match (parts.next(), parts.next(), parts.next(), parts.next()) {
            (Some(federation), Some(role), Some(id), None) => {
                Ok(Self { federation: federation.parse()?, role: role.parse()?, id: id.parse()? })
            }
            _ => Err(InvalidName::SpiffeShape),
        }
    }
}

/// A name that is not one of ours.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum InvalidName {
    /// Shorten or lengthen it.
    #[error(
        "a principal id has {} to {} characters, this one has {bytes} bytes",
        PrincipalId::MIN_LEN,
        PrincipalId::MAX_LEN
    )]
    PrincipalLength {
        /// Bytes found.
        bytes: usize,
    },
    /// Replace the character.
    #[error("a principal id holds only letters, digits, '_' and '-', this one holds {found:?}")]
    PrincipalCharacter {
        /// The first character that is not allowed.
        found: char,
    },
    /// Shorten it, or give one.
    #[error("a federation name has 1 to {} characters, this one has {bytes} bytes", FederationId::MAX_LEN)]
    FederationLength {
        /// Bytes found.
        bytes: usize,
    },
    /// Remove the dot or dash.
    #[error("a federation name neither begins nor ends with '.' or '-', and holds no '..'")]
    FederationShape,
    /// Replace the character.
    #[error("a federation name holds only lower-case letters, digits, '.' and '-', this one holds {found:?}")]
    FederationCharacter {
        /// The first character that is not allowed.
        found: char,
    },
    /// Use one of the four roles.
    #[error("a role is one of client, coordinator, admin, auditor")]
    Role,
    /// Not an id of ours.
    #[error("a SPIFFE id of a principal has at most {} bytes, this one has {bytes}", Principal::MAX_SPIFFE_LEN)]
    SpiffeLength {
        /// Bytes found.
        bytes: usize,
    },
    /// Not an id of ours.
    #[error("a SPIFFE id of a principal reads spiffe://<federation>/<role>/<id>")]
    SpiffeShape,
}

impl FromStr for PrincipalId {
    type Err = InvalidName;

    fn from_str(text: &str) -> Result<Self, InvalidName> {
        Self::check(text)?;
        Ok(Self(text.to_owned()))
    }
}

impl TryFrom<String> for PrincipalId {
    type Error = InvalidName;

    fn try_from(text: String) -> Result<Self, InvalidName> {
        Self::check(&text)?;
        Ok(Self(text))
    }
}

impl From<PrincipalId> for String {
    fn from(id: PrincipalId) -> Self {
        id.0
    }
}

impl fmt::Display for PrincipalId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl fmt::Debug for PrincipalId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl FromStr for FederationId {
    type Err = InvalidName;

    fn from_str(text: &str) -> Result<Self, InvalidName> {
        Self::check(text)?;
        Ok(Self(text.to_owned()))
    }
}

impl TryFrom<String> for FederationId {
    type Error = InvalidName;

    fn try_from(text: String) -> Result<Self, InvalidName> {
        Self::check(&text)?;
        Ok(Self(text))
    }
}

impl From<FederationId> for String {
    fn from(id: FederationId) -> Self {
        id.0
    }
}

impl fmt::Display for FederationId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl fmt::Debug for FederationId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl FromStr for Role {
    type Err = InvalidName;

    fn from_str(text: &str) -> Result<Self, InvalidName> {
        Self::ALL.into_iter().find(|role| role.as_str() == text).ok_or(InvalidName::Role)
    }
}

impl fmt::Display for Role {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl FromStr for Principal {
    type Err = InvalidName;

    fn from_str(text: &str) -> Result<Self, InvalidName> {
        Self::parse_spiffe(text)
    }
}

impl TryFrom<String> for Principal {
    type Error = InvalidName;

    fn try_from(text: String) -> Result<Self, InvalidName> {
        Self::parse_spiffe(&text)
    }
}

impl From<Principal> for String {
    fn from(principal: Principal) -> Self {
        principal.spiffe_id()
    }
}

impl fmt::Display for Principal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.spiffe_id())
    }
}

impl fmt::Debug for Principal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.spiffe_id())
    }
}

const SPIFFE_SCHEME: &str = "spiffe://";

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "tests")]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn principal_ids() {
        for good in ["abcdefgh", "Site_0-1", &"x".repeat(64)] {
            assert_eq!(good.parse::<PrincipalId>().unwrap().as_str(), good);
        }
        for (bad, why) in [
            ("", InvalidName::PrincipalLength { bytes: 0 }),
            ("seven77", InvalidName::PrincipalLength { bytes: 7 }),
            (&"x".repeat(65), InvalidName::PrincipalLength { bytes: 65 }),
            ("hospital.1", InvalidName::PrincipalCharacter { found: '.' }),
            ("hospital/1", InvalidName::PrincipalCharacter { found: '/' }),
            ("hospitäl-1", InvalidName::PrincipalCharacter { found: 'ä' }),
            ("hospital\n1", InvalidName::PrincipalCharacter { found: '\n' }),
        ] {
            assert_eq!(bad.parse::<PrincipalId>(), Err(why), "{bad:?}");
        }
    }

    #[test]
    fn federation_ids() {
        for good in ["a", "demo.sordino", "x-1.example", &"x".repeat(63)] {
            assert_eq!(good.parse::<FederationId>().unwrap().as_str(), good);
        }
        for (bad, why) in [
            ("", InvalidName::FederationLength { bytes: 0 }),
            (&"x".repeat(64), InvalidName::FederationLength { bytes: 64 }),
            (".a", InvalidName::FederationShape),
            ("a-", InvalidName::FederationShape),
            ("a..b", InvalidName::FederationShape),
            ("Demo", InvalidName::FederationCharacter { found: 'D' }),
            ("a:1", InvalidName::FederationCharacter { found: ':' }),
        ] {
            assert_eq!(bad.parse::<FederationId>(), Err(why), "{bad:?}");
        }
    }

    #[test]
    fn names_are_checked_when_they_come_out_of_json() {
        assert_eq!(serde_json::from_str::<PrincipalId>("\"site-0001\"").unwrap().as_str(), "site-0001");
        assert!(serde_json::from_str::<PrincipalId>("\"short\"").is_err());
        assert!(serde_json::from_str::<FederationId>("\"Upper\"").is_err());
        assert_eq!(serde_json::to_string(&Role::Auditor).unwrap(), "\"auditor\"");
        for role in Role::ALL {
            assert_eq!(serde_json::to_string(&role).unwrap(), format!("\"{role}\""));
            assert_eq!(role.as_str().parse(), Ok(role));
        }
    }

    #[test]
    fn spiffe_ids_of_other_shapes_are_refused() {
        let good = "spiffe://demo.sordino/client/site-0001";
        assert_eq!(Principal::parse_spiffe(good).unwrap().spiffe_id(), good);
        for bad in [
            "spiffe://demo.sordino",
            "spiffe://demo.sordino/client",
            "spiffe://demo.sordino/client/site-0001/",
            "spiffe://demo.sordino//client/site-0001",
            "spiffe://demo.sordino/client/site-0001?x=1",
            "spiffe://demo.sordino/client/site-0001#x",
            "spiffe://demo.sordino:443/client/site-0001",
            "spiffe://u@demo.sordino/client/site-0001",
            "spiffe://demo.sordino/Client/site-0001",
            "spiffe://demo.sordino/client/site%2d0001",
            "SPIFFE://demo.sordino/client/site-0001",
            "https://demo.sordino/client/site-0001",
            " spiffe://demo.sordino/client/site-0001",
        ] {
            assert!(Principal::parse_spiffe(bad).is_err(), "{bad}");
        }
        let long = format!("spiffe://{}", "a".repeat(1 << 16));
        assert!(matches!(Principal::parse_spiffe(&long), Err(InvalidName::SpiffeLength { .. })));
    }

    proptest! {
        #[test]
        fn a_principal_survives_its_spiffe_id(
            federation in "[a-z0-9]([a-z0-9-]{0,20}[a-z0-9])?(\\.[a-z0-9]{1,20})?",
            id in "[A-Za-z0-9_-]{8,64}",
            role in prop::sample::select(&Role::ALL[..]),
        ) {
            let principal = Principal { federation: federation.parse()?, role, id: id.parse()? };
            prop_assert_eq!(Principal::parse_spiffe(&principal.spiffe_id())?, principal);
        }

        #[test]
        fn arbitrary_text_is_an_answer_and_never_a_panic(text in ".{0,200}") {
            if let Ok(principal) = Principal::parse_spiffe(&text) {
                prop_assert_eq!(principal.spiffe_id(), text.clone());
            }
            let _ = (text.parse::<PrincipalId>(), text.parse::<FederationId>(), text.parse::<Role>());
        }
    }
}
