//! XMPP addresses: parsed once, compared byte for byte, cloned by reference count.
//!
//! RFC 7622 with lenient preparation for whatever is only routed: a code point that our tables do
//! not know must not bounce a stanza of a remote user. Names of local accounts are strict
//! (`BareJid::account`, RFC 8265 section 3.3). An all-ASCII address takes no Unicode table and one
//! allocation.

use idna::uts46::{AsciiDenyList, Hyphens, Uts46};
use precis_profiles::UsernameCaseMapped;
use precis_profiles::precis_core::profile::PrecisFastInvocation;
use std::borrow::Cow;
use std::fmt;
use std::hash::{Hash, Hasher};
use std::net::Ipv6Addr;
use std::ops::Deref;
use std::sync::Arc;
use unicode_normalization::{IsNormalized, UnicodeNormalization, is_nfc_quick};

/// Bytes of one part after preparation (RFC 7622 section 3.1).
const PART_MAX: usize = 1023;
/// Bytes of one part before preparation; composing and width mapping shrink a text.
const RAW_PART_MAX: usize = 4 * PART_MAX;
/// ASCII that no domain label may hold (RFC 5891 LDH, and `_`, which occurs in names of hosts).
const DOMAIN_DENY: AsciiDenyList = AsciiDenyList::new(true, "!\"#$%&'()*+,/:;<=>?@[\\]^`{|}~");

/// A part that may be absent; borrowed when preparation changed nothing.
type Part<'a> = Option<Cow<'a, str>>;

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

impl fmt::Display for JidError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Domain => "the domain part of the address is missing or not a host name",
            Self::Local => "the local part of the address is empty, too long or not allowed",
            Self::Resource => "the resource part of the address is empty, too long or not allowed",
        })
    }
}

impl std::error::Error for JidError {}

impl Jid {
    /// Parses and prepares an address.
    ///
    /// # Errors
    /// Names the first part that cannot be prepared (jid-malformed on the wire).
    pub fn parse(text: &str) -> Result<Self, JidError> {
        // ja-01: the first slash ends the bare address, then the first at-sign ends the local part.
        let (bare, resource) = match text.split_once('/') {
            Some((bare, resource)) => (bare, Some(resource)),
            None => (text, None),
        };
        let (local, domain) = match bare.split_once('@') {
            Some((local, domain)) => (Some(local), domain),
            None => (None, bare),
        };
        let local = local.map(prepare_local).transpose()?;
        let domain = prepare_domain(domain)?;
        let resource = resource.map(prepare_resource).transpose()?;
        Ok(Self::assemble(local, domain, resource, text))
    }

    /// Prepares a domain part and makes an address of it alone.
    ///
    /// # Errors
    /// `JidError::Domain` when it is no host name, IPv4 address or `[v6]`.
    pub fn domain_only(domain: &str) -> Result<Self, JidError> {
        let prepared = prepare_domain(domain)?;
        Ok(Self::assemble(None, prepared, None, domain))
    }

    /// Puts prepared parts together; `source` is reused when it already is the result.
    fn assemble(local: Part<'_>, domain: Cow<'_, str>, resource: Part<'_>, source: &str) -> Self {
        let local_len = local.as_ref().map_or(0, |local| local.len());
        let bare_len = local.as_ref().map_or(0, |local| local.len() + 1) + domain.len();
        let len = bare_len + resource.as_ref().map_or(0, |resource| resource.len() + 1);
        let borrowed = |part: &Part<'_>| !matches!(part, Some(Cow::Owned(_)));
        let unchanged = source.len() == len
            && borrowed(&local)
            && matches!(domain, Cow::Borrowed(_))
            && borrowed(&resource);
        let text = if unchanged {
            Arc::from(source)
        } else {
            let mut text = String::with_capacity(len);
            if let Some(local) = local {
                text.push_str(&local);
                text.push('@');
            }
            text.push_str(&domain);
            if let Some(resource) = resource {
                text.push('/');
                text.push_str(&resource);
            }
            Arc::from(text)
        };
        // Each part is at most 1,023 bytes, so both lengths fit.
        Self {
            text,
            local_len: local_len as u16,
            bare_len: bare_len as u16,
        }
    }

    /// The whole prepared text.
    pub fn as_str(&self) -> &str {
        &self.text
    }
    /// The text without the resource.
    pub fn bare_str(&self) -> &str {
        self.text
            .get(..usize::from(self.bare_len))
            .unwrap_or(&self.text)
    }
    /// The local part.
    pub fn local(&self) -> Option<&str> {
        match self.local_len {
            0 => None,
            len => self.text.get(..usize::from(len)),
        }
    }
    /// The domain part (U-labels, lower case).
    pub fn domain(&self) -> &str {
        let start = match self.local_len {
            0 => 0,
            len => usize::from(len) + 1,
        };
        self.text
            .get(start..usize::from(self.bare_len))
            .unwrap_or("")
    }
    /// The resource part.
    pub fn resource(&self) -> Option<&str> {
        self.text.get(usize::from(self.bare_len) + 1..)
    }
    /// True without a resource.
    pub fn is_bare(&self) -> bool {
        self.text.len() == usize::from(self.bare_len)
    }
    /// The address without its resource (no copy when it has none).
    pub fn to_bare(&self) -> BareJid {
        if self.is_bare() {
            return BareJid(self.clone());
        }
        BareJid(Self {
            text: Arc::from(self.bare_str()),
            local_len: self.local_len,
            bare_len: self.bare_len,
        })
    }
    /// This address with its resource replaced.
    ///
    /// # Errors
    /// `JidError::Resource` when the resource cannot be prepared.
    pub fn with_resource(&self, resource: &str) -> Result<FullJid, JidError> {
        let resource = prepare_resource(resource)?;
        Ok(FullJid(Self {
            text: Arc::from([self.bare_str(), "/", &resource].concat()),
            local_len: self.local_len,
            bare_len: self.bare_len,
        }))
    }
    /// As a full JID, when it has a resource.
    pub fn to_full(&self) -> Option<FullJid> {
        (!self.is_bare()).then(|| FullJid(self.clone()))
    }
}

impl BareJid {
    /// Parses an address that has no resource.
    ///
    /// # Errors
    /// As `Jid::parse`; `JidError::Resource` when there is a resource.
    pub fn parse(text: &str) -> Result<Self, JidError> {
        let jid = Jid::parse(text)?;
        if jid.is_bare() {
            Ok(Self(jid))
        } else {
            Err(JidError::Resource)
        }
    }
    /// `local@domain` of a *local account*: strict UsernameCaseMapped (RFC 8265 section 3.3).
    ///
    /// # Errors
    /// `JidError::Local` when the profile refuses the name, `JidError::Domain` as in `Jid::parse`.
    pub fn account(local: &str, domain: &str) -> Result<Self, JidError> {
        // The account must be found under the name that routing prepares: so routing's form is
        // taken, and the strict profile must have nothing to add to it.
        let prepared = prepare_local(local)?;
        if !prepared.is_ascii() {
            match UsernameCaseMapped::enforce(prepared.as_ref()) {
                Ok(enforced) if enforced == prepared => {}
                _ => return Err(JidError::Local),
            }
        }
        let domain = prepare_domain(domain)?;
        Ok(Self(Jid::assemble(Some(prepared), domain, None, "")))
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
    ///
    /// # Errors
    /// As `Jid::parse`; `JidError::Resource` when there is no resource.
    pub fn parse(text: &str) -> Result<Self, JidError> {
        Jid::parse(text)?.to_full().ok_or(JidError::Resource)
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
        self.0.resource().unwrap_or("")
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

/// Local part of an address that is routed: width-mapped, lower case, NFC (DESIGN 3).
fn prepare_local(local: &str) -> Result<Cow<'_, str>, JidError> {
    if local.is_empty() || local.len() > RAW_PART_MAX {
        return Err(JidError::Local);
    }
    let prepared = if local.is_ascii() {
        lower_ascii(local)
    } else {
        // Lower case letter by letter: a final sigma is told apart only where it was typed.
        Cow::Owned(
            local
                .chars()
                .map(map_width)
                .flat_map(char::to_lowercase)
                .nfc()
                .collect(),
        )
    };
    let bad = |c: char| matches!(c, '"' | '&' | '\'' | '/' | ':' | '<' | '>' | '@' | ' ');
    if prepared.len() > PART_MAX || prepared.chars().any(|c| bad(c) || is_refused(c)) {
        return Err(JidError::Local);
    }
    Ok(prepared)
}

/// Domain part: `[v6]`, or labels by UTS 46, as U-labels in lower case.
fn prepare_domain(domain: &str) -> Result<Cow<'_, str>, JidError> {
    if domain.len() > RAW_PART_MAX {
        return Err(JidError::Domain);
    }
    if let Some(v6) = domain.strip_prefix('[') {
        let v6 = v6.strip_suffix(']').ok_or(JidError::Domain)?;
        let address: Ipv6Addr = v6.parse().map_err(|_| JidError::Domain)?;
        return Ok(Cow::Owned(format!("[{address}]")));
    }
    let domain = domain.strip_suffix('.').unwrap_or(domain);
    let prepared = if is_plain_domain(domain) {
        lower_ascii(domain)
    } else {
        let (text, result) =
            Uts46::new().to_unicode(domain.as_bytes(), DOMAIN_DENY, Hyphens::Allow);
        result.map_err(|_| JidError::Domain)?;
        match text.strip_suffix('.') {
            Some(stripped) => Cow::Owned(stripped.to_owned()), // an ideographic full stop
            None => text,
        }
    };
    let empty_label = prepared.split('.').any(str::is_empty);
    if empty_label || prepared.len() > PART_MAX || prepared.chars().any(is_refused) {
        return Err(JidError::Domain);
    }
    Ok(prepared)
}

/// Resource part: spaces to U+0020, NFC, case kept (RFC 8265 section 4.2, without its tables).
fn prepare_resource(resource: &str) -> Result<Cow<'_, str>, JidError> {
    if resource.is_empty() || resource.len() > RAW_PART_MAX {
        return Err(JidError::Resource);
    }
    let has_space = || resource.chars().any(is_wide_space);
    let prepared = if resource.is_ascii()
        || (is_nfc_quick(resource.chars()) == IsNormalized::Yes && !has_space())
    {
        Cow::Borrowed(resource)
    } else {
        let spaced = resource
            .chars()
            .map(|c| if is_wide_space(c) { ' ' } else { c });
        Cow::Owned(spaced.nfc().collect())
    };
    if prepared.len() > PART_MAX || prepared.chars().any(is_refused) {
        return Err(JidError::Resource);
    }
    Ok(prepared)
}

/// True for names that UTS 46 only lower-cases: letters, digits, `-`, `_`, dots, no A-label.
fn is_plain_domain(domain: &str) -> bool {
    domain
        .bytes()
        .all(|b| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'_' | b'.'))
        && !domain.split('.').any(|label| {
            label
                .get(..4)
                .is_some_and(|start| start.eq_ignore_ascii_case("xn--"))
        })
}

fn lower_ascii(text: &str) -> Cow<'_, str> {
    if text.bytes().any(|b| b.is_ascii_uppercase()) {
        Cow::Owned(text.to_ascii_lowercase())
    } else {
        Cow::Borrowed(text)
    }
}

/// Controls and noncharacters: refused in every part.
fn is_refused(c: char) -> bool {
    c.is_control() || matches!(u32::from(c), 0xFDD0..=0xFDEF) || u32::from(c) & 0xFFFE == 0xFFFE
}

/// Space separators other than U+0020.
fn is_wide_space(c: char) -> bool {
    matches!(
        c,
        '\u{A0}' | '\u{1680}' | '\u{2000}'..='\u{200A}' | '\u{202F}' | '\u{205F}' | '\u{3000}'
    )
}

/// Fullwidth and halfwidth forms as their ordinary ones (RFC 8264 section 5.2.1).
fn map_width(c: char) -> char {
    match c {
        '\u{3000}' => ' ',
        '\u{FF01}'..='\u{FF5E}' => char::from_u32(u32::from(c) - 0xFF01 + 0x21).unwrap_or(c),
        '\u{FF65}'..='\u{FF9F}' => {
            let mut mapped = std::iter::once(c).nfkc();
            mapped.next().unwrap_or(c)
        }
        other => other,
    }
}

#[cfg(test)]
mod tests;
