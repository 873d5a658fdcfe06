//! Text to `Script`. Everything wrong is told with file, line and column; nothing panics.
//!
//! docs/SCRIPTS.md is the grammar. Here are the parts of a script; statements of characters are in
//! parse/verbs.rs, their definitions in parse/cast.rs.

mod cast;
mod verbs;

#[cfg(test)]
mod tests;

use crate::script::lines::{Block, Lines, Reader, error};
use crate::script::model::{Action, At, Case, Character, Script, ScriptError, Step};
use crate::script::run::OF_SOMEBODY;
use crate::script::template::{Template, Value, fill};
use crate::tree::Tree;
use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;
use xmpp_stream::jid::Jid;

/// What the definitions of a script may amount to, put together.
const DEFINED_BYTES_MAX: usize = 64 * 1024;
/// The longest time a script can name.
const TIME_MAX: Duration = Duration::from_secs(30 * 24 * 60 * 60);
/// Rows that texts are checked with before anything is played.
const CASES_CHECKED: usize = 50;
/// Rows of a table of cases.
const CASES_MAX: usize = 1000;

/// Reads and parses a file.
///
/// # Errors
/// What is wrong, and where.
pub fn parse_file(file: &Path) -> Result<Script, ScriptError> {
    let read = |path: &Path| std::fs::read_to_string(path).map_err(|error| error.to_string());
    let text = read(file).map_err(|what| {
        let at = At {
            file: Arc::from(file),
            line: 1,
            column: 1,
        };
        error(at, format!("the file cannot be read: {what}"))
    })?;
    parse(file, &text, &read)
}

/// Parses a text that includes nothing.
///
/// # Errors
/// What is wrong, and where.
pub fn parse_text(name: &str, text: &str) -> Result<Script, ScriptError> {
    parse(Path::new(name), text, &|_| {
        Err("there are no files here".into())
    })
}

pub(crate) fn parse(file: &Path, text: &str, reader: Reader<'_>) -> Result<Script, ScriptError> {
    let lines = Lines::read(file, text, reader)?;
    let mut parser = Parser {
        script: Script {
            file: file.into(),
            title: lines.head.first().cloned().unwrap_or_default(),
            tags: lines.tags,
            config: None,
            cast: Vec::new(),
            steps: Vec::new(),
            cases: Vec::new(),
        },
        defined: BTreeMap::new(),
        defined_bytes: 0,
        captured: Vec::new(),
    };
    parser.shared(&lines.blocks)?;
    for block in lines.blocks {
        parser.block(&block)?;
    }
    Ok(parser.script)
}

struct Parser {
    script: Script,
    defined: BTreeMap<String, String>,
    defined_bytes: usize,
    /// Names that some element captures.
    captured: Vec<String>,
}

impl Parser {
    /// Definitions and tables, which may stand anywhere.
    fn shared(&mut self, blocks: &[Block]) -> Result<(), ScriptError> {
        for block in blocks {
            if let Some(rest) = block.text.strip_prefix("define ") {
                self.define(block, rest)?;
            }
        }
        for block in blocks.iter().filter(|block| block.text == "cases:") {
            self.cases(block)?;
        }
        Ok(())
    }

    fn block(&mut self, block: &Block) -> Result<(), ScriptError> {
        let text = block.text.as_str();
        if text.starts_with('[') {
            let character = cast::character(block)?;
            if self
                .script
                .cast
                .iter()
                .any(|other| other.name == character.name)
            {
                let what = format!("there is a character {} already", character.name);
                return Err(error(block.at.clone(), what));
            }
            self.script.cast.push(character);
            return Ok(());
        }
        match text {
            "cases:" => return Ok(()),
            _ if text.starts_with("define ") => return Ok(()),
            "server config:" => {
                let lines: Vec<&str> = block.body.iter().map(|(_, line)| line.trim()).collect();
                self.script.config = Some((block.at.clone(), lines.join("\n")));
                return Ok(());
            }
            _ => {}
        }
        let (who, action) = match self.who(text) {
            Some(index) => (Some(index), self.verb(block, index)?),
            None => (None, self.operation(block)?),
        };
        let (at, text) = (block.at.clone(), text.to_owned());
        self.script.steps.push(Step {
            at,
            text,
            who,
            action,
        });
        Ok(())
    }

    /// The character with the longest name that the line begins with.
    fn who(&self, text: &str) -> Option<usize> {
        let is_it = |character: &Character| {
            let rest = text.strip_prefix(character.name.as_str());
            rest.is_some_and(|rest| rest.starts_with([' ', ':']))
        };
        let found = self
            .script
            .cast
            .iter()
            .enumerate()
            .filter(|(_, one)| is_it(one));
        found
            .max_by_key(|(_, one)| one.name.len())
            .map(|(index, _)| index)
    }

    /// What is done to the server, or a mistake.
    fn operation(&self, block: &Block) -> Result<Action, ScriptError> {
        let at = block.at.clone();
        let mut words = block.text.split_whitespace();
        let first_two = (
            words.next().unwrap_or_default(),
            words.next().unwrap_or_default(),
        );
        let action = match (first_two, words.next()) {
            (("restart", "server"), None) => Action::RestartServer { in_order: true },
            (("kill", "server"), None) => Action::RestartServer { in_order: false },
            (("store", what), rest) => {
                let fault = verbs::store_fault(what, rest, words.next());
                Action::Store(fault.map_err(|what| error(at, what))?)
            }
            ((what, "link"), Some(domain)) => match verbs::link_fault(what) {
                Some(fault) => Action::Link(fault, domain.to_owned()),
                None => return Err(self.nobody(block)),
            },
            (("advance", time), unit) => {
                let time = format!("{time} {}", unit.unwrap_or_default());
                Action::Advance(duration(time.trim()).map_err(|what| error(at, what))?)
            }
            (("ban", jid), None) => Action::Ban(address(jid, &at)?),
            (("unban", jid), None) => Action::Unban(address(jid, &at)?),
            (("kick", jid), _) if !jid.is_empty() => {
                let jid = block.text.get("kick ".len()..).unwrap_or_default();
                Action::Kick(self.text_of_one_line(jid.trim(), &at)?)
            }
            (("remove", "account"), Some(jid)) => Action::RemoveAccount(address(jid, &at)?),
            _ => return Err(self.nobody(block)),
        };
        match block.body.first() {
            Some((at, _)) => Err(error(
                at.clone(),
                "this statement has no lines below it".into(),
            )),
            None => Ok(action),
        }
    }

    fn nobody(&self, block: &Block) -> ScriptError {
        let names: Vec<&str> = self
            .script
            .cast
            .iter()
            .map(|one| one.name.as_str())
            .collect();
        let names = match names.is_empty() {
            true => "no character is defined yet".to_owned(),
            false => format!("characters are: {}", names.join(", ")),
        };
        error(
            block.at.clone(),
            format!(
                "{:?} begins with no character and is no statement; {names}",
                block.text
            ),
        )
    }

    fn define(&mut self, block: &Block, rest: &str) -> Result<(), ScriptError> {
        let at = block.at.clone();
        let Some((name, inline)) = rest.split_once(':') else {
            return Err(error(at, "a definition is `define NAME: text`".into()));
        };
        let mut text = inline.trim().to_owned();
        for (_, line) in &block.body {
            text.push_str(if text.is_empty() { "" } else { "\n" });
            text.push_str(line.trim());
        }
        let value = |name: &str| match self.defined.get(name) {
            Some(text) => Some(Value::Xml(text.clone())),
            None => Some(Value::Xml(format!("${{{name}}}"))),
        };
        let text = fill(&text, value).map_err(|(_, what)| error(at.clone(), what))?;
        self.defined_bytes = self.defined_bytes.saturating_add(text.len());
        if self.defined_bytes > DEFINED_BYTES_MAX {
            return Err(error(
                at,
                format!("more than {DEFINED_BYTES_MAX} bytes are defined"),
            ));
        }
        self.defined.insert(name.trim().into(), text);
        Ok(())
    }

    fn cases(&mut self, block: &Block) -> Result<(), ScriptError> {
        let mut rows = block.body.iter();
        let Some((_, names)) = rows.next() else {
            return Err(error(
                block.at.clone(),
                "a table begins with its columns' names".into(),
            ));
        };
        let names: Vec<&str> = names.split('|').map(str::trim).collect();
        for (at, row) in rows {
            let values: Vec<&str> = row.split('|').map(str::trim).collect();
            if values.len() != names.len() {
                let what = format!("{} values for {} columns", values.len(), names.len());
                return Err(error(at.clone(), what));
            }
            if self.script.cases.len() >= CASES_MAX {
                return Err(error(at.clone(), format!("more than {CASES_MAX} cases")));
            }
            let mut pairs = Vec::new();
            for (name, value) in names.iter().zip(&values) {
                pairs.push(((*name).to_owned(), self.filled(value, at)?));
            }
            let name = self.case_name(values.first().copied().unwrap_or_default());
            self.script.cases.push(Case {
                name,
                values: pairs,
            });
        }
        match self.script.cases.is_empty() {
            true => Err(error(block.at.clone(), "the table has no rows".into())),
            false => Ok(()),
        }
    }

    /// The first value, with a number when there is such a name already.
    fn case_name(&self, value: &str) -> String {
        let is_new = |name: &String| self.script.cases.iter().all(|case| case.name != *name);
        let numbered = (2..).map(|number| format!("{value} {number}"));
        let mut names = std::iter::once(value.to_owned()).chain(numbered);
        names.find(is_new).unwrap_or_default()
    }

    /// The block's lines as text with definitions put in, less their common indentation.
    fn body(&self, block: &Block, inline: &str) -> Result<Template, ScriptError> {
        let mut places = Vec::new();
        let mut lines = Vec::new();
        if !inline.is_empty() {
            let mut at = block.at.clone();
            at.column += block.text.chars().count() - inline.chars().count();
            places.push(at);
            lines.push(inline.to_owned());
        }
        let indent = |line: &str| line.len() - line.trim_start().len();
        let common = block
            .body
            .iter()
            .map(|(_, line)| indent(line))
            .min()
            .unwrap_or(0);
        for (at, line) in &block.body {
            let mut at = at.clone();
            at.column += common;
            let text = line.get(common..).unwrap_or_default().to_owned();
            // a definition may bring lines of its own, which stand where it is used
            let text = self.filled(&text, &at)?;
            for part in text.split('\n') {
                places.push(at.clone());
                lines.push(part.to_owned());
            }
        }
        if lines.is_empty() {
            return Err(error(
                block.at.clone(),
                "an indented block is missing".into(),
            ));
        }
        Ok(Template::new(lines.join("\n"), places))
    }

    fn filled(&self, text: &str, at: &At) -> Result<String, ScriptError> {
        let value = |name: &str| match self.defined.get(name) {
            Some(text) => Some(Value::Xml(text.clone())),
            None => Some(Value::Xml(format!("${{{name}}}"))),
        };
        fill(text, value).map_err(|(_, what)| error(at.clone(), what))
    }

    fn text_of_one_line(&self, text: &str, at: &At) -> Result<Template, ScriptError> {
        let text = self.filled(text, at)?;
        Ok(Template::new(text, vec![at.clone()]))
    }

    /// The block as well-formed elements, with something harmless for each name.
    fn elements(&mut self, template: &Template) -> Result<Vec<Tree>, ScriptError> {
        for part in template.text().split("{scansion:capture:").skip(1) {
            let name = part.split('}').next().unwrap_or_default();
            self.captured.push(name.to_owned());
        }
        let at = |byte| match template.place(byte) {
            Some(at) => at,
            None => At {
                file: Arc::from(self.script.file.as_path()),
                line: 1,
                column: 1,
            },
        };
        let cases = self.script.cases.iter().take(CASES_CHECKED).map(Some);
        let cases = match self.script.cases.is_empty() {
            true => vec![None],
            false => cases.collect(),
        };
        let mut trees = Vec::new();
        for case in cases {
            let known = |name: &str| {
                let value = case.and_then(|case| case.values.iter().find(|(it, _)| it == name));
                match value {
                    Some((_, value)) => Some(Value::Xml(value.clone())),
                    None => self.is_known(name).then(|| Value::Xml(same_length(name))),
                }
            };
            let text = template
                .fill(known)
                .map_err(|(byte, what)| error(at(byte), what))?;
            trees = Tree::read_all(&text).map_err(|(byte, what)| error(at(byte), what))?;
            if trees.is_empty() {
                return Err(error(at(0), "an element is missing".into()));
            }
        }
        Ok(trees)
    }

    /// True when the name stands for something at this place of the script.
    fn is_known(&self, name: &str) -> bool {
        let of_character = |character: &Character| {
            let property = name.strip_prefix(character.name.as_str());
            property.is_some_and(|property| OF_SOMEBODY.contains(&property))
        };
        self.script.cast.iter().any(of_character) || self.captured.iter().any(|one| one == name)
    }
}

/// Stands for a value while a text is checked, with as many bytes as `${name}` has.
fn same_length(name: &str) -> String {
    "x".repeat(name.len() + 3)
}

/// A JID, as text.
fn address(text: &str, at: &At) -> Result<String, ScriptError> {
    match Jid::parse(text) {
        Ok(jid) => Ok(jid.as_str().to_owned()),
        Err(why) => Err(error(at.clone(), format!("{text:?} is no address: {why}"))),
    }
}

/// `300ms`, `2s`, `5 m`, `1h`, `2 seconds`.
///
/// # Errors
/// What is wrong with it, in words.
pub fn duration(text: &str) -> Result<Duration, String> {
    let digits = text.bytes().take_while(u8::is_ascii_digit).count();
    let (number, unit) = text.split_at(digits);
    let wrong = || format!("{text:?} is no time; write 300ms, 2s, 5m or 1h");
    let number: u64 = number.parse().map_err(|_| wrong())?;
    let millis = match unit.trim() {
        "ms" | "millisecond" | "milliseconds" => 1,
        "s" | "second" | "seconds" => 1000,
        "m" | "min" | "minute" | "minutes" => 60_000,
        "h" | "hour" | "hours" => 3_600_000,
        _ => return Err(wrong()),
    };
    let time = Duration::from_millis(number.saturating_mul(millis));
    match time > TIME_MAX {
        true => Err(format!("{text:?} is too long a time")),
        false => Ok(time),
    }
}
