//! The syntax that all SCRAM messages share (RFC 5802 sections 5.1 and 7).

use crate::features::sasl::Refusal;

/// `x=value` items between commas, in order.
pub(super) struct Attributes<'a> {
    rest: Option<&'a str>,
}

impl<'a> Attributes<'a> {
    pub(super) fn new(text: &'a str) -> Self {
        Self { rest: Some(text) }
    }

    pub(super) fn next(&mut self) -> Result<Option<(char, &'a str)>, Refusal> {
        let Some(rest) = self.rest else {
            return Ok(None);
        };
        let (item, rest) = match rest.split_once(',') {
            Some((item, rest)) => (item, Some(rest)),
            None => (rest, None),
        };
        self.rest = rest;
        let mut letters = item.chars();
        match (letters.next(), letters.next()) {
            // RFC 5802 section 5.1: `m` is a mandatory extension, and we know none.
            (Some('m'), Some('=')) => Err(Refusal::malformed("mandatory extension")),
            (Some(name), Some('=')) if name.is_ascii_alphabetic() => {
                Ok(Some((name, letters.as_str())))
            }
            _ => Err(Refusal::malformed("attribute")),
        }
    }

    pub(super) fn expect(&mut self, name: char) -> Result<&'a str, Refusal> {
        match self.next()? {
            Some((found, value)) if found == name => Ok(value),
            _ => Err(Refusal::malformed("attribute missing")),
        }
    }

    /// Optional extensions are ignored, but have to be attributes.
    pub(super) fn ignore_rest(&mut self) -> Result<(), Refusal> {
        while self.next()?.is_some() {}
        Ok(())
    }
}

pub(super) fn utf8(raw: &[u8]) -> Result<&str, Refusal> {
    std::str::from_utf8(raw).map_err(|_| Refusal::malformed("not UTF-8"))
}

/// Printable ASCII but the comma (RFC 5802 section 7).
pub(super) fn is_nonce(nonce: &str) -> bool {
    !nonce.is_empty() && nonce.bytes().all(|byte| (0x21..=0x7e).contains(&byte))
}

pub(super) fn escape(name: &str) -> String {
    name.replace('=', "=3D").replace(',', "=2C")
}

pub(super) fn unescape(name: &str) -> Result<String, Refusal> {
    let mut parts = name.split('=');
    let mut plain = parts.next().unwrap_or_default().to_owned();
    for part in parts {
        let (sign, rest) = match (part.strip_prefix("2C"), part.strip_prefix("3D")) {
            (Some(rest), _) => (',', rest),
            (_, Some(rest)) => ('=', rest),
            _ => return Err(Refusal::malformed("escape in a name")),
        };
        plain.push(sign);
        plain.push_str(rest);
    }
    if plain.is_empty() || plain.contains('\0') {
        return Err(Refusal::malformed("name"));
    }
    Ok(plain)
}
