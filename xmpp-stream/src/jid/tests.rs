//! Preparation of addresses: RFC 7622 by row, stability over all code points.

use super::*;
use proptest::prelude::*;

#[track_caller]
fn check(text: &str, want: Result<(Option<&str>, &str, Option<&str>), JidError>) {
    let got = Jid::parse(text);
    match (&got, want) {
        (Ok(jid), Ok(parts)) => {
            assert_eq!(
                (jid.local(), jid.domain(), jid.resource()),
                parts,
                "{text:?}"
            );
            assert_eq!(
                Jid::parse(jid.as_str()).as_ref(),
                Ok(jid),
                "{text:?} is not stable"
            );
        }
        (Err(got), Err(want)) => assert_eq!(*got, want, "{text:?}"),
        (got, want) => panic!("{text:?}: got {got:?}, want {want:?}"),
    }
}

#[track_caller]
fn same(left: &str, right: &str) {
    assert_eq!(
        Jid::parse(left).unwrap(),
        Jid::parse(right).unwrap(),
        "{left:?} {right:?}"
    );
}

#[test]
fn ats_ja_01_split_before_any_mapping() {
    check(
        "a.example.com/b@example.net",
        Ok((None, "a.example.com", Some("b@example.net"))),
    );
    check("d/foo/bar", Ok((None, "d", Some("foo/bar"))));
    check("u@d", Ok((Some("u"), "d", None)));
    check("u@d/r@x", Ok((Some("u"), "d", Some("r@x"))));
    check("u@a@b", Err(JidError::Domain));
    // A fullwidth slash or at-sign is no delimiter, and what it maps to is forbidden.
    check("u\u{FF20}d", Err(JidError::Domain));
    check("a\u{FF0F}b@d", Err(JidError::Local));
}

#[test]
fn ats_ja_02_trailing_dot() {
    same("user@d.test.", "user@d.test");
    check("user@d..", Err(JidError::Domain));
    check("user@.", Err(JidError::Domain));
    same("user@d\u{3002}", "user@d");
}

#[test]
fn ats_ja_03_domain_is_u_label_lower_case() {
    check("EXAMPLE.com", Ok((None, "example.com", None)));
    same("u@XN--Mller-kva.example", "u@m\u{FC}ller.example");
    same("u@M\u{DC}LLER.example", "u@mu\u{308}ller.example");
    check(
        "u@xn--mller-kva.example",
        Ok((Some("u"), "m\u{FC}ller.example", None)),
    );
    check("\u{FF45}xample.com", Ok((None, "example.com", None)));
    check("ab--cd.example", Ok((None, "ab--cd.example", None)));
    check("my_host", Ok((None, "my_host", None)));
    for bad in [
        "xn--a-\u{FC}",
        "xn--zzzzzzz99999",
        "a b",
        "a..b",
        ".a",
        "a&b",
        "a:5222",
        "u@",
    ] {
        check(bad, Err(JidError::Domain));
    }
}

#[test]
fn ats_ja_04_addresses_as_domains() {
    check("u@[::1]", Ok((Some("u"), "[::1]", None)));
    check("[0:0::1]/r", Ok((None, "[::1]", Some("r"))));
    check("127.0.0.1", Ok((None, "127.0.0.1", None)));
    check("localhost", Ok((None, "localhost", None)));
    for bad in ["[::1", "::1", "[localhost]", "[::1]x", "[]"] {
        check(bad, Err(JidError::Domain));
    }
}

#[test]
fn ats_ja_05_local_is_case_mapped() {
    same("JULIET@d", "juliet@d");
    check("\u{3A3}@d", Ok((Some("\u{3C3}"), "d", None)));
    check("\u{391}\u{3A3}@d", Ok((Some("\u{3B1}\u{3C3}"), "d", None)));
    check("\u{3C2}@d", Ok((Some("\u{3C2}"), "d", None)));
    check("stra\u{DF}e@d", Ok((Some("stra\u{DF}e"), "d", None)));
    same("\u{FF2A}uliet@d", "juliet@d");
    same("e\u{301}@d", "\u{C9}@d");
    let account = |local| BareJid::account(local, "d").map(|jid| jid.to_string());
    assert_eq!(account("JULIET"), Ok("juliet@d".to_owned()));
    assert_eq!(account("\u{3A3}"), Ok("\u{3C3}@d".to_owned()));
    assert_eq!(account("stra\u{DF}e"), Ok("stra\u{DF}e@d".to_owned()));
    assert_eq!(account("\u{FF2A}uliet"), Ok("juliet@d".to_owned()));
}

#[test]
fn ats_ja_06_forbidden_in_a_local_part() {
    for c in ['"', '&', '\'', '/', ':', '<', '>', '@', ' '] {
        let text = format!("a{c}b@d");
        assert_eq!(
            prepare_local(&format!("a{c}b")),
            Err(JidError::Local),
            "{c:?}"
        );
        assert!(BareJid::account(&format!("a{c}b"), "d").is_err(), "{c:?}");
        // Split off by a delimiter or refused, never part of the local part.
        assert_ne!(
            Jid::parse(&text)
                .ok()
                .and_then(|jid| jid.local().map(str::to_owned)),
            Some(format!("a{c}b"))
        );
    }
    for c in [
        '\u{0}',
        '\u{9}',
        '\u{7F}',
        '\u{85}',
        '\u{FDD0}',
        '\u{FFFE}',
        '\u{10FFFF}',
    ] {
        check(&format!("a{c}b@d"), Err(JidError::Local));
        check(&format!("a@d/x{c}"), Err(JidError::Resource));
    }
}

#[test]
fn ats_ja_07_resource_keeps_case_and_maps_spaces() {
    check("d/Foo Bar", Ok((None, "d", Some("Foo Bar"))));
    check("d/ foo", Ok((None, "d", Some(" foo"))));
    check("d/a\u{A0}b\u{3000}c", Ok((None, "d", Some("a b c"))));
    check("d/e\u{301}", Ok((None, "d", Some("\u{E9}"))));
    check(
        "d/\u{1F389} party",
        Ok((None, "d", Some("\u{1F389} party"))),
    );
    let family = "\u{1F468}\u{200D}\u{1F469}\u{200D}\u{1F467}";
    check(
        &format!("room@d/{family}"),
        Ok((Some("room"), "d", Some(family))),
    );
}

#[test]
fn ats_ja_08_not_addresses() {
    check("@d/", Err(JidError::Local));
    check("@d", Err(JidError::Local));
    check("u@", Err(JidError::Domain));
    check("/r", Err(JidError::Domain));
    check("u@d/", Err(JidError::Resource));
    check("", Err(JidError::Domain));
    check("king@d/\u{265A}", Ok((Some("king"), "d", Some("\u{265A}"))));
    // Strict for accounts; what is only routed passes (DESIGN 3).
    assert_eq!(BareJid::account("henry\u{2163}", "d"), Err(JidError::Local));
    assert_eq!(BareJid::account("\u{265A}", "d"), Err(JidError::Local));
    check("\u{265A}@d", Ok((Some("\u{265A}"), "d", None)));
}

#[test]
fn ats_ja_09_types_for_each_slot() {
    assert_eq!(BareJid::parse("u@d/r"), Err(JidError::Resource));
    assert_eq!(FullJid::parse("u@d"), Err(JidError::Resource));
    let bare = BareJid::parse("u@d").unwrap();
    assert_eq!(
        bare.with_resource("r").unwrap(),
        FullJid::parse("u@d/r").unwrap()
    );
    assert_eq!(bare.with_resource(""), Err(JidError::Resource));
    assert_eq!(FullJid::parse("u@d/r").unwrap().to_bare(), bare);
    assert_eq!(FullJid::parse("u@d/r").unwrap().resource_str(), "r");
    assert_eq!(Jid::domain_only("D.test.").unwrap().as_str(), "d.test");
    assert_eq!(Jid::domain_only("u@d"), Err(JidError::Domain));
}

#[test]
fn ats_ja_10_map_where_possible() {
    same("\u{FF35}ser@\u{FF24}.test/A\u{2003}b", "user@d.test/A b");
    same("\u{FF76}@d", "\u{30AB}@d");
}

#[test]
fn ats_ja_11_equal_addresses_have_equal_octets() {
    let left = Jid::parse("JULIET@XN--Mller-kva.example./Balcony").unwrap();
    let right = Jid::parse("juliet@m\u{FC}ller.example/Balcony").unwrap();
    assert_eq!(left.as_str().as_bytes(), right.as_str().as_bytes());
    assert_ne!(
        left,
        Jid::parse("juliet@m\u{FC}ller.example/balcony").unwrap()
    );
}

#[test]
fn address_parts_are_at_most_1023_bytes() {
    let max = "a".repeat(1023);
    let over = "a".repeat(1024);
    assert!(Jid::parse(&format!("{max}@{max}/{max}")).is_ok());
    check(&format!("{over}@d"), Err(JidError::Local));
    check(&over, Err(JidError::Domain));
    check(&format!("d/{over}"), Err(JidError::Resource));
    check(
        &format!("d/{}", "\u{E9}".repeat(512)),
        Err(JidError::Resource),
    );
}

#[test]
fn every_code_point_is_stable_or_refused() {
    // The ideographs and syllables left out have no mapping of their own.
    let ranges = [
        0..0x3400,
        0xA000..0xAD00,
        0xD700..0x1_2000,
        0x1_D000..0x2_0000,
    ];
    for c in ranges.into_iter().flatten().filter_map(char::from_u32) {
        for text in [format!("x{c}y@d"), format!("x@d/x{c}y"), format!("d{c}e")] {
            if let Ok(jid) = Jid::parse(&text) {
                let again = Jid::parse(jid.as_str());
                assert_eq!(again.as_ref(), Ok(&jid), "{text:?}");
            }
        }
    }
}

/// Any text, and texts of letters, delimiters and characters that change when prepared.
const ADDRESSES: &str =
    "\\PC*|[a-zA-Z@/.\\[\\]:\u{FF01}-\u{FFEE}\u{300}-\u{345}\u{390}-\u{3D0}xn-]*";

proptest! {
    #[test]
    fn parse_never_panics_and_is_stable(text in ADDRESSES) {
        if let Ok(jid) = Jid::parse(&text) {
            let (again, bare) = (Jid::parse(jid.as_str()), jid.to_bare());
            prop_assert_eq!(again.as_ref(), Ok(&jid));
            prop_assert_eq!(bare.as_str(), jid.bare_str());
        }
        let _ = BareJid::account(&text, "d");
    }
}
