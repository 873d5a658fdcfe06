//! XMPP addresses: parsed once, compared byte for byte, cloned by reference count.
//!
//! RFC 7622 with the lenient preparation of DESIGN 3 for whatever is only routed.

use std::fmt;
use std::hash::{Hash, Hasher};
use std::ops::Deref;
use std::sync::Arc;

/// `[local "@"] domain ["/" resource]`, prepared: two equal addresses have equal text.
#[derive(Clone)]
pub struct Jid {
    text: Arc<str>,
    /// Byte length of the local part; 0: none.
    local_len: u16,
    /// Byte offset of the end of the domain part.
    bare_len: u16,
}

/// A `Jid` without a resource.
#[derive(Clone, Debug, Eq, Hash, Ord, PartialEq, PartialOrd)]
pub struct BareJid(Jid);

/// A `Jid` with a resource.
#[derive(Clone, Debug, Eq, Hash, Ord, PartialEq, PartialOrd)]
pub struct FullJid(Jid);

/// Why a text is no address.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
#[non_exhaustive]
pub enum JidError {
    /// The domain part is missing or not a name, an address or `[v6]`.
    Domain,
    /// The local part is empty, over 1,023 bytes or has a forbidden character.
    Local,
    /// The resource part is empty, over 1,023 bytes or has a control or noncharacter.
    Resource,
}

impl Jid {
    /// Parses and prepares an address.
    pub fn parse(_text: &str) -> Result<Self, JidError> {
        todo!()
    }
    /// Prepares a domain part and makes an address of it alone.
    pub fn domain_only(_domain: &str) -> Result<Self, JidError> {
        todo!()
    }
    /// The whole prepared text.
    pub fn as_str(&self) -> &str {
        &self.text
    }
    /// The text without the resource.
    pub fn bare_str(&self) -> &str {
        todo!()
    }
    /// The local part.
    pub fn local(&self) -> Option<&str> {
        todo!()
    }
    /// The domain part (U-labels, lower case).
    pub fn domain(&self) -> &str {
        todo!()
    }
    /// The resource part.
    pub fn resource(&self) -> Option<&str> {
        todo!()
    }
    /// True without a resource.
    pub fn is_bare(&self) -> bool {
        todo!()
    }
    /// The address without its resource (no copy when it has none).
    pub fn to_bare(&self) -> BareJid {
        todo!()
    }
    /// This address with its resource replaced.
    pub fn with_resource(&self, _resource: &str) -> Result<FullJid, JidError> {
        todo!()
    }
    /// As a full JID, when it has a resource.
    pub fn to_full(&self) -> Option<FullJid> {
        todo!()
    }
}

impl BareJid {
    /// Parses an address that has no resource.
    pub fn parse(_text: &str) -> Result<Self, JidError> {
        todo!()
    }
    /// `local@domain` of a *local account*: strict UsernameCaseMapped (RFC 8265 section 3.3).
    pub fn account(_local: &str, _domain: &str) -> Result<Self, JidError> {
        todo!()
    }
    /// As a plain `Jid`.
    pub fn into_jid(self) -> Jid {
        self.0
    }
    /// As a plain `Jid`.
    pub fn as_jid(&self) -> &Jid {
        &self.0
    }
}

impl FullJid {
    /// Parses an address that has a resource.
    pub fn parse(_text: &str) -> Result<Self, JidError> {
        todo!()
    }
    /// As a plain `Jid`.
    pub fn into_jid(self) -> Jid {
        self.0
    }
    /// As a plain `Jid`.
    pub fn as_jid(&self) -> &Jid {
        &self.0
    }
    /// The resource part; never empty.
    pub fn resource_str(&self) -> &str {
        todo!()
    }
}

impl Deref for BareJid {
    type Target = Jid;
    fn deref(&self) -> &Jid {
        &self.0
    }
}
impl Deref for FullJid {
    type Target = Jid;
    fn deref(&self) -> &Jid {
        &self.0
    }
}
/// So that maps keyed by bare JID can be asked with `jid.bare_str()`.
impl std::borrow::Borrow<str> for BareJid {
    fn borrow(&self) -> &str {
        self.0.as_str()
    }
}
impl PartialEq for Jid {
    fn eq(&self, other: &Self) -> bool {
        self.text == other.text
    }
}
impl Eq for Jid {}
impl PartialOrd for Jid {
    fn partial_cmp(&self, other: &Self) -> Option<std::cmp::Ordering> {
        Some(self.cmp(other))
    }
}
impl Ord for Jid {
    fn cmp(&self, other: &Self) -> std::cmp::Ordering {
        self.text.cmp(&other.text)
    }
}
impl Hash for Jid {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.text.hash(state)
    }
}
impl fmt::Display for Jid {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}
impl fmt::Debug for Jid {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}
impl fmt::Display for BareJid {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}
impl fmt::Display for FullJid {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}
impl From<BareJid> for Jid {
    fn from(jid: BareJid) -> Self {
        jid.0
    }
}
impl From<FullJid> for Jid {
    fn from(jid: FullJid) -> Self {
        jid.0
    }
}
