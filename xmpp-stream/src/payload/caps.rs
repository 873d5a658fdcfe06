//! Entity capabilities: which set of abilities a presence names, and the hash of such a set.
//!
//! XEP-0115 section 5. The hashed string joins what an entity says of itself with `<` and `/`; data
//! that holds these itself could stand for another entity's, so it has no hash here.

use crate::ns;
use crate::stanza::Stanza;
use crate::xml::Element;
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use ring::digest;

/// Bytes of a node that are believed to name a program.
const NODE_MAX: usize = 1023;

/// What a presence names: `<c/>` with a hash that could be right.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Caps {
    /// By which function.
    pub algorithm: Algorithm,
    /// The program.
    pub node: String,
    /// The hash, as text.
    pub ver: String,
}

impl Caps {
    /// What this presence names; `None`: nothing that could be verified.
    #[must_use]
    pub fn find(presence: &Stanza) -> Option<Self> {
        let kid = presence.kid(ns::id::CAPS, ns::name::C)?;
        let c = presence.element(kid);
        let algorithm = Algorithm::of(c.attr("hash")?)?;
        let (node, ver) = (c.attr("node")?, c.attr("ver")?);
        let is_plausible =
            !node.is_empty() && node.len() <= NODE_MAX && ver.len() == algorithm.text_len();
        is_plausible.then(|| Self {
            algorithm,
            node: node.into(),
            ver: ver.into(),
        })
    }

    /// What names this answer to disco#info; `None`: it is ill-formed.
    #[must_use]
    pub fn of(info: &Element, node: &str) -> Option<Self> {
        // Section 5.1: SHA-1 is what everybody understands.
        let algorithm = Algorithm::Sha1;
        Some(Self {
            algorithm,
            node: node.into(),
            ver: of(info, algorithm)?,
        })
    }

    /// The node to ask for (section 6.2).
    #[must_use]
    pub fn info_node(&self) -> String {
        format!("{}#{}", self.node, self.ver)
    }

    /// Writes `<c/>`.
    #[must_use]
    pub fn to_element(&self) -> Element {
        Element::new(ns::CAPS, "c")
            .with_attr("hash", self.algorithm.name())
            .with_attr("node", &self.node)
            .with_attr("ver", &self.ver)
    }
}

/// A hash function that we verify (section 5.1: SHA-1 is mandatory).
#[derive(Clone, Copy, Debug, Eq, Hash, PartialEq)]
pub enum Algorithm {
    /// "sha-1": a name for what is known, no proof of who says it.
    Sha1,
    /// "sha-256".
    Sha256,
    /// "sha-512".
    Sha512,
}

impl Algorithm {
    /// By its name in the registry of hash functions.
    #[must_use]
    pub fn of(name: &str) -> Option<Self> {
        [Self::Sha1, Self::Sha256, Self::Sha512]
            .into_iter()
            .find(|algorithm| algorithm.name() == name)
    }

    /// Its name there.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Sha1 => "sha-1",
            Self::Sha256 => "sha-256",
            Self::Sha512 => "sha-512",
        }
    }

    /// Length of a hash as text.
    #[must_use]
    pub fn text_len(self) -> usize {
        self.digest().output_len().div_ceil(3) * 4
    }

    fn digest(self) -> &'static digest::Algorithm {
        match self {
            Self::Sha1 => &digest::SHA1_FOR_LEGACY_USE_ONLY,
            Self::Sha256 => &digest::SHA256,
            Self::Sha512 => &digest::SHA512,
        }
    }
}

/// The hash of a disco#info answer; `None`: it is ill-formed (section 5.4).
#[must_use]
pub fn of(info: &Element, algorithm: Algorithm) -> Option<String> {
    let text = string(info)?;
    let hash = digest::digest(algorithm.digest(), text.as_bytes());
    Some(STANDARD.encode(hash))
}

/// Section 5.1: identities, features and forms, each sorted by its bytes.
fn string(info: &Element) -> Option<String> {
    let mut lines = identities(info)?;
    lines.extend(features(info)?);
    let mut forms = forms(info)?;
    forms.sort();
    for (form_type, fields) in forms {
        lines.push(form_type);
        lines.extend(fields.into_iter().flatten());
    }
    let is_plain = lines.iter().all(|line| !line.contains('<'));
    is_plain.then(|| lines.iter().map(|line| format!("{line}<")).collect())
}

fn named<'a>(info: &'a Element, name: &'a str) -> impl Iterator<Item = &'a Element> {
    info.children()
        .filter(move |child| child.is(ns::DISCO_INFO, name))
}

fn identities(info: &Element) -> Option<Vec<String>> {
    let mut identities = Vec::new();
    for identity in named(info, "identity") {
        let (category, ty) = (identity.attr("category")?, identity.attr("type")?);
        let lang = identity.attr_ns(ns::XML, "lang").unwrap_or_default();
        if [category, ty, lang].iter().any(|part| part.contains('/')) {
            return None;
        }
        let name = identity.attr("name").unwrap_or_default();
        identities.push([category, ty, lang, name]);
    }
    sorted(&mut identities)?;
    Some(identities.iter().map(|parts| parts.join("/")).collect())
}

fn features(info: &Element) -> Option<Vec<String>> {
    let features: Option<Vec<_>> = named(info, "feature")
        .map(|feature| feature.attr("var").map(str::to_owned))
        .collect();
    let mut features = features?;
    sorted(&mut features)?;
    Some(features)
}

/// Type, and for each field its name and values.
type Form = (String, Vec<Vec<String>>);

fn forms(info: &Element) -> Option<Vec<Form>> {
    let mut forms = Vec::new();
    for form in info.children().filter(|x| x.is(ns::DATA_FORMS, "x")) {
        let of_name = |field: &Element| field.attr("var") == Some("FORM_TYPE");
        let is_field = |field: &&Element| field.is(ns::DATA_FORMS, "field");
        let Some(named) = form.children().filter(is_field).find(|f| of_name(f)) else {
            continue;
        };
        if named.attr("type") != Some("hidden") {
            continue;
        }
        let mut types = values(named);
        types.dedup();
        let Ok([form_type]) = <[String; 1]>::try_from(types) else {
            return None;
        };
        let fields = form.children().filter(is_field).filter(|f| !of_name(f));
        let mut fields: Vec<Vec<String>> = fields
            .map(|field| {
                let var = field.attr("var").unwrap_or_default().to_owned();
                [vec![var], values(field)].concat()
            })
            .collect();
        fields.sort();
        forms.push((form_type, fields));
    }
    let mut types: Vec<_> = forms.iter().map(|(form_type, _)| form_type).collect();
    sorted(&mut types)?;
    Some(forms)
}

fn values(field: &Element) -> Vec<String> {
    let values = field.children().filter(|v| v.is(ns::DATA_FORMS, "value"));
    let mut values: Vec<_> = values.map(Element::text).collect();
    values.sort();
    values
}

/// Sorts by bytes; `None`: something is there twice.
fn sorted<T: Ord>(list: &mut [T]) -> Option<()> {
    list.sort();
    let is_strict = list.is_sorted_by(|one, next| one < next);
    is_strict.then_some(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn element(xml: &str) -> Element {
        Element::parse(xml.as_bytes(), "").unwrap()
    }

    const SIMPLE_VER: &str = "QgayPKawpkPSDYmwT/WM94uAlu0=";
    const COMPLEX_VER: &str = "q07IKJEyjvHSyhy//CH0CxmKi8w=";
    const SIMPLE: &str = "<identity category='client' type='pc' name='Exodus 0.9.1'/>\
    <feature var='http://jabber.org/protocol/muc'/>\
    <feature var='http://jabber.org/protocol/disco#info'/>\
    <feature var='http://jabber.org/protocol/caps'/>\
    <feature var='http://jabber.org/protocol/disco#items'/>";
    const FORM: &str = "<x xmlns='jabber:x:data' type='result'>\
    <field var='FORM_TYPE' type='hidden'><value>urn:xmpp:dataforms:softwareinfo</value></field>\
    <field var='os_version'><value>10.5.1</value></field>\
    <field var='ip_version' type='text-multi'><value>ipv6</value><value>ipv4</value></field>\
    <field var='os'><value>Mac</value></field>\
    <field var='software'><value>Psi</value></field>\
    <field var='software_version'><value>0.11</value></field></x>";

    fn query(content: &str) -> Element {
        element(&format!(
            "<query xmlns='http://jabber.org/protocol/disco#info'>{content}</query>"
        ))
    }

    fn complex(more: &str) -> Element {
        query(&format!(
            "<identity xml:lang='en' category='client' name='Psi 0.11' type='pc'/>\
         <identity xml:lang='el' category='client' name='\u{3a8} 0.11' type='pc'/>\
         <feature var='http://jabber.org/protocol/caps'/>\
         <feature var='http://jabber.org/protocol/disco#info'/>\
         <feature var='http://jabber.org/protocol/disco#items'/>\
         <feature var='http://jabber.org/protocol/muc'/>{FORM}{more}"
        ))
    }

    fn sha1(info: &Element) -> Option<String> {
        of(info, Algorithm::Sha1)
    }

    #[test]
    fn im_ec_01_hashes_of_the_examples() {
        assert_eq!(sha1(&query(SIMPLE)).as_deref(), Some(SIMPLE_VER));
        assert_eq!(sha1(&complex("")).as_deref(), Some(COMPLEX_VER));
        for algorithm in [Algorithm::Sha1, Algorithm::Sha256, Algorithm::Sha512] {
            let hash = of(&query(SIMPLE), algorithm).unwrap();
            assert_eq!(hash.len(), algorithm.text_len());
            assert_eq!(Algorithm::of(algorithm.name()), Some(algorithm));
        }
    }

    #[test]
    fn im_ec_02_escapes_in_data_are_data() {
        // Read once, not twice: the name holds the four characters of an escape.
        let escaped = SIMPLE.replace("Exodus 0.9.1", "Exodus&amp;lt;muc");
        assert_ne!(sha1(&query(&escaped)), None);
        // Data that would end an entry of the string early has no hash.
        let joined = "<identity category='client' type='pc' \
        name='Exodus 0.9.1&lt;http://jabber.org/protocol/caps'/>\
        <feature var='http://jabber.org/protocol/disco#info'/>\
        <feature var='http://jabber.org/protocol/disco#items'/>\
        <feature var='http://jabber.org/protocol/muc'/>";
        assert_eq!(sha1(&query(joined)), None);
        let slashed = "<identity category='client/pc' type=''/>";
        assert_eq!(sha1(&query(slashed)), None);
    }

    #[test]
    fn im_ec_03_what_is_ill_formed_has_no_hash() {
        let twice = "<feature var='http://jabber.org/protocol/muc'/>";
        assert_eq!(sha1(&query(&format!("{SIMPLE}{twice}"))), None);
        let twice = "<identity category='client' type='pc' name='Exodus 0.9.1'/>";
        assert_eq!(sha1(&query(&format!("{SIMPLE}{twice}"))), None);
        assert_eq!(sha1(&complex(FORM)), None);
        let two_types = "<x xmlns='jabber:x:data'><field var='FORM_TYPE' type='hidden'>\
        <value>a</value><value>b</value></field></x>";
        assert_eq!(sha1(&complex(two_types)), None);
        // A form that does not say of which type it is does not count.
        for form in [
            "<x xmlns='jabber:x:data'><field var='FORM_TYPE'><value>a</value></field></x>",
            "<x xmlns='jabber:x:data'><field var='a'><value>b</value></field></x>",
        ] {
            assert_eq!(sha1(&complex(form)).as_deref(), Some(COMPLEX_VER));
        }
    }

    #[test]
    fn im_ec_04_im_ec_06_presence_names_what_is_asked_for() {
        let c = |attrs: &str| {
            let c = format!("<c xmlns='http://jabber.org/protocol/caps' {attrs}/>");
            Caps::find(&Stanza::parse(&format!("<presence>{c}</presence>")).unwrap())
        };
        let named = c(&format!("hash='sha-1' node='n' ver='{SIMPLE_VER}'")).unwrap();
        assert_eq!(named.info_node(), format!("n#{SIMPLE_VER}"));
        assert_eq!(Caps::of(&query(SIMPLE), "n"), Some(named.clone()));
        let presence = Stanza::presence(crate::stanza::Ty::None).with_child(&named.to_element());
        assert_eq!(Caps::find(&presence), Some(named));
        for attrs in [
            "",
            "node='n' ver='0.9'",
            "hash='md5' node='n' ver='0.9'",
            "hash='sha-1' node='n' ver='0.9'",
            &format!("hash='sha-1' ver='{SIMPLE_VER}'"),
            &format!("hash='sha-256' node='n' ver='{SIMPLE_VER}'"),
        ] {
            assert!(c(attrs).is_none(), "{attrs}");
        }
    }
}
