//! RFC 6120 section 8 over the wire: attributes, kinds and errors, condition by condition.
//!
//! Rows of the checklist: section 1 (stanza-*) and 7 (conditions, se-*), beside rfc6120_stanzas.rs.

use xmpp_stream::ns;
use xmpp_testkit::TestLab;
use xmpp_testkit::tree::Tree;
use xmpp_testkit::wire::Wire;

async fn pair() -> (TestLab, Wire, Wire) {
    let lab = TestLab::new(["a.test"]).await.expect("a server");
    let mut ann = lab.wire("ann@a.test/balcony").await;
    let mut ben = lab.wire("ben@a.test/orchard").await;
    ann.presence("").await;
    ben.presence("").await;
    (lab, ann, ben)
}

fn error_of(got: &Tree) -> (Option<&str>, Vec<&str>) {
    let error = got.child("error");
    let conditions = error.into_iter().flat_map(Tree::children);
    let conditions = conditions.filter(|child| child.ns() == ns::STANZAS && child.name() != "text");
    (
        error.and_then(|error| error.attr("type")),
        conditions.map(Tree::name).collect(),
    )
}

/// What every stanza of ours has to be (rows stanza-error-child, se-03, stanza-iq-id).
#[track_caller]
fn assert_well_made(got: &Tree) {
    let is_error = got.attr("type") == Some("error");
    let errors = got
        .children()
        .filter(|child| child.name() == "error")
        .count();
    assert_eq!(errors, usize::from(is_error), "{got}");
    if is_error {
        let (ty, conditions) = error_of(got);
        let known = ["auth", "cancel", "continue", "modify", "wait"];
        assert!(ty.is_some_and(|ty| known.contains(&ty)), "{got}");
        assert_eq!(conditions.len(), 1, "{got}");
    }
    if got.name() == "iq" && matches!(got.attr("type"), Some("get" | "set")) {
        assert!(got.attr("id").is_some_and(|id| !id.is_empty()), "{got}");
        assert_eq!(got.children().count(), 1, "stanza-iq-child: {got}");
    }
}

#[tokio::test]
async fn c6120_stanza_kind_message_presence_and_iq_reach_their_addressee() {
    let (_lab, mut ann, mut ben) = pair().await;
    for (sent, name) in [
        (
            "<message to='ben@a.test/orchard' id='1'><body>b</body></message>",
            "message",
        ),
        ("<presence to='ben@a.test/orchard' id='1'/>", "presence"),
        (
            "<iq type='get' to='ben@a.test/orchard' id='1'><q xmlns='urn:test:q'/></iq>",
            "iq",
        ),
    ] {
        ann.send(sent).await;
        let got = ben.next().await;
        assert_eq!((got.name(), got.attr("id")), (name, Some("1")), "{got}");
        assert_eq!(
            got.attr("from"),
            Some("ann@a.test/balcony"),
            "stanza-attribute-from: {got}"
        );
    }
}

#[tokio::test]
async fn c6120_stanza_kind_presence_and_stanza_kind_iq_work_for_contact_and_server() {
    let (_lab, mut ann, mut ben) = pair().await;
    ann.befriend(&mut ben).await;
    ann.send("<presence id='p'><show>away</show></presence>")
        .await;
    let got = ben.next().await;
    assert_eq!(
        (got.attr("from"), got.attr("id")),
        (Some("ann@a.test/balcony"), Some("p")),
        "{got}"
    );
    ben.barrier().await;
}

#[tokio::test]
async fn c6120_stanza_attribute_id_is_kept_on_the_way_and_in_answers() {
    let (_lab, mut ann, mut ben) = pair().await;
    for id in ["1", "a b", "&lt;&amp;&apos;", "\u{1F469}"] {
        ann.send(format!(
            "<message to='ben@a.test/orchard' id='{id}'><body>b</body></message>"
        ))
        .await;
        let want = Tree::parse(&format!("<a id='{id}'/>"));
        assert_eq!(ben.next().await.attr("id"), want.attr("id"));
        for sent in [
            format!("<message to='nobody@a.test' id='{id}'><body>b</body></message>"),
            format!("<iq type='get' to='nobody@a.test' id='{id}'><q xmlns='urn:q'/></iq>"),
            format!(
                "<iq type='get' to='a.test' id='{id}'><ping xmlns='{}'/></iq>",
                ns::PING
            ),
            format!("<presence type='nonsense' id='{id}'/>"),
        ] {
            ann.send(sent).await;
            assert_eq!(ann.next().await.attr("id"), want.attr("id"));
        }
    }
}

#[tokio::test]
async fn c6120_se_04_no_id_in_an_error_where_there_was_none() {
    let (_lab, mut ann, _ben) = pair().await;
    for sent in [
        "<message to='nobody@a.test'><body>b</body></message>",
        "<message to='nobody@a.test' id=''><body>b</body></message>",
        "<iq type='get' to='a.test'><q xmlns='urn:q'/></iq>",
    ] {
        ann.send(sent).await;
        let got = ann.next().await;
        assert_eq!(got.attr("type"), Some("error"), "{got}");
        assert!(got.attr("id").is_none_or(str::is_empty), "{got}");
    }
}

#[tokio::test]
async fn c6120_stanza_attribute_type_is_kept() {
    let (_lab, mut ann, mut ben) = pair().await;
    for ty in ["chat", "groupchat", "headline", "normal"] {
        ann.send(format!(
            "<message to='ben@a.test/orchard' type='{ty}'><body>b</body></message>"
        ))
        .await;
        let got = ben.next().await;
        assert_eq!(got.attr("type").unwrap_or("normal"), ty, "{got}");
    }
}

#[tokio::test]
async fn c6120_stanza_iq_type_and_stanza_iq_id_are_required() {
    let (_lab, mut ann, mut ben) = pair().await;
    let payload = "<q xmlns='urn:q'/>";
    for attrs in [
        "id='x'",
        "id='x' type=''",
        "id='x' type='chat'",
        "type='get'",
        "type='set' ",
    ] {
        ann.send(format!(
            "<iq to='ben@a.test/orchard' {attrs}>{payload}</iq>"
        ))
        .await;
        let got = ann.next().await;
        assert_eq!(
            error_of(&got),
            (Some("modify"), vec!["bad-request"]),
            "{attrs}: {got}"
        );
        assert_eq!(
            got.attr("id"),
            attrs.starts_with("id").then_some("x"),
            "{got}"
        );
    }
    ben.barrier().await;
    for ty in ["get", "set", "result", "error"] {
        let payload = match ty {
            "error" => format!(
                "<error type='cancel'><gone xmlns='{}'/></error>",
                ns::STANZAS
            ),
            _ => payload.to_owned(),
        };
        ann.send(format!(
            "<iq to='ben@a.test/orchard' type='{ty}' id='{ty}'>{payload}</iq>"
        ))
        .await;
        assert_eq!(ben.next().await.attr("type"), Some(ty));
    }
}

#[tokio::test]
async fn c6120_stanza_error_is_delivered_whole() {
    let (_lab, mut ann, mut ben) = pair().await;
    let error = format!(
        "<error type='modify' by='x.test'><undefined-condition xmlns='{0}'/>\
         <text xmlns='{0}' xml:lang='en'>no</text><too-many xmlns='urn:app'/></error>",
        ns::STANZAS
    );
    for kind in ["message", "presence", "iq"] {
        ann.send(format!(
            "<{kind} to='ben@a.test/orchard' type='error' id='e'>{error}</{kind}>"
        ))
        .await;
        let got = ben.next().await;
        assert_eq!(
            (got.name(), got.attr("type")),
            (kind, Some("error")),
            "{got}"
        );
        assert_eq!(got.child("error"), Some(&Tree::parse(&error)), "{got}");
    }
    // And nobody answered.
    ann.barrier().await;
}

#[tokio::test]
async fn c6120_7_conditions_and_their_types() {
    let (_lab, mut ann, _ben) = pair().await;
    let roster = |item: &str| format!("<query xmlns='{}'>{item}</query>", ns::ROSTER);
    let iq = |ty: &str, to: &str, payload: &str| {
        format!("<iq type='{ty}' id='e' to='{to}'>{payload}</iq>")
    };
    let own = "ann@a.test";
    let cases = [
        (iq("get", "a.test", ""), "modify", "bad-request"),
        (iq("set", own, &roster("")), "modify", "bad-request"),
        (
            iq("set", "ben@a.test", &roster("<item jid='c@a.test'/>")),
            "auth",
            "forbidden",
        ),
        (
            iq(
                "set",
                own,
                &roster("<item jid='c@a.test' subscription='remove'/>"),
            ),
            "cancel",
            "item-not-found",
        ),
        (
            iq(
                "get",
                "a.test",
                &format!("<query xmlns='{}' node='x'/>", ns::DISCO_INFO),
            ),
            "cancel",
            "item-not-found",
        ),
        (
            "<message id='e' to='a b@@c'><body>b</body></message>".into(),
            "modify",
            "jid-malformed",
        ),
        (
            iq("set", own, &roster("<item jid='c@a.test'><group/></item>")),
            "modify",
            "not-acceptable",
        ),
        (
            iq("set", own, &roster("<item jid='ann@a.test'/>")),
            "cancel",
            "not-allowed",
        ),
        (
            format!("<iq type='set' id='e'><bind xmlns='{}'/></iq>", ns::BIND),
            "cancel",
            "not-allowed",
        ),
        (
            "<message id='e' to='x@elsewhere.test'><body>b</body></message>".into(),
            "cancel",
            "remote-server-not-found",
        ),
        (
            iq("get", "nobody@a.test", "<q xmlns='urn:q'/>"),
            "cancel",
            "service-unavailable",
        ),
        (
            iq("get", "a.test", "<q xmlns='urn:q'/>"),
            "cancel",
            "service-unavailable",
        ),
    ];
    for (sent, ty, condition) in cases {
        ann.send(&sent).await;
        let got = ann.next().await;
        assert_eq!(error_of(&got), (Some(ty), vec![condition]), "{sent}\n{got}");
        assert_eq!(got.attr("id"), Some("e"), "{got}");
        assert_well_made(&got);
    }
}

#[tokio::test]
async fn c6120_se_01_every_kind_of_problem_is_answered() {
    let (_lab, mut ann, mut ben) = pair().await;
    for (sent, answers) in [
        (
            "<iq type='get' id='e' to='a b@@c'><q xmlns='urn:q'/></iq>",
            1,
        ),
        (
            "<iq type='get' id='e' to='b.test'><q xmlns='urn:q'/></iq>",
            1,
        ),
        (
            "<iq type='get' id='e' to='ben@a.test'><q xmlns='urn:q'/></iq>",
            1,
        ),
        (
            "<iq type='get' id='e' to='ben@a.test/gone'><q xmlns='urn:q'/></iq>",
            1,
        ),
        (
            "<iq type='get' id='e' to='nobody@a.test/gone'><q xmlns='urn:q'/></iq>",
            1,
        ),
        ("<message id='e' to='a b@@c'><body>b</body></message>", 1),
        (
            "<message id='e' to='nobody@a.test'><body>b</body></message>",
            1,
        ),
        ("<message id='e' to='b.test'><body>b</body></message>", 1),
        ("<presence id='e' to='a b@@c'/>", 1),
        ("<presence id='e' type='available'/>", 1),
        ("<presence id='e' to='b.test'/>", 1),
        (
            "<message id='e' type='headline' to='nobody@a.test'><body>b</body></message>",
            0,
        ),
        ("<presence id='e' to='nobody@a.test'/>", 0),
    ] {
        ann.send(sent).await;
        let seen = ann.barrier_seeing().await;
        assert_eq!(seen.len(), answers, "{sent}: {seen:?}");
        for got in seen {
            assert_eq!(
                (got.attr("type"), got.attr("id")),
                (Some("error"), Some("e")),
                "{sent}: {got}"
            );
        }
    }
    ben.barrier().await;
}

#[tokio::test]
async fn c6120_se_03_stanza_error_child_all_that_the_server_makes_is_well_made() {
    let (lab, mut ann, mut ben) = pair().await;
    let mut seen = Vec::new();
    for wire in [&mut ann, &mut ben] {
        wire.send(format!(
            "<iq type='get' id='r'><query xmlns='{}'/></iq>",
            ns::ROSTER
        ))
        .await;
        seen.extend(wire.barrier_seeing().await);
    }
    for sent in [
        "<presence type='subscribe' to='ben@a.test'/>".to_owned(),
        format!(
            "<iq type='set' id='s'><query xmlns='{}'><item jid='c@a.test'/></query></iq>",
            ns::ROSTER
        ),
        format!(
            "<iq type='get' id='d' to='a.test'><query xmlns='{}'/></iq>",
            ns::DISCO_INFO
        ),
        format!(
            "<iq type='get' id='v' to='a.test'><query xmlns='{}'/></iq>",
            ns::VERSION
        ),
        "<iq type='get' id='n' to='nobody@a.test'><vCard xmlns='vcard-temp'/></iq>".to_owned(),
        "<message to='nobody@a.test'><body>b</body></message>".to_owned(),
        "<presence type='probe' to='ben@a.test'/>".to_owned(),
        "<presence type='bad'/>".to_owned(),
    ] {
        ann.send(sent).await;
        seen.extend(ann.barrier_seeing().await);
    }
    ben.send(
        "<presence type='subscribed' to='ann@a.test'/><presence type='subscribe' to='ann@a.test'/>",
    )
    .await;
    for wire in [&mut ben, &mut ann] {
        seen.extend(wire.barrier_seeing().await);
    }
    lab.kick("ben@a.test/orchard").await;
    seen.push(ann.next().await);
    assert!(seen.len() >= 15, "{}", seen.len());
    for got in &seen {
        assert_well_made(got);
    }
}

#[tokio::test]
async fn c6120_se_05_errors_do_not_tell_a_stranger_who_is_there() {
    let (_lab, mut eve, mut ben) = pair().await;
    let mut answers = Vec::new();
    for to in [
        "ben@a.test",
        "ben@a.test/gone",
        "nobody@a.test",
        "nobody@a.test/gone",
    ] {
        eve.send(format!(
            "<iq type='get' id='i' to='{to}'><q xmlns='urn:q'/></iq>"
        ))
        .await;
        answers.push(
            eve.next()
                .await
                .to_string()
                .replace(&format!("'{to}'"), "TO"),
        );
    }
    assert!(
        answers.iter().all(|answer| *answer == answers[0]),
        "{answers:#?}"
    );
    ben.send("<presence type='unavailable'/>").await;
    ben.until("unavailable").await;
    answers.clear();
    // What was sent to the account itself waits there: that it exists can be told (DESIGN 11).
    for to in ["ben@a.test/gone", "nobody@a.test", "nobody@a.test/gone"] {
        eve.send(format!(
            "<message id='m' to='{to}'><body>b</body></message>"
        ))
        .await;
        answers.push(
            eve.next()
                .await
                .to_string()
                .replace(&format!("'{to}'"), "TO"),
        );
    }
    assert!(
        answers.iter().all(|answer| *answer == answers[0]),
        "{answers:#?}"
    );
}

#[tokio::test]
async fn c6121_presence_notype_and_unavailable() {
    let (_lab, mut ann, mut ben) = pair().await;
    ann.befriend(&mut ben).await;
    ann.send("<presence type='unavailable' id='u'/>").await;
    ann.barrier_among_others().await;
    let got = ben.next().await;
    assert_eq!(
        (got.attr("type"), got.attr("id")),
        (Some("unavailable"), Some("u")),
        "{got}"
    );
    ann.send("<presence type='available' id='x'/>").await;
    let got = ann.next().await;
    assert_eq!(
        error_of(&got),
        (Some("modify"), vec!["bad-request"]),
        "{got}"
    );
    ben.barrier().await;
    ann.send("<presence id='a'/>").await;
    let got = ben.next().await;
    assert_eq!(
        (got.attr("type"), got.attr("id")),
        (None, Some("a")),
        "{got}"
    );
}

#[tokio::test]
async fn c6121_presence_unavailable_ends_availability() {
    let (_lab, mut ann, mut ben) = pair().await;
    ben.send("<presence type='unavailable'/>").await;
    ben.barrier_among_others().await;
    ann.send("<message to='ben@a.test' type='chat' id='m'><body>b</body></message>")
        .await;
    ann.barrier().await;
    ben.barrier().await;
    ben.send("<presence/>").await;
    let seen = ben.barrier_seeing().await;
    let message = seen.iter().find(|tree| tree.name() == "message");
    assert_eq!(
        message.and_then(|tree| tree.attr("id")),
        Some("m"),
        "{seen:?}"
    );
}

#[tokio::test]
async fn c6121_presence_probe_brings_what_there_is_at_login() {
    let (lab, mut ann, mut ben) = pair().await;
    ann.befriend(&mut ben).await;
    ann.send("<presence><status>here</status></presence>").await;
    ben.next().await;
    let mut phone = lab.wire("ben@a.test/phone").await;
    phone.send("<presence/>").await;
    let seen = phone.barrier_seeing().await;
    let of_ann: Vec<_> = seen
        .iter()
        .filter(|tree| tree.attr("from") == Some("ann@a.test/balcony"))
        .collect();
    assert_eq!(of_ann.len(), 1, "{seen:?}");
    assert_eq!(
        of_ann[0].child("status").map(Tree::text).as_deref(),
        Some("here")
    );
}

#[tokio::test]
async fn c6121_roster_get_roster_set_roster_push() {
    let (_lab, mut ann, _ben) = pair().await;
    assert_eq!(ann.roster_get().await.children().count(), 0);
    let item = "<item jid='c@a.test' name='C'/>";
    ann.send(format!(
        "<iq type='set' id='s'><query xmlns='{}'>{item}</query></iq>",
        ns::ROSTER
    ))
    .await;
    let push = ann.next().await;
    assert_eq!(
        (push.name(), push.attr("type")),
        ("iq", Some("set")),
        "{push}"
    );
    ann.answer("s").await;
    let roster = ann.roster_get().await;
    assert_eq!(
        roster.child("item"),
        push.child("query").and_then(|query| query.child("item"))
    );
}

#[tokio::test]
async fn c6121_de_04_where_there_is_a_choice_the_sender_gets_an_error() {
    let (_lab, mut ann, mut ben) = pair().await;
    ann.befriend(&mut ben).await;
    for to in ["ben@a.test/gone", "nobody@a.test"] {
        ann.send(format!(
            "<message to='{to}' id='m'><body>b</body></message>"
        ))
        .await;
        let got = ann.next().await;
        assert_eq!(
            error_of(&got),
            (Some("cancel"), vec!["service-unavailable"]),
            "{to}: {got}"
        );
    }
    ann.send("<message to='nobody@a.test' type='headline' id='h'><body>b</body></message>")
        .await;
    ann.barrier().await;
}

#[tokio::test]
async fn ats_ja_09_no_slot_takes_what_is_no_address() {
    let (_lab, mut ann, mut ben) = pair().await;
    let long = format!("{}@a.test", "x".repeat(1024));
    for jid in [
        "@a.test",
        "ann@",
        "/r",
        "a b@a.test",
        "a&lt;b@a.test",
        long.as_str(),
    ] {
        for sent in [
            format!("<message id='j' to='{jid}'><body>b</body></message>"),
            format!("<presence id='j' to='{jid}'/>"),
            format!("<presence id='j' type='subscribe' to='{jid}'/>"),
            format!("<iq id='j' type='get' to='{jid}'><q xmlns='urn:q'/></iq>"),
        ] {
            ann.send(&sent).await;
            let got = ann.next().await;
            assert_eq!(
                error_of(&got),
                (Some("modify"), vec!["jid-malformed"]),
                "{sent}: {got}"
            );
        }
        let item = format!("<query xmlns='{}'><item jid='{jid}'/></query>", ns::ROSTER);
        ann.send(format!("<iq id='j' type='set'>{item}</iq>")).await;
        let got = ann.next().await;
        assert_eq!(got.attr("type"), Some("error"), "roster, {jid}: {got}");
        let conditions = error_of(&got).1;
        assert!(
            matches!(conditions[..], ["jid-malformed" | "bad-request"]),
            "{got}"
        );
    }
    // What can be mapped is mapped: case, width, the trailing dot.
    for jid in [
        "BEN@A.TEST/orchard",
        "ben@a.test./orchard",
        "\u{ff42}en@a.test/orchard",
    ] {
        ann.send(format!(
            "<message id='m' to='{jid}'><body>b</body></message>"
        ))
        .await;
        assert_eq!(ben.next().await.attr("id"), Some("m"), "{jid}");
    }
}
