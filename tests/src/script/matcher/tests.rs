//! Pairs that match and pairs that do not, one difference each.

use super::*;

fn tree(xml: &str) -> Tree {
    Tree::read_all(xml).expect("well-formed").remove(0)
}

#[track_caller]
fn check(expected: &str, got: &str, difference: Option<&str>) {
    let found = compare(&tree(expected), &tree(got)).err();
    assert_eq!(found.map(|found| found.what).as_deref(), difference);
}

#[test]
fn the_stream_namespace_is_matched_in_part() {
    check(
        "<presence/>",
        "<presence from='a'><show>away</show></presence>",
        None,
    );
    check(
        "<message><body/></message>",
        "<message><x/><body>hi</body></message>",
        None,
    );
    check(
        "<message><b/><a/></message>",
        "<message><a/><b/></message>",
        None,
    );
    check("<a><body> hi </body></a>", "<a><body>hi</body></a>", None);
    check("<a/>", "<b/>", Some("a: expected <a/>, got <b/>"));
    check(
        "<a b='1'/>",
        "<a b='2'/>",
        Some("a/@b: expected \"1\", got \"2\""),
    );
    check("<a b='1'/>", "<a/>", Some("a/@b: is missing"));
    check("<a><b/></a>", "<a/>", Some("a/b: is missing"));
    check(
        "<a><b>x</b></a>",
        "<a><b>y</b></a>",
        Some("a/b: expected text \"x\", got \"y\""),
    );
}

#[test]
fn each_expected_child_needs_one_of_its_own() {
    check("<a><b/><b/></a>", "<a><b/></a>", Some("a/b: is missing"));
    check("<a><b/><b c='1'/></a>", "<a><b c='1'/><b/></a>", None);
    check("<a><b/><b c='1'/></a>", "<a><b/><b c='1'/></a>", None);
    check(
        "<a><b c='{scansion:any}'/><b c='1'/></a>",
        "<a><b c='1'/><b c='2'/></a>",
        None,
    );
}

#[test]
fn other_namespaces_are_matched_as_a_whole() {
    check(
        "<iq><q xmlns='x'/></iq>",
        "<iq id='1'><q xmlns='x'/></iq>",
        None,
    );
    check(
        "<iq><q xmlns='x'/></iq>",
        "<iq><q xmlns='x' b='1'/></iq>",
        Some("iq/q/@b: was not expected"),
    );
    check(
        "<iq><q xmlns='x'/></iq>",
        "<iq><q xmlns='x'><i/></q></iq>",
        Some("iq/q/i: was not expected"),
    );
    check(
        "<q xmlns='x'><a/><b/></q>",
        "<q xmlns='x'><b/><a/></q>",
        Some("q/a: expected <a/>, got <b/>"),
    );
    check("<q xmlns='x'> <a/>\n</q>", "<q xmlns='x'><a/></q>", None);
    check(
        "<q xmlns='x'>a</q>",
        "<q xmlns='x'> a</q>",
        Some("q: expected text \"a\", got \" a\""),
    );
    check(
        "<q xmlns='x'/>",
        "<q xmlns='y'/>",
        Some("q: expected namespace \"x\", got \"y\""),
    );
}

#[test]
fn strictness_can_be_chosen_and_is_inherited() {
    check(
        "<q xmlns='x' scansion:strict='false'/>",
        "<q xmlns='x' b='1'><i/></q>",
        None,
    );
    check(
        "<q xmlns='x' scansion:strict='false'><i/></q>",
        "<q xmlns='x'><i a='1'><j/></i></q>",
        None,
    );
    check(
        "<a scansion:strict='true'/>",
        "<a b='1'/>",
        Some("a/@b: was not expected"),
    );
    check(
        "<q xmlns='x' scansion:strict='true'><v scansion:strict='false'/></q>",
        "<q xmlns='x'><v>1.0</v></q>",
        None,
    );
}

#[test]
fn values_are_placeholders_and_captures() {
    check("<a b='{scansion:any}'/>", "<a b='1'/>", None);
    check("<a b='{scansion:any}'/>", "<a/>", Some("a/@b: is missing"));
    check("<a b='x-{scansion:any}-z'/>", "<a b='x-y-z'/>", None);
    check(
        "<a b='{scansion:other}'/>",
        "<a b='{scansion:other}'/>",
        None,
    );
    let captured = |expected: &str, got: &str| {
        let captures = compare(&tree(expected), &tree(got)).expect("a match");
        captures
            .into_iter()
            .map(|(name, value)| format!("{name}={value}"))
            .collect::<Vec<_>>()
    };
    assert_eq!(
        captured("<a b='{scansion:capture:n}'/>", "<a b='1'/>"),
        ["n=1"]
    );
    assert_eq!(captured("<a>{scansion:capture:n}</a>", "<a>t</a>"), ["n=t"]);
    assert_eq!(
        captured(
            "<a b='{scansion:capture:l}@{scansion:capture:d}/{scansion:any}'/>",
            "<a b='u@h/r'/>"
        ),
        ["d=h", "l=u"]
    );
    // only the child that is the one gives its value
    assert_eq!(
        captured(
            "<a><b c='1' d='{scansion:capture:n}'/></a>",
            "<a><b d='x'/><b c='1' d='y'/></a>"
        ),
        ["n=y"]
    );
}

#[test]
fn the_nearest_has_the_highest_score() {
    let expected = tree("<message type='chat'><body>hi</body></message>");
    let near = score(
        &expected,
        &tree("<message type='chat'><body>ho</body></message>"),
    );
    assert!(
        near > score(
            &expected,
            &tree("<message type='error'><body>hi</body></message>")
        )
    );
    assert!(near > score(&expected, &tree("<presence type='chat'/>")));
    assert!(near < score(&expected, &expected));
}

#[test]
fn what_a_value_encodes_is_compared() {
    let encoded = "<a xmlns='b'>cj1hYmMseD0x</a>"; // r=abc,x=1
    check("<a xmlns='b'>{scansion:base64}r=abc,x=1</a>", encoded, None);
    check(
        "<a xmlns='b'>{scansion:base64}r={scansion:any},x=1</a>",
        encoded,
        None,
    );
    for (expected, got) in [
        ("{scansion:base64}r=abd{scansion:any}", "cj1hYmMseD0x"),
        ("{scansion:base64}{scansion:any}", "no base64"),
    ] {
        let what = format!("a: expected text {expected:?}, got {got:?}");
        let (expected, got) = (
            format!("<a xmlns='b'>{expected}</a>"),
            format!("<a xmlns='b'>{got}</a>"),
        );
        check(&expected, &got, Some(&what));
    }
}
