//! X11: accepted input -> canonical -> the same events under the parser, and a fixed point.

use super::*;
use crate::stanza::Edit;
use proptest::prelude::*;

/// What a parser says of one stanza: starts with sorted attributes, joined text, ends.
#[derive(Debug, Eq, PartialEq)]
enum Said {
    Start(String, String, Vec<(String, String, String)>),
    Text(String),
    End,
}

/// Parses without our reader. With `own`, rule X6 is applied by its own few lines.
fn say(xml: &str, own: bool) -> Option<Vec<Said>> {
    let mut parser = Parser::with_options(Options::default());
    let all = format!("{OPEN}{xml}");
    let mut data = all.as_bytes();
    let mut said = Vec::new();
    let mut stack: Vec<bool> = Vec::new();
    loop {
        match parser.parse(&mut data, false) {
            Ok(Some(Event::StartElement(_, (ns, name), attrs))) => {
                let content = matches!(&*ns, ns::CLIENT | ns::SERVER | ns::COMPONENT);
                let inherits = content && stack.last().copied().unwrap_or(true);
                let ns = if own && inherits { ns::CLIENT } else { &*ns };
                let attrs = attrs
                    .iter()
                    .map(|((ns, name), value)| (ns.to_string(), name.to_string(), value.clone()));
                let mut attrs: Vec<_> = attrs.collect();
                attrs.sort();
                said.push(Said::Start(ns.to_owned(), name.to_string(), attrs));
                // The root is no part of the chain: a stanza is where it begins.
                stack.push(stack.is_empty() || inherits);
            }
            Ok(Some(Event::Text(_, text))) => match said.last_mut() {
                Some(Said::Text(last)) => last.push_str(&text),
                _ if text.is_empty() => {}
                _ => said.push(Said::Text(text)),
            },
            Ok(Some(Event::EndElement(_))) => {
                stack.pop();
                said.push(Said::End);
            }
            Ok(Some(Event::XmlDeclaration(..))) => {}
            Ok(None) | Err(EndOrError::NeedMoreData) => return Some(said),
            Err(EndOrError::Error(_)) => return None,
        }
    }
}

/// The property for one input; true when the reader took it as a stanza.
fn holds(xml: &str) -> bool {
    let all = [OPEN, xml].concat();
    let whole = run(&mut reader(), &[all.as_bytes()]);
    let bytes: Vec<&[u8]> = all.as_bytes().chunks(1).collect();
    assert_eq!(run(&mut reader(), &bytes), whole, "split of {xml}");
    let mut data = &all.as_bytes()[OPEN.len()..];
    let mut reader = reader();
    let _ = reader.next(&mut OPEN.as_bytes());
    let Ok(Some(Frame::Stanza(stanza))) = reader.next(&mut data) else {
        return false;
    };
    if !data.is_empty() {
        return false;
    }
    let canonical = stanza.to_xml();
    let again = Stanza::parse(&canonical).unwrap();
    assert_eq!(
        (&again.head, &again.payload, &again.kids),
        (&stanza.head, &stanza.payload, &stanza.kids)
    );
    assert_eq!(say(&canonical, false), say(xml, true), "{xml}\n{canonical}");
    for kid in &stanza.kids {
        // The tree of a child writes the same bytes again.
        let element = stanza.element(kid);
        let written = Stanza::message(Ty::None).with_child(&element);
        assert_eq!(written.payload, stanza.kid_bytes(kid), "{xml}");
        assert_eq!(stanza.kid_name(kid).1, element.name());
        assert_eq!(stanza.kid_name(kid).0, element.ns());
        assert_eq!(
            Element::parse(stanza.kid_bytes(kid), ns::CLIENT).unwrap(),
            element
        );
    }
    for index in 0..stanza.kids.len() {
        let cut = stanza.splice(&[Edit::Cut(index)]);
        assert_eq!(
            Stanza::parse(&cut.to_xml()).unwrap().to_element(),
            cut.to_element()
        );
        let mut left = stanza.elements();
        left.remove(index);
        assert_eq!(cut.elements(), left);
    }
    true
}

fn text() -> impl Strategy<Value = String> {
    prop_oneof![
        "[a-z ]{0,6}".prop_map(String::from),
        Just("&amp;&lt;".to_owned()),
        Just("]".to_owned()),
        Just("&#62;&#13;".to_owned()),
        Just("<![CDATA[]<&>]]>".to_owned()),
        Just("\r\n\t".to_owned()),
        Just("\u{1F389}\u{E9}\u{FEFF}".to_owned()),
        Just("'\">".to_owned()),
    ]
}

fn attribute() -> impl Strategy<Value = (String, String)> {
    let name = prop_oneof![
        "[a-e]".prop_map(String::from),
        "[pqc]:[a-c]".prop_map(String::from),
        Just("xml:lang".to_owned()),
        Just("xmlns:p='urn:other' zz".to_owned()),
    ];
    let value = prop_oneof![
        "[a-z ]{0,4}".prop_map(String::from),
        Just("&lt;&amp;&apos;&quot;&#10;&#9;&#13;".to_owned()),
        Just("\n\t>\u{E9}".to_owned()),
    ];
    (name, value)
}

fn element() -> impl Strategy<Value = String> {
    let leaf = text();
    leaf.prop_recursive(4, 24, 4, |inner| {
        let name = prop_oneof![
            "[a-c]".prop_map(String::from),
            "[pqcs]:[a-c]".prop_map(String::from)
        ];
        let default = prop_oneof![
            4 => Just(""),
            1 => Just(" xmlns=''"),
            1 => Just(" xmlns='urn:x'"),
            1 => Just(" xmlns='jabber:client'"),
            1 => Just(" xmlns='jabber:server'"),
            1 => Just(" xmlns='urn:&amp;&apos;'"),
        ];
        let attrs = prop::collection::vec(attribute(), 0..3);
        let kids = prop::collection::vec(inner, 0..4);
        (name, default, attrs, kids).prop_map(|(name, default, attrs, kids)| {
            let attrs: String = attrs.iter().map(|(n, v)| format!(" {n}=\"{v}\"")).collect();
            format!("<{name}{default}{attrs}>{}</{name}>", kids.concat())
        })
    })
}

fn stanza() -> impl Strategy<Value = String> {
    let attrs = prop::collection::vec(attribute(), 0..3);
    let kind = prop_oneof![Just("message"), Just("iq"), Just("c:presence")];
    (kind, attrs, prop::collection::vec(element(), 0..4)).prop_map(|(kind, attrs, kids)| {
        let attrs: String = attrs.iter().map(|(n, v)| format!(" {n}=\"{v}\"")).collect();
        format!(
            "<{kind} xmlns:p2='u' xmlns:q='urn:q' xmlns:c='jabber:client' xmlns:s='jabber:server' \
             xmlns:p='urn:p'{attrs}>{}</{kind}>",
            kids.concat()
        )
    })
}

#[test]
fn the_generator_makes_acceptable_stanzas() {
    use proptest::strategy::ValueTree;
    let mut runner = proptest::test_runner::TestRunner::deterministic();
    let accepted = (0..200).filter(|_| {
        let tree = stanza().new_tree(&mut runner).unwrap();
        holds(&tree.current())
    });
    assert!(
        accepted.count() > 80,
        "most generated stanzas must reach the property"
    );
}

/// What is written over a place of a good stanza.
const MUTATIONS: &str = "[<>&'\" =/\\]a:\u{0}-\u{1F}\u{E9}!?;-]{0,3}";

proptest! {
    #[test]
    fn x11_canonical_form_says_the_same(xml in stanza()) {
        holds(&xml);
    }

    #[test]
    fn x11_mutated_input(xml in stanza(), at in any::<prop::sample::Index>(), with in MUTATIONS) {
        let at = at.index(xml.len());
        if xml.is_char_boundary(at) {
            let tail = xml[at..].chars().skip(with.chars().count()).collect::<String>();
            holds(&format!("{}{with}{tail}", &xml[..at]));
        }
    }

    #[test]
    fn bytes_never_panic(data in prop::collection::vec(any::<u8>(), 0..200)) {
        let mut reader = reader();
        run(&mut reader, &[OPEN.as_bytes(), &data]);
        run(&mut super::reader(), &[&data]);
    }
}
