//! What the workspace is built from: `cargo metadata` for this platform, and Cargo.lock for all of them.

use serde_json::Value;
use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::process::Command;

/// One package of the build.
pub(crate) struct Package {
    pub(crate) name: String,
    pub(crate) version: String,
    pub(crate) licence: Option<String>,
    /// `None`: a path of this workspace.
    pub(crate) source: Option<String>,
    id: String,
    is_ours: bool,
}

/// Everything cargo says about the build.
pub(crate) struct Packages {
    pub(crate) all: Vec<Package>,
    /// Package id -> ids of what it needs, and whether only its tests need it.
    needs: BTreeMap<String, Vec<(String, bool)>>,
}

impl Packages {
    /// Asks cargo, without the network: what is needed was fetched to build this test.
    pub(crate) fn read(root: &Path) -> Self {
        let host = output(root, "rustc", &["-vV"]);
        let host = host
            .lines()
            .find_map(|line| line.strip_prefix("host: "))
            .expect("rustc -vV names the host");
        let cargo = std::env::var("CARGO").unwrap_or_else(|_| "cargo".into());
        let options = [
            "metadata",
            "--format-version",
            "1",
            "--locked",
            "--offline",
            "--filter-platform",
            host,
        ];
        let json: Value =
            serde_json::from_str(&output(root, &cargo, &options)).expect("cargo writes JSON");
        let ours: BTreeSet<&str> = array(&json["workspace_members"])
            .filter_map(Value::as_str)
            .collect();
        let all = array(&json["packages"])
            .map(|package| package_of(package, &ours))
            .collect();
        let nodes = array(&json["resolve"]["nodes"]);
        Self {
            all,
            needs: nodes
                .map(|node| {
                    (
                        text(&node["id"]),
                        array(&node["deps"]).map(need_of).collect(),
                    )
                })
                .collect(),
        }
    }

    /// Our packages, each with the names of ours that it needs (its tests included).
    pub(crate) fn ours(&self) -> BTreeMap<&str, BTreeSet<&str>> {
        let ours = || self.all.iter().filter(|package| package.is_ours);
        let needed = |package: &Package| {
            let needs = &self.needs[&package.id];
            ours()
                .filter(|other| needs.iter().any(|(id, _)| *id == other.id))
                .map(|other| other.name.as_str())
                .collect()
        };
        ours()
            .map(|package| (package.name.as_str(), needed(package)))
            .collect()
    }

    /// Names of all packages that end up in these packages of ours, tests left out.
    pub(crate) fn shipped(&self, roots: &[&str]) -> BTreeSet<&str> {
        let mut open: Vec<&Package> = self
            .all
            .iter()
            .filter(|package| package.is_ours && roots.contains(&package.name.as_str()))
            .collect();
        let mut seen = BTreeSet::new();
        while let Some(package) = open.pop() {
            if seen.insert(package.name.as_str()) {
                let needs = self.needs[&package.id]
                    .iter()
                    .filter(|(_, only_tests)| !only_tests);
                open.extend(
                    needs.filter_map(|(id, _)| self.all.iter().find(|other| other.id == *id)),
                );
            }
        }
        seen
    }
}

/// Package names of Cargo.lock with their versions: the same on every platform.
pub(crate) fn locked(lock: &str) -> BTreeMap<String, BTreeSet<String>> {
    let mut found: BTreeMap<String, BTreeSet<String>> = BTreeMap::new();
    let mut name = "";
    for line in lock.lines() {
        let value = |key: &str| {
            line.strip_prefix(key)?
                .strip_prefix(" = \"")?
                .strip_suffix('"')
        };
        if let Some(value) = value("name") {
            name = value;
        } else if let Some(version) = value("version") {
            found.entry(name.into()).or_default().insert(version.into());
        }
    }
    found
}

fn package_of(package: &Value, ours: &BTreeSet<&str>) -> Package {
    Package {
        name: text(&package["name"]),
        version: text(&package["version"]),
        licence: package["license"].as_str().map(str::to_owned),
        source: package["source"].as_str().map(str::to_owned),
        id: text(&package["id"]),
        is_ours: package["id"].as_str().is_some_and(|id| ours.contains(id)),
    }
}

fn need_of(dep: &Value) -> (String, bool) {
    let only_tests = array(&dep["dep_kinds"]).all(|kind| kind["kind"] == "dev");
    (text(&dep["pkg"]), only_tests)
}

fn array(value: &Value) -> impl Iterator<Item = &Value> {
    value.as_array().into_iter().flatten()
}

fn text(value: &Value) -> String {
    value.as_str().unwrap_or_default().to_owned()
}

fn output(root: &Path, program: &str, arguments: &[&str]) -> String {
    let output = Command::new(program)
        .args(arguments)
        .current_dir(root)
        .output();
    let output = output.unwrap_or_else(|error| panic!("{program} cannot be started: {error}"));
    assert!(
        output.status.success(),
        "`{program} {}` failed; it works without the network, so if a package is missing run `cargo fetch --locked` once:\n{}",
        arguments.join(" "),
        String::from_utf8_lossy(&output.stderr)
    );
    String::from_utf8(output.stdout).expect("UTF-8")
}
