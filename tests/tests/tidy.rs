//! The rules of this repository, as tests.
//!
//! Each table below is a list of exceptions with reasons: what is not in it fails, and so does an
//! entry that is no longer needed. CONTRIBUTING.md says what the rules are for.

#[path = "tidy/licence.rs"]
mod licence;
#[path = "tidy/packages.rs"]
mod packages;
#[path = "tidy/source.rs"]
mod source;

use packages::Packages;
use source::Source;
use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};

/// Which of our packages may need which.
const MAY_NEED: &[(&str, &[&str])] = &[
    ("xmpp-certs", &[]),
    ("xmpp-client", &["xmpp-stream"]),
    ("xmpp-server", &["xmpp-certs", "xmpp-stream"]),
    ("xmpp-stream", &[]),
    (
        "xmpp-testkit",
        &["xmpp-certs", "xmpp-client", "xmpp-server", "xmpp-stream"],
    ),
];

/// What people get from us; the test kit is not among it.
const SHIPPED: &[&str] = &["xmpp-certs", "xmpp-client", "xmpp-server", "xmpp-stream"];

/// Licences under which others may go into what we ship. deny.toml has the same list.
const LICENCES: &[&str] = &[
    "0BSD",
    "Apache-2.0",
    "Apache-2.0 WITH LLVM-exception",
    "BSD-2-Clause",
    "BSD-3-Clause",
    "BSL-1.0",
    "CC0-1.0",
    "CDLA-Permissive-2.0",
    "ISC",
    "MIT",
    "Unicode-3.0",
    "Unicode-DFS-2016",
    "Zlib",
];

/// Licences for what only tests use.
const LICENCES_OF_TESTS: &[&str] = &["MPL-2.0"];

/// Packages that nobody here may need, and why.
const BANNED: &[(&str, &str)] = &[
    ("aws-lc-rs", "ring is the only TLS provider"),
    ("native-tls", "rustls is the only TLS library"),
    ("openssl-sys", "rustls is the only TLS library"),
    (
        "xmpp-parsers",
        "over ten minutes to compile; elements are our own",
    ),
];

/// Packages that stand in Cargo.lock more than once: name, versions, who needs them.
const DUPLICATES: &[(&str, usize, &str)] = &[
    ("base64", 2, "pem (rcgen) is ahead of rsasl, sasl and us"),
    (
        "cpufeatures",
        2,
        "sha1 and sha2 of rsasl and sasl; chacha20 of proptest",
    ),
    (
        "core-foundation",
        2,
        "hickory-resolver's system-configuration is behind; macOS only",
    ),
    ("getrandom", 2, "ring; rand of proptest"),
    ("rand", 2, "rsasl; proptest"),
    ("rand_core", 2, "rand of rsasl; rand of proptest"),
    (
        "rxml_validation",
        2,
        "the macros of rxml are behind rxml; compile time only",
    ),
    (
        "syn",
        2,
        "macros of asn1-rs and rxml are behind; compile time only",
    ),
    (
        "synstructure",
        2,
        "macros of asn1-rs are behind; compile time only",
    ),
    ("windows-sys", 2, "ring; everybody else; Windows only"),
];

/// Longest `//!` head of a file.
const HEAD_LINES_MAX: usize = 10;

/// Files may have this many lines; longer ones stand in `LONG_FILES` and may shrink, not grow.
const FILE_LINES_MAX: usize = 600;
/// Tables and transcripts may be longer.
const TEST_FILE_LINES_MAX: usize = 800;
const LONG_FILES: &[(&str, usize)] = &[
    ("xmpp-stream/src/stream/initiator.rs", 750),
    ("xmpp-stream/src/stream/responder.rs", 1100),
];

/// Functions may have this many lines; longer ones stand in `LONG_FUNCTIONS` as `path::name`.
const FUNCTION_LINES_MAX: usize = 100;
const LONG_FUNCTIONS: &[(&str, usize)] = &[];

/// The only file that spells namespaces, and how they are recognised.
const NAMESPACES_FILE: &str = "xmpp-stream/src/ns.rs";
const NAMESPACE_MARKS: &[&str] = &[
    "http://etherx.jabber.org/",
    "http://jabber.org/",
    "jabber:",
    "roster:delimiter",
    "storage:",
    "urn:ietf:params:xml:ns:",
    "urn:xmpp:",
    "vcard-temp",
];

/// Code that must not be left behind.
const LEFT_BEHIND: &[&str] = &["#[ignore", "dbg!(", "todo!(", "unimplemented!("];

#[test]
fn packages_of_ours_need_each_other_by_the_rule() {
    let packages = Packages::read(&root());
    let ours = packages.ours();
    let names: BTreeSet<&str> = MAY_NEED.iter().map(|(name, _)| *name).collect();
    assert_eq!(
        ours.keys().copied().collect::<BTreeSet<_>>(),
        names,
        "members of the workspace"
    );
    let mut broken = Vec::new();
    for (name, may) in MAY_NEED {
        let beyond = ours[name].iter().filter(|other| !may.contains(other));
        broken.extend(beyond.map(|other| format!("{name} must not need {other}")));
    }
    none(&broken);
}

#[test]
fn licences_are_acceptable() {
    let packages = Packages::read(&root());
    let shipped = packages.shipped(SHIPPED);
    let mut broken = Vec::new();
    for package in &packages.all {
        let is_shipped = shipped.contains(package.name.as_str());
        let accepted = |name: &str| {
            LICENCES.contains(&name) || (!is_shipped && LICENCES_OF_TESTS.contains(&name))
        };
        let licence = package.licence.as_deref().unwrap_or("no licence");
        if !licence::is_met(licence, &accepted) {
            let used = if is_shipped {
                "what we ship"
            } else {
                "tests only"
            };
            broken.push(format!(
                "{} {}: {licence} ({used})",
                package.name, package.version
            ));
        }
    }
    none(&broken);
}

#[test]
fn deny_toml_accepts_the_same_licences() {
    let deny = read("deny.toml");
    let missing = LICENCES
        .iter()
        .filter(|name| !deny.contains(&format!("\"{name}\"")));
    none(
        &missing
            .map(|name| format!("deny.toml lacks {name}"))
            .collect::<Vec<_>>(),
    );
}

#[test]
fn packages_come_from_the_registry_or_this_workspace() {
    let packages = Packages::read(&root());
    let others = packages
        .all
        .iter()
        .filter_map(|package| Some((package, package.source.as_deref()?)));
    let foreign = others.filter(|(_, source)| !source.starts_with("registry+"));
    none(
        &foreign
            .map(|(package, source)| format!("{}: {source}", package.name))
            .collect::<Vec<_>>(),
    );
}

#[test]
fn duplicate_versions_are_listed_with_reasons() {
    let locked = packages::locked(&read("Cargo.lock"));
    let found: BTreeMap<&str, usize> = locked
        .iter()
        .filter(|(_, versions)| versions.len() > 1)
        .map(|(name, versions)| (name.as_str(), versions.len()))
        .collect();
    let listed: BTreeMap<&str, usize> = DUPLICATES
        .iter()
        .map(|(name, count, _)| (*name, *count))
        .collect();
    let mut broken = Vec::new();
    for (name, count) in &found {
        if listed.get(name) != Some(count) {
            broken.push(format!(
                "{name} {:?} is not in DUPLICATES with a reason",
                locked[*name]
            ));
        }
    }
    let stale = listed.keys().filter(|name| !found.contains_key(*name));
    broken.extend(stale.map(|name| format!("{name}: stale entry of DUPLICATES")));
    let banned = BANNED.iter().filter(|(name, _)| locked.contains_key(*name));
    broken.extend(banned.map(|(name, why)| format!("{name} is banned: {why}")));
    none(&broken);
}

#[test]
fn files_begin_with_a_head() {
    let mut broken = Vec::new();
    for source in sources() {
        // the head of lib.rs is the documentation of a crate
        let max = if source.path.ends_with("/lib.rs") {
            usize::MAX
        } else {
            HEAD_LINES_MAX
        };
        match source.head_lines() {
            None => broken.push(format!("{}: does not begin with a `//!` head", source.path)),
            Some(lines) if lines > max => {
                broken.push(format!("{}: head of {lines} lines", source.path))
            }
            Some(_) => {}
        }
    }
    none(&broken);
}

#[test]
fn namespaces_are_spelled_in_one_file() {
    let mut broken = Vec::new();
    for source in sources() {
        if !source.path.starts_with("xmpp-") || source.path == NAMESPACES_FILE {
            continue;
        }
        for (at, text) in source.strings_outside_tests() {
            if NAMESPACE_MARKS.iter().any(|mark| text.contains(mark)) {
                broken.push(format!(
                    "{}: {text:?} belongs into {NAMESPACES_FILE}",
                    source.place(at)
                ));
            }
        }
    }
    none(&broken);
}

#[test]
fn tests_wait_for_events() {
    let mut broken = Vec::new();
    for source in sources() {
        for word in ["sleep", "sleep_until"] {
            let in_tests = source
                .words(word)
                .into_iter()
                .filter(|at| source.in_tests(*at));
            broken.extend(in_tests.map(|at| format!("{}: a test that sleeps", source.place(at))));
        }
    }
    none(&broken);
}

#[test]
fn nothing_is_left_behind() {
    let mut broken = Vec::new();
    for source in sources() {
        for mark in LEFT_BEHIND {
            let found = source.words(mark);
            broken.extend(
                found
                    .into_iter()
                    .map(|at| format!("{}: {mark}", source.place(at))),
            );
        }
    }
    none(&broken);
}

#[test]
fn no_certificate_or_key_lies_about() {
    // What `xmpp-certs` writes, and what begins a key in whatever file; spelled in two pieces.
    let begin = ["-----BEGIN ", "PRIVATE KEY-----"];
    let begin = ["", "EC ", "RSA ", "ENCRYPTED "].map(|kind| begin.join(kind));
    let mut broken = Vec::new();
    for path in files(&root()) {
        let end = path.extension().and_then(|end| end.to_str());
        let text = fs::read_to_string(&path).unwrap_or_default();
        let is_key = matches!(end, Some("key" | "pem" | "crt" | "p12"));
        if is_key || begin.iter().any(|mark| text.contains(mark)) {
            broken.push(relative(&path));
        }
    }
    none(&broken);
}

#[test]
fn files_and_functions_do_not_grow() {
    let mut files = BTreeMap::new();
    let mut test_files = BTreeMap::new();
    let mut functions = BTreeMap::new();
    for source in sources() {
        let table = if source.is_test_file() {
            &mut test_files
        } else {
            &mut files
        };
        table.insert(source.path.clone(), source.text.lines().count());
        for function in source.functions() {
            if !source.in_tests(function.at) {
                let lines = functions
                    .entry(format!("{}::{}", source.path, function.name))
                    .or_default();
                *lines = function.lines.max(*lines);
            }
        }
    }
    let mut broken = ratchet(&files, FILE_LINES_MAX, LONG_FILES, "LONG_FILES");
    broken.extend(ratchet(&test_files, TEST_FILE_LINES_MAX, &[], "no table"));
    broken.extend(ratchet(
        &functions,
        FUNCTION_LINES_MAX,
        LONG_FUNCTIONS,
        "LONG_FUNCTIONS",
    ));
    none(&broken);
}

#[test]
fn nothing_names_the_place_it_was_written_in() {
    // where checkouts usually lie; spelled without slashes, so that this file passes
    let usual =
        ["builds", "home", "root", "Users", "work", "workspace"].map(|name| format!("/{name}/"));
    let here = root().display().to_string();
    let marks: Vec<&str> = usual
        .iter()
        .map(String::as_str)
        .chain([here.as_str()])
        .collect();
    let mut broken = Vec::new();
    for path in files(&root()) {
        let Ok(text) = fs::read_to_string(&path) else {
            continue;
        };
        for (number, line) in text.lines().enumerate() {
            if marks.iter().any(|mark| names_absolute_path(line, mark)) {
                broken.push(format!(
                    "{}:{}: {}",
                    relative(&path),
                    number + 1,
                    line.trim()
                ));
            }
        }
    }
    none(&broken);
}

/// The mark stands at the beginning of a path, not inside one.
fn names_absolute_path(line: &str, mark: &str) -> bool {
    line.match_indices(mark).any(|(at, _)| {
        let before = line[..at].chars().next_back();
        !before.is_some_and(|c| c.is_alphanumeric() || "_.-~/*{}:".contains(c))
    })
}

/// What is longer than `max` and not in `table`, or longer than there; and entries no longer needed.
fn ratchet(
    found: &BTreeMap<String, usize>,
    max: usize,
    table: &[(&str, usize)],
    name: &str,
) -> Vec<String> {
    let allowed: BTreeMap<&str, usize> = table.iter().copied().collect();
    let mut broken = Vec::new();
    for (item, lines) in found {
        let limit = allowed.get(item.as_str()).copied().unwrap_or(max);
        if *lines > limit {
            broken.push(format!("{item}: {lines} lines, {limit} allowed ({name})"));
        }
    }
    let stale = table
        .iter()
        .filter(|(item, _)| found.get(*item).is_none_or(|lines| *lines <= max));
    broken.extend(stale.map(|(item, _)| format!("{item}: stale entry of {name}")));
    broken
}

#[track_caller]
fn none(broken: &[String]) {
    assert!(
        broken.is_empty(),
        "{} broken:\n{}",
        broken.len(),
        broken.join("\n")
    );
}

fn root() -> PathBuf {
    let manifest = Path::new(env!("CARGO_MANIFEST_DIR"));
    manifest
        .parent()
        .expect("the test kit is a folder of the workspace")
        .to_owned()
}

fn read(path: &str) -> String {
    fs::read_to_string(root().join(path)).unwrap_or_else(|error| panic!("{path}: {error}"))
}

fn relative(path: &Path) -> String {
    path.strip_prefix(root())
        .unwrap_or(path)
        .display()
        .to_string()
        .replace('\\', "/")
}

fn sources() -> Vec<Source> {
    let rust = files(&root())
        .into_iter()
        .filter(|path| path.extension().is_some_and(|end| end == "rs"));
    rust.map(|path| Source::new(relative(&path), read(&relative(&path))))
        .collect()
}

/// Every file of the repository; what is built, stored or git's own is left out.
fn files(folder: &Path) -> Vec<PathBuf> {
    let mut found = Vec::new();
    let entries =
        fs::read_dir(folder).unwrap_or_else(|error| panic!("{}: {error}", folder.display()));
    for entry in entries {
        let path = entry.expect("a readable folder").path();
        let name = path
            .file_name()
            .and_then(|name| name.to_str())
            .unwrap_or_default();
        if path.is_dir() {
            if ![".git", "certs-dev", "target", "xmpp-data"].contains(&name) {
                found.extend(files(&path));
            }
        } else if name != ".git" {
            found.push(path);
        }
    }
    found.sort();
    found
}
