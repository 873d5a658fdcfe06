//! Text with `${…}` in it.
//!
//! What stands for an address or was captured is escaped for XML; definitions and values of a table
//! of cases are put in as they are written.

use crate::login::escaped;
use crate::script::model::At;

/// Text of a script, and where its lines begin.
#[derive(Clone, Debug)]
pub struct Template {
    text: String,
    /// For each line of the text, where it stands in the file.
    lines: Vec<At>,
}

/// What a name between `${` and `}` stands for.
pub(crate) enum Value {
    /// To be escaped.
    Plain(String),
    /// Put in as it is.
    Xml(String),
}

impl Template {
    pub(crate) fn new(text: String, lines: Vec<At>) -> Self {
        Self { text, lines }
    }

    /// As written.
    #[must_use]
    pub fn text(&self) -> &str {
        &self.text
    }

    /// With each name replaced by its value.
    ///
    /// # Errors
    /// The first name that has none.
    pub(crate) fn fill(
        &self,
        value: impl FnMut(&str) -> Option<Value>,
    ) -> Result<String, (usize, String)> {
        fill(&self.text, value)
    }

    /// The place of a byte of the text.
    pub(crate) fn place(&self, byte: usize) -> Option<At> {
        let mut byte = byte.min(self.text.len());
        while !self.text.is_char_boundary(byte) {
            byte -= 1;
        }
        let before = self.text.get(..byte).unwrap_or_default();
        let line = before.matches('\n').count();
        let column = before
            .rsplit('\n')
            .next()
            .map_or(0, |line| line.chars().count());
        let mut at = self.lines.get(line)?.clone();
        at.column += column;
        Some(at)
    }
}

/// Replaces each `${name}`; names may hold anything but braces.
///
/// # Errors
/// Byte and name of the first that has no value.
pub(crate) fn fill(
    text: &str,
    mut value: impl FnMut(&str) -> Option<Value>,
) -> Result<String, (usize, String)> {
    let mut out = String::with_capacity(text.len());
    let mut rest = text;
    while let Some((before, after)) = rest.split_once("${") {
        out.push_str(before);
        let at = text.len() - after.len() - 2;
        let Some((name, tail)) = after.split_once('}') else {
            return Err((at, "${ is not closed by }".into()));
        };
        match value(name) {
            Some(Value::Plain(value)) => out.push_str(&escaped(&value)),
            Some(Value::Xml(value)) => out.push_str(&value),
            None => return Err((at, format!("${{{name}}} stands for nothing"))),
        }
        rest = tail;
    }
    out.push_str(rest);
    Ok(out)
}
