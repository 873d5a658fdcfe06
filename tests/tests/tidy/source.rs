//! A Rust file seen as code, string literals and test regions.
//!
//! Knows just enough of the language to tell comments, literals and code apart, and to match braces;
//! the checks in tidy.rs ask it questions and never look at raw text.

use std::ops::Range;

/// One Rust file of the workspace.
pub(crate) struct Source {
    /// Path relative to the workspace root, with `/`.
    pub(crate) path: String,
    /// The file as it is.
    pub(crate) text: String,
    /// Same length as `text`; comments and the insides of literals are blanks.
    code: String,
    /// String literals: offset and what stands between the quotes, escapes untouched.
    strings: Vec<(usize, String)>,
    /// Items under `#[cfg(test)]` or `#[test]`.
    tests: Vec<Range<usize>>,
}

/// A function body: name, offset and length in lines.
pub(crate) struct Function {
    pub(crate) name: String,
    pub(crate) at: usize,
    pub(crate) lines: usize,
}

impl Source {
    pub(crate) fn new(path: String, text: String) -> Self {
        let (code, strings) = blank(&text);
        let mut source = Self {
            path,
            text,
            code,
            strings,
            tests: Vec::new(),
        };
        source.tests = source.find_tests();
        source
    }

    /// The file as a whole is test code.
    pub(crate) fn is_test_file(&self) -> bool {
        let mut parts = self.path.rsplit('/');
        let file = parts.next().unwrap_or_default();
        file == "tests.rs" || parts.any(|part| part == "tests" || part == "benches")
    }

    /// The place is inside test code.
    pub(crate) fn in_tests(&self, at: usize) -> bool {
        self.is_test_file() || self.tests.iter().any(|range| range.contains(&at))
    }

    /// `path:line` of a place.
    pub(crate) fn place(&self, at: usize) -> String {
        format!(
            "{}:{}",
            self.path,
            self.text[..at].matches('\n').count() + 1
        )
    }

    /// String literals outside test code.
    pub(crate) fn strings_outside_tests(&self) -> impl Iterator<Item = (usize, &str)> {
        self.strings
            .iter()
            .filter(|(at, _)| !self.in_tests(*at))
            .map(|(at, text)| (*at, text.as_str()))
    }

    /// Places where this text stands in code, bounded by what is no identifier.
    pub(crate) fn words(&self, word: &str) -> Vec<usize> {
        let is_ident = |c: char| c.is_alphanumeric() || c == '_';
        self.code
            .match_indices(word)
            .filter(|(at, found)| {
                let before = self.code[..*at].chars().next_back();
                let after = self.code[at + found.len()..].chars().next();
                let starts_open = !word.starts_with(is_ident) || !before.is_some_and(is_ident);
                let ends_open = !word.ends_with(is_ident) || !after.is_some_and(is_ident);
                starts_open && ends_open
            })
            .map(|(at, _)| at)
            .collect()
    }

    /// Lines of the `//!` head, pictures between fences not counted; `None` when the file does not begin with one.
    pub(crate) fn head_lines(&self) -> Option<usize> {
        let mut fenced = false;
        let mut count = 0;
        for line in self.text.lines().take_while(|line| line.starts_with("//!")) {
            if line.contains("```") {
                fenced = !fenced;
            } else if !fenced {
                count += 1;
            }
        }
        self.text.starts_with("//! ").then_some(count)
    }

    /// Functions with a body.
    pub(crate) fn functions(&self) -> Vec<Function> {
        let mut found = Vec::new();
        for at in self.words("fn") {
            let rest = self.code[at + 2..].trim_start();
            let name: String = rest
                .chars()
                .take_while(|c| c.is_alphanumeric() || *c == '_')
                .collect();
            let end = self.item_end(at);
            if !name.is_empty() && self.code[..end].ends_with('}') {
                let lines = self.text[at..end].matches('\n').count() + 1;
                found.push(Function { name, at, lines });
            }
        }
        found
    }

    fn find_tests(&self) -> Vec<Range<usize>> {
        let mut found = Vec::new();
        for (at, _) in self.code.match_indices("#[") {
            let Some(len) = self.code[at..].find(']') else {
                continue;
            };
            let attribute = &self.code[at..=at + len];
            let is_cfg_test = attribute.starts_with("#[cfg(")
                && attribute.contains("test")
                && !attribute.contains("not(test)");
            if is_cfg_test || attribute == "#[test]" || attribute.starts_with("#[tokio::test") {
                found.push(at..self.item_end(at + len + 1));
            }
        }
        found
    }

    /// Where the item that begins here ends: at its `;` or at the brace that closes its body.
    fn item_end(&self, from: usize) -> usize {
        let (mut nested, mut braces) = (0_i32, 0_i32);
        for (at, byte) in self.code.bytes().enumerate().skip(from) {
            match byte {
                b'(' | b'[' => nested += 1,
                b')' | b']' => nested -= 1,
                b'{' => braces += 1,
                b'}' => {
                    braces -= 1;
                    if braces == 0 && nested == 0 {
                        return at + 1;
                    }
                }
                b';' if nested == 0 && braces == 0 => return at + 1,
                _ => {}
            }
        }
        self.code.len()
    }
}

/// Blanks comments and literals; returns the string literals beside.
fn blank(text: &str) -> (String, Vec<(usize, String)>) {
    let bytes = text.as_bytes();
    let mut code = bytes.to_vec();
    let mut strings = Vec::new();
    let mut at = 0;
    while at < bytes.len() {
        let rest = &text[at..];
        let (len, inside) = if rest.starts_with("//") {
            (rest.find('\n').unwrap_or(rest.len()), None)
        } else if rest.starts_with("/*") {
            (block_comment(rest), None)
        } else if let Some((len, inside)) = string(text, at) {
            (len, Some(inside))
        } else if let Some(len) = char_literal(rest) {
            (len, None)
        } else {
            at += rest.chars().next().map_or(1, char::len_utf8);
            continue;
        };
        if let Some(inside) = inside {
            strings.push((at, text[inside].to_owned()));
        }
        for byte in &mut code[at..at + len] {
            if *byte != b'\n' {
                *byte = b' ';
            }
        }
        at += len;
    }
    (
        String::from_utf8(code).expect("only whole characters are blanked"),
        strings,
    )
}

fn block_comment(rest: &str) -> usize {
    let mut depth = 0;
    let mut at = 0;
    while at < rest.len() {
        if rest.as_bytes()[at..].starts_with(b"/*") {
            depth += 1;
            at += 2;
        } else if rest.as_bytes()[at..].starts_with(b"*/") {
            depth -= 1;
            at += 2;
            if depth == 0 {
                return at;
            }
        } else {
            at += 1;
        }
    }
    rest.len()
}

/// A string literal of any kind that begins here: its length and the range of its inside.
fn string(text: &str, at: usize) -> Option<(usize, Range<usize>)> {
    let rest = &text[at..];
    if let Some(tail) = rest.strip_prefix('"') {
        let mut escaped = false;
        for (offset, c) in tail.char_indices() {
            match c {
                '"' if !escaped => return Some((offset + 2, at + 1..at + 1 + offset)),
                '\\' => escaped = !escaped,
                _ => escaped = false,
            }
        }
        return None;
    }
    let raw = rest.strip_prefix("br").or_else(|| rest.strip_prefix("cr"));
    let raw = raw.or_else(|| rest.strip_prefix('r'))?;
    let before = text[..at].chars().next_back();
    if before.is_some_and(|c| c.is_alphanumeric() || c == '_') {
        return None;
    }
    let hashes = raw.len() - raw.trim_start_matches('#').len();
    let body = raw[hashes..].strip_prefix('"')?;
    let end = body.find(&format!("\"{}", "#".repeat(hashes)))?;
    let start = at + rest.len() - body.len();
    Some((start + end + 1 + hashes - at, start..start + end))
}

/// The length of a character literal; `None` for a lifetime or anything else.
fn char_literal(rest: &str) -> Option<usize> {
    let tail = rest.strip_prefix('\'')?;
    if let Some(escape) = tail.strip_prefix('\\') {
        let first = escape.chars().next()?.len_utf8();
        return Some(2 + first + escape[first..].find('\'')? + 1);
    }
    let first = tail.chars().next()?.len_utf8();
    tail[first..].starts_with('\'').then_some(first + 2)
}

#[test]
fn source_tells_code_from_text() {
    let text = "//! Head.\n/* todo!( /* x */ */ fn a<'x>(c: &'x str) { let _ = '\"'; b(\"to\\\"do!(\"); }\n\
                const R: &str = r#\"urn:\"x\"#;\n#[cfg(test)]\nmod tests {\n fn b() { let _ = \"t\"; }\n}\nfn c() {}\n";
    let source = Source::new("a.rs".into(), text.into());
    assert!(source.words("todo!(").is_empty());
    assert_eq!(source.words("fn").len(), 3);
    let strings: Vec<_> = source
        .strings_outside_tests()
        .map(|(_, text)| text)
        .collect();
    assert_eq!(strings, ["to\\\"do!(", "urn:\"x"]);
    let functions: Vec<_> = source
        .functions()
        .into_iter()
        .map(|f| (f.name, f.lines))
        .collect();
    assert_eq!(
        functions,
        [("a".into(), 1), ("b".into(), 1), ("c".into(), 1)]
    );
    assert!(source.in_tests(source.functions()[1].at));
    assert!(!source.in_tests(source.functions()[2].at));
    assert_eq!(source.head_lines(), Some(1));
}
