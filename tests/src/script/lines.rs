//! A script as lines: statements with the indented block that belongs to each; includes are put in.

use crate::script::model::{At, ScriptError};
use std::path::Path;
use std::sync::Arc;

/// Files that include each other.
const INCLUDE_DEPTH_MAX: usize = 16;
/// Lines of a script with all it includes.
const LINES_MAX: usize = 100_000;

/// A line that is not indented, and the indented ones behind it.
#[derive(Clone, Debug)]
pub(crate) struct Block {
    pub(crate) at: At,
    pub(crate) text: String,
    pub(crate) body: Vec<(At, String)>,
}

/// A script's blocks, and the comments it begins with.
#[derive(Debug, Default)]
pub(crate) struct Lines {
    pub(crate) head: Vec<String>,
    pub(crate) tags: Vec<String>,
    pub(crate) blocks: Vec<Block>,
    count: usize,
}

/// How included files are read: the text of a path.
pub(crate) type Reader<'a> = &'a dyn Fn(&Path) -> Result<String, String>;

impl Lines {
    pub(crate) fn read(file: &Path, text: &str, reader: Reader<'_>) -> Result<Self, ScriptError> {
        let mut lines = Self::default();
        lines.add(file, text, reader, 0)?;
        Ok(lines)
    }

    fn add(
        &mut self,
        file: &Path,
        text: &str,
        reader: Reader<'_>,
        depth: usize,
    ) -> Result<(), ScriptError> {
        let path: Arc<Path> = Arc::from(file);
        let mut in_head = depth == 0;
        for (index, line) in text.lines().enumerate() {
            let at = At {
                file: path.clone(),
                line: index + 1,
                column: 1,
            };
            self.count += 1;
            if self.count > LINES_MAX {
                return Err(error(at, format!("more than {LINES_MAX} lines")));
            }
            if let Some(tag) = line.strip_prefix("##") {
                if depth == 0 {
                    self.tags.push(tag.trim().into());
                }
            } else if let Some(comment) = line.strip_prefix('#') {
                if in_head {
                    self.head.push(comment.trim().into());
                }
            } else if line.trim().is_empty() || is_comment(line) {
                in_head &= line.trim().is_empty() && self.head.is_empty();
            } else if line.starts_with([' ', '\t']) {
                in_head = false;
                self.indent(at, line)?;
            } else {
                in_head = false;
                self.statement(at, line.trim_end(), file, reader, depth)?;
            }
        }
        Ok(())
    }

    fn indent(&mut self, at: At, line: &str) -> Result<(), ScriptError> {
        match self.blocks.last_mut() {
            Some(block) if block.at.file == at.file => {
                block.body.push((at, line.into()));
                Ok(())
            }
            _ => Err(error(
                at,
                "an indented line that belongs to no statement".into(),
            )),
        }
    }

    fn statement(
        &mut self,
        at: At,
        line: &str,
        file: &Path,
        reader: Reader<'_>,
        depth: usize,
    ) -> Result<(), ScriptError> {
        let Some(name) = line.strip_prefix("include ") else {
            let text = line.to_owned();
            self.blocks.push(Block {
                at,
                text,
                body: Vec::new(),
            });
            return Ok(());
        };
        if depth >= INCLUDE_DEPTH_MAX {
            return Err(error(at, "files include each other too deeply".into()));
        }
        let included = file
            .parent()
            .unwrap_or_else(|| Path::new(""))
            .join(name.trim());
        let text = reader(&included)
            .map_err(|why| error(at, format!("{} cannot be included: {why}", name.trim())))?;
        self.add(&included, &text, reader, depth + 1)
    }
}

/// `// …`, `-- …` and rules of dashes. Lines that begin with `#` have their meaning at the head.
fn is_comment(line: &str) -> bool {
    let is_rule = line.trim_end().chars().all(|c| c == '-');
    is_rule || line.starts_with("//") || line.starts_with("-- ") || line.starts_with("--\t")
}

pub(crate) fn error(at: At, what: String) -> ScriptError {
    ScriptError { at, what }
}
