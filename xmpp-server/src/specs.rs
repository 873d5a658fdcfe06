//! Which specs this server supports, as a page for people and as DOAP (XEP-0453).
//!
//! Both are made from what modules say of themselves and from the list here of what the stream layer
//! does; docs/SPECS.md and docs/doap.xml are these texts, and a test fails when they are stale.

use crate::modules::{self, Coverage, Module, Spec};
use std::collections::BTreeMap;
use std::fmt::Write;
use xmpp_stream::ns;

/// What the stream layer does, without a module.
const STREAM: &[Spec] = &[
    complete("RFC 4616", "2006"),
    complete("RFC 5802", "2010"),
    lacks("RFC 5929", "2010", "only tls-server-end-point"),
    complete("RFC 6120", "2011"),
    complete("RFC 7590", "2015"),
    complete("RFC 7622", "2015"),
    complete("RFC 7677", "2015"),
    complete("RFC 9266", "2022"),
    complete("XEP-0114", "1.6"),
    complete("XEP-0178", "1.2"),
    complete("XEP-0185", "1.0"),
    complete("XEP-0198", "1.6.3"),
    complete("XEP-0220", "1.1.1"),
    complete("XEP-0288", "1.0.1"),
    lacks(
        "XEP-0344",
        "0.4",
        "a certificate needs no key; keys are verified without DNSSEC",
    ),
    complete("XEP-0368", "1.1.0"),
    complete("XEP-0440", "1.0.0"),
    complete("XEP-0474", "0.5.0"),
    complete("XEP-0478", "0.2.0"),
    complete("XEP-0515", "0.1.0"),
];

const fn complete(id: &'static str, version: &'static str) -> Spec {
    Spec {
        id,
        version,
        coverage: Coverage::Complete,
    }
}

const fn lacks(id: &'static str, version: &'static str, what: &'static str) -> Spec {
    Spec {
        id,
        version,
        coverage: Coverage::Lacks(what),
    }
}

/// A spec as all who implement some of it say together.
#[derive(Debug, Eq, PartialEq)]
struct Supported {
    version: &'static str,
    is_complete: bool,
    notes: Vec<&'static str>,
    modules: Vec<&'static str>,
}

/// Specs by name, RFCs first.
fn supported(modules: &[&dyn Module]) -> BTreeMap<&'static str, Supported> {
    let of_modules = modules.iter().flat_map(|module| {
        let info = module.info();
        info.specs.iter().map(|spec| (spec, Some(info.name)))
    });
    let mut all = BTreeMap::new();
    for (spec, module) in STREAM.iter().map(|spec| (spec, None)).chain(of_modules) {
        let one = all.entry(spec.id).or_insert(Supported {
            version: spec.version,
            is_complete: true,
            notes: Vec::new(),
            modules: Vec::new(),
        });
        one.is_complete &= spec.coverage == Coverage::Complete;
        if let Coverage::Lacks(what) = spec.coverage {
            one.notes.push(what);
        }
        one.modules.extend(module);
    }
    all
}

/// Every module that may be loaded.
fn all_modules() -> Vec<&'static dyn Module> {
    modules::enabled(&[])
}

/// docs/SPECS.md.
#[must_use]
pub fn markdown() -> String {
    let mut page = String::from(
        "# Specs\n\nMade from the sources; CONTRIBUTING.md says how. *Complete* means all that \
         binds a server; a spec\nwithout a module is the stream's.\n\n\
         | spec | version | support | modules |\n|---|---|---|---|\n",
    );
    for (id, one) in supported(&all_modules()) {
        let support = match (one.is_complete, one.notes.is_empty()) {
            (true, _) => "complete".to_owned(),
            (false, true) => "partial".to_owned(),
            (false, false) => format!("partial: {}", one.notes.join("; ")),
        };
        let names = one.modules.iter().map(|name| format!("`{name}`"));
        let names = names.collect::<Vec<_>>().join(", ");
        let link = format!("[{id}]({})", address(id));
        let _ = writeln!(page, "| {link} | {} | {support} | {names} |", one.version);
    }
    page
}

/// docs/doap.xml.
#[must_use]
pub fn doap() -> String {
    let mut xml = format!(
        "<?xml version='1.0' encoding='UTF-8'?>\n\
         <!-- Made from the sources; CONTRIBUTING.md says how. -->\n\
         <rdf:RDF xmlns='{}' xmlns:rdf='{}' xmlns:xmpp='{}'>\n  <Project>\n",
        ns::DOAP,
        ns::RDF,
        ns::DOAP_XMPP
    );
    let _ = writeln!(xml, "    <name>{}</name>", env!("CARGO_PKG_NAME"));
    xml.push_str("    <shortdesc xml:lang='en'>XMPP server, also a library to embed</shortdesc>\n");
    xml.push_str("    <programming-language>Rust</programming-language>\n");
    xml.push_str("    <os>Linux</os>\n");
    let server = format!("{}category-server", ns::DOAP_XMPP);
    let _ = writeln!(xml, "    <category rdf:resource='{server}'/>");
    let all = supported(&all_modules());
    for id in all.keys().filter(|id| id.starts_with("RFC")) {
        let _ = writeln!(xml, "    <implements rdf:resource='{}'/>", address(id));
    }
    for (id, one) in all.iter().filter(|(id, _)| id.starts_with("XEP")) {
        let status = if one.is_complete {
            "complete"
        } else {
            "partial"
        };
        xml.push_str("    <implements>\n      <xmpp:SupportedXep>\n");
        let _ = writeln!(xml, "        <xmpp:xep rdf:resource='{}'/>", address(id));
        let _ = writeln!(xml, "        <xmpp:status>{status}</xmpp:status>");
        let _ = writeln!(xml, "        <xmpp:version>{}</xmpp:version>", one.version);
        for note in &one.notes {
            let _ = writeln!(xml, "        <xmpp:note xml:lang='en'>{note}</xmpp:note>");
        }
        xml.push_str("      </xmpp:SupportedXep>\n    </implements>\n");
    }
    xml.push_str("  </Project>\n</rdf:RDF>\n");
    xml
}

/// Where a spec can be read.
fn address(id: &str) -> String {
    match id.split_once([' ', '-']) {
        Some(("RFC", number @ ("6120" | "6121" | "7590" | "7622"))) => {
            format!("https://xmpp.org/rfcs/rfc{number}.html")
        }
        Some(("RFC", number)) => format!("https://www.rfc-editor.org/rfc/rfc{number}"),
        Some((_, number)) => format!("https://xmpp.org/extensions/xep-{number}.html"),
        None => String::new(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::path::Path;

    /// `UPDATE_SPECS=1` writes the files instead.
    fn check(name: &str, made: &str) {
        let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../docs");
        let file = folder.join(name);
        if std::env::var_os("UPDATE_SPECS").is_some() {
            std::fs::write(&file, made).unwrap();
        }
        let found = std::fs::read_to_string(&file).unwrap_or_default();
        assert!(
            found == made,
            "docs/{name} is stale: UPDATE_SPECS=1 cargo test -p xmpp-server --lib specs"
        );
    }

    #[test]
    fn the_page_of_specs_is_up_to_date() {
        check("SPECS.md", &markdown());
    }

    #[test]
    fn the_description_of_the_project_is_up_to_date() {
        let doap = doap();
        check("doap.xml", &doap);
        let mut names = element_names(&doap);
        assert!(names.contains(&"SupportedXep".to_owned()), "{names:?}");
        names.retain(|name| name == "xep");
        assert_eq!(names.len(), doap.matches("<xmpp:SupportedXep>").count());
    }

    /// Names of the elements, read as XML.
    fn element_names(doap: &str) -> Vec<String> {
        use xmpp_stream::xml::Element;
        fn walk(element: &Element, names: &mut Vec<String>) {
            names.push(element.name().to_owned());
            for child in element.children() {
                walk(child, names);
            }
        }
        let root = doap.split_once("-->").unwrap().1;
        let root = Element::parse(root.trim().as_bytes(), "").unwrap();
        assert!(root.is(ns::RDF, "RDF"));
        let mut names = Vec::new();
        walk(&root, &mut names);
        names
    }

    #[test]
    fn a_spec_is_as_complete_as_its_least_part() {
        let all = supported(&all_modules());
        let im = &all["RFC 6121"];
        assert_eq!(im.is_complete, im.notes.is_empty());
        assert!(im.modules.len() >= 4, "{im:?}");
        for (id, one) in &all {
            let versions = all_modules();
            let specs = versions.iter().flat_map(|module| module.info().specs);
            let mut same = specs.filter(|spec| spec.id == *id);
            assert!(same.all(|spec| spec.version == one.version), "{id}");
        }
    }

    #[test]
    fn notes_are_text() {
        for one in supported(&all_modules()).values() {
            assert!(one.notes.iter().all(|note| !note.contains(['<', '&', '|'])));
        }
    }
}
