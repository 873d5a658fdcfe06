//! `Romeo sends:` and everything else that a character does.

use super::{Parser, duration};
use crate::script::lines::{Block, error};
use crate::script::model::{
    Action, At, CharacterKind, Expectation, LinkFault, Order, ScriptError, StoreFault,
};
use crate::script::template::Template;

/// `store fails` and others.
pub(super) fn store_fault(
    what: &str,
    more: Option<&str>,
    last: Option<&str>,
) -> Result<StoreFault, String> {
    match (what, more, last) {
        ("fails", None, None) => Ok(StoreFault::Fail(1)),
        ("fails", Some(count), None) => match count.parse() {
            Ok(count) => Ok(StoreFault::Fail(count)),
            Err(_) => Err(format!("{count:?} is no number of writes")),
        },
        ("delays", Some(time), None) => Ok(StoreFault::Delay(duration(time)?)),
        ("holds", None, None) => Ok(StoreFault::Hold),
        ("releases", None, None) => Ok(StoreFault::Release),
        ("crashes", Some("before"), Some("commit")) => Ok(StoreFault::Crash { kept: false }),
        ("crashes", Some("after"), Some("commit")) => Ok(StoreFault::Crash { kept: true }),
        _ => Err(
            "the store fails [N], delays TIME, holds, releases, crashes before commit or crashes \
             after commit"
                .into(),
        ),
    }
}

/// `cut link` and others.
pub(super) fn link_fault(what: &str) -> Option<LinkFault> {
    match what {
        "cut" => Some(LinkFault::Cut),
        "hold" => Some(LinkFault::Hold),
        "mend" => Some(LinkFault::Mend),
        "release" => Some(LinkFault::Release),
        "sever" => Some(LinkFault::Sever),
        _ => None,
    }
}

impl Parser {
    pub(super) fn verb(&mut self, block: &Block, who: usize) -> Result<Action, ScriptError> {
        let Some(character) = self.script.cast.get(who) else {
            return Err(self.nobody(block));
        };
        let (is_raw, is_called_by_hand) = (character.is_by_hand(), character.is_called_by_hand);
        let is_server = character.kind == CharacterKind::Server;
        let rest = block.text.get(character.name.len()..).unwrap_or_default();
        let skipped = rest.len() - rest.trim_start_matches([' ', ':']).len();
        let verb = rest.get(skipped..).unwrap_or_default();
        let mut at = block.at.clone();
        at.column += character.name.chars().count() + skipped;

        if let Some(rest) = after(verb, "sends bytes") {
            return self.sends_bytes(block, rest);
        }
        if let Some(rest) = after(verb, "sends") {
            return self.sends(block, rest, is_raw);
        }
        if let Some(rest) = after(verb, "never receives") {
            let template = self.body(block, rest)?;
            self.one_element(&template, &at)?;
            return Ok(Action::NeverReceives(Some(template)));
        }
        if let Some(rest) = after_word(verb, "receives").filter(|rest| rest.trim() != "end") {
            return self.receives(block, &at, rest);
        }
        if let Some((line, _)) = block.body.first() {
            return Err(error(
                line.clone(),
                "this statement has no lines below it".into(),
            ));
        }
        if let Some(rest) = after_word(verb, "is called").filter(|_| is_server) {
            let action = match is_called_by_hand {
                true => is_called(rest.trim()),
                false => Err("its calls are answered for it; `calls: by hand` is missing".into()),
            };
            return action.map_err(|what| error(at, what));
        }
        self.simple(verb, &at)
    }

    /// Verbs without a block.
    fn simple(&self, verb: &str, at: &At) -> Result<Action, ScriptError> {
        if let Some(rest) = after(verb, "cannot connect") {
            let condition = (!rest.is_empty()).then(|| rest.to_owned());
            return Ok(Action::CannotConnect(condition));
        }
        let words: Vec<&str> = verb.split_whitespace().collect();
        match words.as_slice() {
            ["connects"] => Ok(Action::Connects),
            ["disconnects"] => Ok(Action::Disconnects),
            ["opens", "stream"] => Ok(Action::OpensStream),
            ["starts", "tls" | "TLS"] => Ok(Action::StartsTls),
            ["authenticates"] => Ok(Action::Authenticates),
            ["binds"] => Ok(Action::Binds),
            ["forgets"] => Ok(Action::Forgets),
            ["waits"] => Ok(Action::Waits),
            ["drop" | "drops", "link"] => Ok(Action::DropLink),
            ["cut" | "cuts", "at", "byte", number] => match number.parse() {
                Ok(number) => Ok(Action::CutAtByte(number)),
                Err(_) => Err(error(
                    at.clone(),
                    format!("{number:?} is no number of bytes"),
                )),
            },
            ["expects" | "receives", "end"] => Ok(Action::ExpectsEnd),
            ["expects", "stream", "error", condition] => self
                .text_of_one_line(condition, at)
                .map(Action::ExpectsStreamError),
            _ => Err(error(
                at.clone(),
                format!("{verb:?} is nothing that a character does"),
            )),
        }
    }

    fn sends(&mut self, block: &Block, rest: &str, raw: bool) -> Result<Action, ScriptError> {
        let template = self.body(block, rest)?;
        if !raw {
            self.elements(&template)?;
        }
        Ok(Action::Sends(template))
    }

    fn sends_bytes(&self, block: &Block, rest: &str) -> Result<Action, ScriptError> {
        let mut bytes = Vec::new();
        let inline = (!rest.is_empty()).then(|| (block.at.clone(), rest.to_owned()));
        for (at, line) in inline.into_iter().chain(block.body.iter().cloned()) {
            unescape(line.trim(), &mut bytes).map_err(|what| error(at, what))?;
        }
        match bytes.is_empty() {
            true => Err(error(block.at.clone(), "bytes are missing".into())),
            false => Ok(Action::SendsBytes(bytes)),
        }
    }

    fn receives(&mut self, block: &Block, at: &At, rest: &str) -> Result<Action, ScriptError> {
        let mut within = None;
        let mut order = match self.script.is_in_order() {
            true => Order::Next,
            false => Order::Loose,
        };
        // what stands between the verb and the colon; an element of the same line stands behind it
        let (mut qualifiers, inline) = match rest.split_once(':') {
            Some((before, inline)) if !before.contains('<') => (before.trim(), inline.trim()),
            _ => (rest.trim(), ""),
        };
        if qualifiers.is_empty() && inline == "nothing" {
            return Ok(Action::NeverReceives(None));
        }
        while !qualifiers.is_empty() {
            if let Some(rest) = qualifiers.strip_prefix("in any order") {
                (order, qualifiers) = (Order::Any, rest.trim_start());
            } else if let Some(rest) = qualifiers.strip_prefix("among others") {
                (order, qualifiers) = (Order::Loose, rest.trim_start());
            } else if let Some(rest) = qualifiers.strip_prefix("next") {
                (order, qualifiers) = (Order::Next, rest.trim_start());
            } else if let Some(rest) = qualifiers.strip_prefix("within ") {
                let (time, rest) = rest.split_once(' ').unwrap_or((rest, ""));
                within = Some(duration(time).map_err(|what| error(at.clone(), what))?);
                qualifiers = rest.trim_start();
            } else {
                let known = "`within TIME`, `next`, `in any order` and `among others`";
                let what = format!("{qualifiers:?} is not known behind `receives`; {known} are");
                return Err(error(at.clone(), what));
            }
        }
        let elements = self.body(block, inline)?;
        self.elements(&elements)?;
        Ok(Action::Receives(Expectation {
            elements,
            within,
            order,
        }))
    }

    fn one_element(&mut self, template: &Template, at: &At) -> Result<(), ScriptError> {
        match self.elements(template)?.len() {
            1 => Ok(()),
            _ => Err(error(
                at.clone(),
                "`never receives` takes one element".into(),
            )),
        }
    }
}

/// `is called`, and for how long to wait for it.
fn is_called(rest: &str) -> Result<Action, String> {
    match rest.strip_prefix("within ") {
        None if rest.is_empty() => Ok(Action::IsCalled(None)),
        None => Err(format!(
            "{rest:?} is not known behind `is called`; `within TIME` is"
        )),
        Some(time) => duration(time).map(|time| Action::IsCalled(Some(time))),
    }
}

/// What stands behind a verb and its colon.
fn after<'a>(text: &'a str, verb: &str) -> Option<&'a str> {
    let rest = after_word(text, verb)?;
    Some(rest.trim_start().trim_start_matches(':').trim())
}

/// What stands behind a word, colon included.
fn after_word<'a>(text: &'a str, verb: &str) -> Option<&'a str> {
    let rest = text.strip_prefix(verb)?;
    (rest.is_empty() || rest.starts_with([' ', ':', '\t'])).then_some(rest)
}

/// `\n`, `\r`, `\t`, `\\`, `\s` for a space, `\xHH`.
fn unescape(text: &str, out: &mut Vec<u8>) -> Result<(), String> {
    let mut rest = text.as_bytes();
    while let Some((&byte, tail)) = rest.split_first() {
        rest = tail;
        if byte != b'\\' {
            out.push(byte);
            continue;
        }
        let Some((&escape, tail)) = rest.split_first() else {
            return Err("a backslash at the end of the line".into());
        };
        rest = tail;
        out.push(match escape {
            b'n' => b'\n',
            b'r' => b'\r',
            b's' => b' ',
            b't' => b'\t',
            b'\\' => b'\\',
            b'x' => {
                let digits = rest.get(..2).and_then(|two| std::str::from_utf8(two).ok());
                let byte = digits.and_then(|two| u8::from_str_radix(two, 16).ok());
                rest = rest.get(2..).unwrap_or_default();
                byte.ok_or("\\x needs two hexadecimal digits")?
            }
            other => return Err(format!("\\{} is no escape", char::from(other))),
        });
    }
    Ok(())
}
