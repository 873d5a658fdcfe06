//! Every limit of X2 and the growth rule X7: hit at its number, passed one below, and told before
//! the end of the element arrives. RFC 6120 section 13.12.

use super::*;

/// A message of exactly `len` bytes.
fn message_of(len: usize) -> String {
    let empty = "<message><body></body></message>".len();
    format!(
        "<message><body>{}</body></message>",
        "x".repeat(len - empty)
    )
}

#[track_caller]
fn check_limit(limits: XmlLimits, body: &str, want: Result<(), &'static str>) {
    let all = [OPEN, body].concat();
    let mut reader = Reader::new(limits, ns::CLIENT);
    let got = run(&mut reader, &[all.as_bytes()]).split_off(1);
    let pieces: Vec<&[u8]> = all.as_bytes().chunks(1000).collect();
    let again = run(&mut Reader::new(limits, ns::CLIENT), &pieces).split_off(1);
    assert_eq!(got, again, "same in pieces");
    match want {
        Ok(()) => assert!(
            got.iter().all(|frame| !frame.starts_with("error")),
            "{got:?}"
        ),
        Err(name) => assert_eq!(got, [format!("error {:?}", XmlError::Limit(name))]),
    }
}

#[test]
fn c6120_lm_03_stanza_size() {
    let small = XmlLimits {
        stanza_bytes_max: 10_000,
        ..XmlLimits::c2s()
    };
    check_limit(small, &message_of(10_000), Ok(()));
    check_limit(small, &message_of(10_001), Err("bytes"));
    for limits in [
        XmlLimits::before_auth(),
        XmlLimits::c2s(),
        XmlLimits::s2s(),
        XmlLimits::client(),
    ] {
        assert!(limits.stanza_bytes_max >= 10_000);
        check_limit(limits, &message_of(10_000), Ok(()));
    }
    for limits in [XmlLimits::before_auth(), XmlLimits::c2s()] {
        check_limit(limits, &message_of(limits.stanza_bytes_max), Ok(()));
        check_limit(
            limits,
            &message_of(limits.stanza_bytes_max + 1),
            Err("bytes"),
        );
    }
    // The count starts anew with each element, and whitespace between them is free.
    let many = format!("{0} {0}\n{0}", message_of(10_000));
    check_limit(small, &many, Ok(()));
}

#[test]
fn c6120_lm_03_trips_before_the_end() {
    let limits = XmlLimits::before_auth();
    let max = limits.stanza_bytes_max;
    let unfinished = format!("<message><body>{}", "x".repeat(max));
    check_limit(limits, &unfinished, Err("bytes"));
    check_limit(limits, &unfinished[..max], Ok(()));
    let nonza = format!("<auth xmlns='urn:x'>{}", "x".repeat(max));
    check_limit(limits, &nonza, Err("bytes"));
    // The header is bounded too.
    let header = format!("<stream:stream {}", "a='1' ".repeat(max));
    let got = run(&mut Reader::new(limits, ns::CLIENT), &[header.as_bytes()]);
    assert_eq!(got, [format!("error {:?}", XmlError::Limit("bytes"))]);
}

#[test]
fn depth_is_limited_at_once() {
    let limits = XmlLimits::c2s();
    let nested = |depth: usize| "<a xmlns='urn:x'>".repeat(depth - 1);
    let fits = format!("<message>{}{}</message>", nested(64), "</a>".repeat(63));
    check_limit(limits, &fits, Ok(()));
    check_limit(limits, &format!("<message>{}", nested(65)), Err("depth"));
    check_limit(limits, &"<a>".repeat(64), Ok(()));
    check_limit(limits, &"<a>".repeat(65), Err("depth"));
    // A million open elements cost no more than sixty-five.
    let mut reader = reader();
    let bomb = [OPEN, &"<a>".repeat(1_000_000)].concat();
    let mut data = bomb.as_bytes();
    let header = reader.next(&mut data).unwrap();
    assert!(matches!(header, Some(Frame::Header(_))));
    let before = data.len();
    assert_eq!(
        reader.next(&mut data).unwrap_err(),
        XmlError::Limit("depth")
    );
    assert_eq!(before - data.len(), 65 * 3);
}

#[test]
fn elements_are_limited() {
    let limits = XmlLimits::c2s();
    let with = |kids: usize| format!("<message>{}</message>", "<a/>".repeat(kids));
    check_limit(limits, &with(4095), Ok(()));
    check_limit(limits, &with(4096), Err("elements"));
    // Counted for each first-level element alone.
    check_limit(limits, &format!("{0}{0}", with(4095)), Ok(()));
}

#[test]
fn attributes_and_names_are_limited() {
    let limits = XmlLimits::c2s();
    let attrs = |n: usize| (0..n).map(|n| format!(" a{n}=''")).collect::<String>();
    check_limit(
        limits,
        &format!("<message><x{}/></message>", attrs(64)),
        Ok(()),
    );
    check_limit(
        limits,
        &format!("<message><x{}/></message>", attrs(65)),
        Err("attributes"),
    );
    let name = |n: usize| "n".repeat(n);
    check_limit(
        limits,
        &format!("<message><{}/></message>", name(128)),
        Ok(()),
    );
    check_limit(
        limits,
        &format!("<message><{}/></message>", name(129)),
        Err("name"),
    );
    check_limit(limits, &format!("<message {}=''/>", name(129)), Err("name"));
    check_limit(
        limits,
        &format!("<message><x xmlns='{}'/></message>", name(256)),
        Ok(()),
    );
    let long = format!("<message><x xmlns='{}'/></message>", name(257));
    check_limit(limits, &long, Err("namespace name"));
    check_limit(limits, &format!("<message id='{}'/>", name(16_384)), Ok(()));
    let long = format!("<message id='{}'/>", name(16_385));
    check_limit(limits, &long, Err("name or attribute value"));
    // A huge value trips before its quote arrives.
    let huge = format!("<message id='{}", name(100_000));
    check_limit(limits, &huge, Err("name or attribute value"));
}

#[test]
fn growth_refuses_the_stanza_alone() {
    let uri = "u".repeat(250);
    let kids = "<a:x/>".repeat(2000);
    check_growth(&format!("<message xmlns:a='{uri}' id='7'>{kids}</message>"));
    let attrs = "<x a:b=''/>".repeat(1000);
    check_growth(&format!(
        "<message xmlns:a='{uri}' id='7'>{attrs}</message>"
    ));
    // Escapes alone more than double a text: `"` may stand raw where `>` behind `]` may not.
    let brackets = "]<![CDATA[>]]>".repeat(2000);
    assert_eq!(
        frames_big(&format!("<message>{brackets}</message>")).len(),
        1
    );
    // Within the slack a little growth is fine.
    let few = "<a:x/>".repeat(10);
    check_limit(
        XmlLimits::c2s(),
        &format!("<message xmlns:a='{uri}'>{few}</message>"),
        Ok(()),
    );
}

fn frames_big(body: &str) -> Vec<String> {
    run(&mut reader(), &[OPEN.as_bytes(), body.as_bytes()]).split_off(1)
}

#[track_caller]
fn check_growth(body: &str) {
    let mut reader = reader();
    let got = run(
        &mut reader,
        &[OPEN.as_bytes(), body.as_bytes(), b"<presence/>"],
    )
    .split_off(1);
    let refused = format!("refused Message {PolicyViolation:?} Some(\"7\")");
    assert_eq!(got, [refused, "<presence/> []".to_owned()]);
    assert!(reader.assembler.written() <= growth_max(XmlLimits::c2s().stanza_bytes_max));
}

#[test]
fn oversize_between_servers_is_skipped() {
    let limits = XmlLimits {
        stanza_bytes_max: 10_000,
        skip_bytes_max: 30_000,
        ..XmlLimits::s2s()
    };
    let sent = |body: &str| {
        let all = [OPEN, body].concat();
        let pieces: Vec<&[u8]> = all.as_bytes().chunks(777).collect();
        let whole = run(&mut Reader::new(limits, ns::CLIENT), &[all.as_bytes()]);
        assert_eq!(run(&mut Reader::new(limits, ns::CLIENT), &pieces), whole);
        whole[1..].to_vec()
    };
    let refused = format!("refused Message {PolicyViolation:?} None");
    assert_eq!(
        sent(&(message_of(10_001) + "<presence/>")),
        [refused.as_str(), "<presence/> []"]
    );
    assert_eq!(
        sent(&(message_of(30_000) + "<presence/>")),
        [refused.as_str(), "<presence/> []"]
    );
    assert_eq!(
        sent(&message_of(30_001)),
        [format!("error {:?}", XmlError::Limit("bytes"))]
    );
    assert!(sent(&message_of(10_000))[0].starts_with("<message>"));
    // What is no stanza has nobody to answer.
    let nonza = format!("<db xmlns='urn:x'>{}</db>", "x".repeat(10_000));
    assert_eq!(
        sent(&nonza),
        [format!("error {:?}", XmlError::Limit("bytes"))]
    );
    let many = format!("<message>{}</message>", "<a/>".repeat(4096));
    assert_eq!(sent(&many), [refused]);
}

#[test]
fn entity_bombs_never_expand() {
    let bomb = "<!DOCTYPE l [<!ENTITY a 'aaaa'><!ENTITY b '&a;&a;&a;&a;'>]><l>&b;</l>";
    let got = run(&mut reader(), &[bomb.as_bytes()]);
    assert_eq!(got, [format!("error {:?}", XmlError::Restricted)]);
}

#[test]
fn long_text_is_read_in_pieces_and_joined() {
    let text = "a\u{E9}\u{1F389}&amp;".repeat(12_000);
    let want = "a\u{E9}\u{1F389}&".repeat(12_000);
    let stanza = Stanza::parse(&format!("<message><body>{text}</body></message>")).unwrap();
    assert_eq!(stanza.body(), Some(want));
}

#[test]
fn release_is_safe_at_every_byte() {
    let all = [
        OPEN,
        "<message to='a@d'><body>a&amp;\u{1F389}b</body></message><x xmlns='u'>t</x>",
    ];
    let all = all.concat();
    let want = run(&mut reader(), &[all.as_bytes()]);
    let mut reader = reader();
    let mut got = Vec::new();
    for byte in all.as_bytes().chunks(1) {
        got.extend(run(&mut reader, &[byte]));
        reader.release();
    }
    assert_eq!(got, want);
}
