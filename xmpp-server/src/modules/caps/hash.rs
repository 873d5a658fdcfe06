//! The verification string of XEP-0115 section 5, and what is too ill-formed to have one.
//!
//! The string joins what an entity says of itself with `<` and `/`; data that holds these itself
//! could stand for another entity's, so it has no hash here.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use ring::digest;
use xmpp_stream::ns;
use xmpp_stream::xml::Element;

/// A hash function that we verify (section 5.1: SHA-1 is mandatory).
#[derive(Clone, Copy, Debug, Eq, Hash, PartialEq)]
pub(super) enum Algorithm {
    /// "sha-1": a name for what is known, no proof of who says it.
    Sha1,
    /// "sha-256".
    Sha256,
    /// "sha-512".
    Sha512,
}

impl Algorithm {
    /// By its name in the registry of hash functions.
    pub(super) fn of(name: &str) -> Option<Self> {
        [Self::Sha1, Self::Sha256, Self::Sha512]
            .into_iter()
            .find(|algorithm| algorithm.name() == name)
    }

    /// Its name there.
    pub(super) fn name(self) -> &'static str {
        match self {
            Self::Sha1 => "sha-1",
            Self::Sha256 => "sha-256",
            Self::Sha512 => "sha-512",
        }
    }

    /// Length of a hash as text.
    pub(super) fn text_len(self) -> usize {
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
pub(super) fn of(info: &Element, algorithm: Algorithm) -> Option<String> {
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
