//! Every script under tests/scripts, each a test of its own: `cargo test --test scripts roster`.
//!
//! A script marked `## pending:` runs and must fail. Scripts have a runtime and a server of their own.

use libtest_mimic::{Arguments, Failed, Trial};
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use xmpp_testkit::script::{Options, Outcome, find, output, parse_file, parse_text, suite};

/// What they show is asked by rows that are not listed, by the beginning of the name.
const WITHOUT_ROW: [&str; 1] = ["xep-0359/"];

fn main() -> ExitCode {
    let arguments = Arguments::from_args();
    let folder = folder();
    let found = find(std::slice::from_ref(&folder)).expect("the folder of scripts is there");
    let parts = suite::parts(&found);
    let pending = found.iter().filter(|found| is_pending(&found.file)).count();
    let scripts = parts.into_iter().enumerate().map(|(number, part)| {
        let prefix = format!("{}/", folder.display());
        let name = part
            .name
            .strip_prefix(&prefix)
            .unwrap_or(&part.name)
            .to_owned();
        Trial::test(name, move || played(&part, number as u64))
    });
    let pages = [
        Trial::test("docs/HERITAGE.md", heritage),
        Trial::test("docs/SCRIPTS.md", page),
        Trial::test("docs/ROWS.md", rows),
    ];
    let trials = scripts.chain(pages).collect();
    let conclusion = libtest_mimic::run(&arguments, trials);
    println!("{pending} scripts are pending");
    conclusion.exit_code()
}

fn folder() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("scripts")
}

fn is_pending(file: &Path) -> bool {
    parse_file(file).is_ok_and(|script| script.pending().is_some())
}

fn played(part: &suite::Part, number: u64) -> Result<(), Failed> {
    let report = suite::play_part(part, &Options::default(), number);
    if let Outcome::Pending { .. } = &report.outcome {
        println!("{}", output::line(&report));
    }
    match report.outcome.is_good() {
        true => Ok(()),
        false => Err(output::line(&report).into()),
    }
}

/// The table of capabilities names every script under heritage/, says of each what it shows and why
/// it is pending, and counts them.
fn heritage() -> Result<(), Failed> {
    let docs = folder().join("../../docs/HERITAGE.md");
    let table = std::fs::read_to_string(docs)?;
    let found = find(&[folder().join("heritage")])?;
    let mut pending = 0;
    for found in &found {
        let script = parse_file(&found.file)?;
        let path = found.file.strip_prefix(folder())?.display().to_string();
        let name = found.file.file_name().map(Path::new).unwrap_or(&found.file);
        let reason = script.pending().unwrap_or_default();
        pending += usize::from(!reason.is_empty());
        let link = format!("[{}](../tests/scripts/{path})", name.display());
        let row = format!("| {} | {link} | {reason} |", script.title);
        if !table.contains(&row) {
            return Err(format!("docs/HERITAGE.md has no row ending in\n{row}").into());
        }
    }
    let count = format!("{} capabilities, {pending} of them pending.", found.len());
    let rows = table.matches("](../tests/scripts/").count();
    match table.contains(&count) && rows == found.len() {
        true => Ok(()),
        false => Err(format!("docs/HERITAGE.md must say: {count}").into()),
    }
}

/// Scripts of documents say which rows they show, and the rows are there.
fn rows() -> Result<(), Failed> {
    let known = std::fs::read_to_string(folder().join("../../docs/ROWS.md"))?;
    let mut wrong = String::new();
    for found in find(&[folder()])? {
        let text = std::fs::read_to_string(&found.file)?;
        let named = text.lines().find_map(|line| line.strip_prefix("# row "));
        let path = found.file.strip_prefix(folder())?.display().to_string();
        let is_of_document = path.starts_with("rfc") || path.starts_with("xep-");
        if named.is_none() && is_of_document && !WITHOUT_ROW.iter().any(|it| path.starts_with(it)) {
            wrong += &format!("{path} has no line `# row …`\n");
        }
        for row in named.iter().flat_map(|rows| rows.split(", ")) {
            if !known.contains(&format!("| `{row}` |")) {
                wrong += &format!("{path}: docs/ROWS.md has no {row}\n");
            }
        }
    }
    match wrong.is_empty() {
        true => Ok(()),
        false => Err(wrong.into()),
    }
}

/// The script shown on the page works, and the wrong one fails as shown below it.
fn page() -> Result<(), Failed> {
    let page = std::fs::read_to_string(folder().join("../../docs/SCRIPTS.md"))?;
    let shown = page.split("```").nth(1).ok_or("a script on the page")?;
    let (is_good, said) = shown_script(shown)?;
    if !is_good {
        return Err(said.into());
    }
    let part = page.split("## A script that is wrong").nth(1);
    let mut blocks = part.ok_or("a wrong script on the page")?.split("```");
    let wrong = blocks.nth(1).ok_or("a wrong script")?;
    let told = blocks.nth(1).ok_or("what it says")?;
    let (is_good, said) = shown_script(wrong)?;
    // not the lines with the time that it took
    let is_timed = |line: &str| line.ends_with(" s)") || line.contains("of playing");
    let is_new = |line: &&str| !said.contains(*line) && !is_timed(line);
    match told.lines().find(is_new) {
        _ if is_good => Err("the wrong script passes".into()),
        Some(line) => Err(format!("{line}\nis not in\n{said}").into()),
        None => Ok(()),
    }
}

/// Plays a script of the page, in a file of the name that the page gives it.
fn shown_script(text: &str) -> Result<(bool, String), Failed> {
    parse_text("docs/SCRIPTS.md", text)?;
    let folder = std::env::temp_dir().join(format!("shown-{}", std::process::id()));
    std::fs::create_dir_all(&folder)?;
    let file = folder.join("wrong.scs");
    std::fs::write(&file, text.trim_start())?;
    let parts = suite::parts(&find(std::slice::from_ref(&file))?);
    let options = Options {
        patience: Some(std::time::Duration::from_secs(1)),
        ..Options::default()
    };
    let reports = suite::play(&parts, &options, &|_| ());
    std::fs::remove_dir_all(&folder)?;
    let is_good = reports.iter().all(|report| report.outcome.is_good());
    let said: String = reports.iter().map(output::line).collect();
    let place = format!("{}/", folder.display());
    Ok((is_good, said.replace(&place, "")))
}
