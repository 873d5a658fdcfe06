//! xmpp-client on an open stream against a server that lies, floods or falls silent: each lie is
//! ignored or ends the stream, as its row says, and none is acted on.

use std::sync::Arc;
use std::time::Duration;
use tokio::sync::Notify;
use xmpp_client::{
    Builder, CloseReason, Event, Events, IqError, Jid, Kind, Limits, NotAckedReason, Reconnect,
    Stanza, StanzaCondition, Ty, XmppClient,
};
use xmpp_stream::error::StreamCondition;
use xmpp_stream::limits::XmlLimits;
use xmpp_stream::ns;
use xmpp_stream::xml::Element;
use xmpp_testkit::fake::attr;
use xmpp_testkit::{FakeServer, FakeStream};

const JID: &str = "ann@a.test/x";
const SM: &str = "xmlns='urn:xmpp:sm:3'";

/// A client without a second try, and its server.
async fn bound(change: impl FnOnce(Builder) -> Builder) -> (XmppClient, Events, FakeStream) {
    let server = FakeServer::new("a.test").await;
    let builder = change(server.builder(JID).reconnect(Reconnect::never()));
    let (client, stream) = tokio::join!(builder.connect(), server.bound(JID));
    opened(client.expect("a client"), stream).await
}

/// The same with stream management.
async fn managed(change: impl FnOnce(Builder) -> Builder) -> (XmppClient, Events, FakeStream) {
    let server = FakeServer::new("a.test").await;
    let builder = change(server.builder(JID).reconnect(Reconnect::never()));
    let (client, stream) = tokio::join!(builder.connect(), server.managed(JID, "one"));
    opened(client.expect("a client"), stream).await
}

async fn opened(client: XmppClient, stream: FakeStream) -> (XmppClient, Events, FakeStream) {
    let mut events = client.events();
    assert!(matches!(
        events.next().await,
        Some(Event::Connected { resumed: false, .. })
    ));
    (client, events, stream)
}

fn message(id: &str) -> Stanza {
    let message = Stanza::chat("ben@b.test", "hi").expect("an address");
    message.with_id(id)
}

async fn end(events: &mut Events) -> CloseReason {
    loop {
        match events.next().await {
            Some(Event::Disconnected { reason }) => return reason,
            Some(_) => {}
            None => panic!("no reason"),
        }
    }
}

async fn condition(events: &mut Events) -> StreamCondition {
    match end(events).await {
        CloseReason::Ours(error) => error.condition,
        other => panic!("{other:?}"),
    }
}

#[tokio::test]
async fn ck_09_answers_of_others_and_of_the_wrong_type_are_not_taken() {
    let (client, mut events, mut stream) = bound(|builder| builder).await;
    let ping = Stanza::new(Kind::Iq, Ty::Get)
        .with_to(Jid::parse("ben@b.test/y").expect("a JID"))
        .with_child(&Element::new(ns::PING, "ping"));
    let asking = tokio::spawn({
        let client = client.clone();
        async move { client.send_iq(ping).await }
    });
    let id = attr(&stream.expect("</iq>").await, "id");
    let forged = "<forged xmlns='urn:x'/>";
    let lies = [
        format!("<iq type='result' id='{id}' from='eve@b.test/y'>{forged}</iq>"),
        format!("<iq type='result' id='{id}' from='ben@b.test'>{forged}</iq>"),
        format!("<iq type='result' id='{id}' from='ben@b.test/Y'>{forged}</iq>"),
        format!("<iq type='result' id='{id}' from='b.test'>{forged}</iq>"),
        format!("<iq type='result' id='{id}' from='ann@a.test'>{forged}</iq>"),
        format!("<iq type='result' id='{id}'>{forged}</iq>"),
        format!("<iq type='result' id='{id}x' from='ben@b.test/y'>{forged}</iq>"),
        format!("<iq type='get' id='{id}' from='ben@b.test/y'>{forged}</iq>"),
        format!("<iq type='set' id='{id}' from='ben@b.test/y'>{forged}</iq>"),
        format!("<message type='error' id='{id}' from='ben@b.test/y'>{forged}</message>"),
        format!("<presence type='error' id='{id}' from='ben@b.test/y'>{forged}</presence>"),
    ];
    for lie in &lies {
        stream.say(lie).await;
    }
    // They are shown, as all that comes is.
    for _ in &lies {
        assert!(matches!(events.next().await, Some(Event::Stanza(_))));
    }
    stream
        .say(&format!(
            "<iq type='result' id='{id}' from='ben@b.test/y'/>"
        ))
        .await;
    let answer = asking.await.expect("a task").expect("an answer");
    assert!(answer.first_element().is_none());
}

#[tokio::test]
async fn ck_09_the_own_account_answers_in_any_of_its_names() {
    let (client, _events, mut stream) = bound(|builder| builder).await;
    for (to, from) in [
        (None, None),
        (None, Some("ann@a.test")),
        (None, Some("a.test")),
        (Some("ann@a.test"), None),
        (Some("a.test"), Some("a.test")),
    ] {
        let mut ask = Stanza::new(Kind::Iq, Ty::Get).with_child(&Element::new(ns::PING, "ping"));
        ask.head.to = to.map(|to| Jid::parse(to).expect("a JID"));
        let answering = async {
            let id = attr(&stream.expect("</iq>").await, "id");
            let from = from.map_or_else(String::new, |from| format!(" from='{from}'"));
            stream
                .say(&format!("<iq type='result' id='{id}'{from}/>"))
                .await;
        };
        let (answer, ()) = tokio::join!(client.send_iq(ask), answering);
        assert!(answer.is_ok(), "{to:?} {from:?}: {answer:?}");
    }
}

#[tokio::test]
async fn a_bounded_number_of_requests_waits() {
    let limits = Limits {
        requests_max: 2,
        ..Limits::default()
    };
    let (client, _events, mut stream) = bound(|builder| builder.limits(limits)).await;
    let ask = |client: &XmppClient| {
        let client = client.clone();
        let ping = Stanza::new(Kind::Iq, Ty::Get).with_child(&Element::new(ns::PING, "ping"));
        tokio::spawn(async move { client.send_iq(ping).await })
    };
    let waiting = [ask(&client), ask(&client)];
    let ids = [
        attr(&stream.expect("</iq>").await, "id"),
        attr(&stream.expect("</iq>").await, "id"),
    ];
    let refused = ask(&client).await.expect("a task");
    assert_eq!(refused.expect_err("too many"), IqError::TooMany);
    for id in ids {
        stream.say(&format!("<iq type='result' id='{id}'/>")).await;
    }
    for waiting in waiting {
        assert!(waiting.await.expect("a task").is_ok());
    }
}

#[tokio::test]
async fn li_01_every_request_is_answered_once_and_no_answer_is() {
    let (client, _events, mut stream) = bound(|builder| builder).await;
    let ask = |ty: &str, id: &str, payload: &str| {
        format!("<iq type='{ty}' id='{id}' from='eve@b.test/z' to='{JID}'>{payload}</iq>")
    };
    let payload = "<q xmlns='urn:x:unknown'/>";
    stream.say(&ask("get", "1", payload)).await;
    stream.say(&ask("set", "2", payload)).await;
    stream.say(&ask("result", "3", payload)).await;
    stream
        .say(&ask("error", "4", "<error type='cancel'/>"))
        .await;
    stream.say(&ask("get", "5", "")).await;
    stream.say(&ask("set", "6", &payload.repeat(2))).await;
    let said = stream.barrier().await;
    let answers: Vec<&str> = said.split_inclusive("</iq>").collect();
    let expected = [
        ("1", "service-unavailable"),
        ("2", "service-unavailable"),
        ("5", "bad-request"),
        ("6", "bad-request"),
    ];
    assert_eq!(answers.len(), expected.len(), "{said}");
    for (answer, (id, condition)) in answers.iter().zip(expected) {
        assert_eq!(
            (attr(answer, "id").as_str(), attr(answer, "to").as_str()),
            (id, "eve@b.test/z")
        );
        assert!(answer.contains(condition), "{answer}");
        assert!(
            !answer.contains("urn:x:unknown"),
            "nothing is given back: {answer}"
        );
    }
    drop(client);
}

#[tokio::test]
async fn li_01_handlers_answer_in_order_and_a_panic_is_an_answer_too() {
    let (client, mut events, mut stream) = bound(|builder| {
        builder.handle_iq("urn:x:early", |request: Stanza| async move {
            let element = request.first_element().expect("a payload");
            Ok(Some(element))
        })
    })
    .await;
    let handler = client.handle_iq("urn:x:late", |request: Stanza| async move {
        match request.head.id.as_deref() {
            Some("3") => panic!("on purpose"),
            Some("4") => Err(StanzaCondition::Forbidden.into()),
            _ => Ok(None),
        }
    });
    let ask = |id: u32, ns: &str| {
        format!("<iq type='set' id='{id}' from='ben@b.test/y'><q xmlns='{ns}' n='{id}'/></iq>")
    };
    for (id, namespace) in [
        (1, "urn:x:early"),
        (2, "urn:x:late"),
        (3, "urn:x:late"),
        (4, "urn:x:late"),
        (5, "urn:x:late"),
    ] {
        stream.say(&ask(id, namespace)).await;
        let answer = match id {
            2 | 5 => stream.expect("/>").await,
            _ => stream.expect("</iq>").await,
        };
        assert_eq!(attr(&answer, "id"), id.to_string());
        let word = match id {
            1 => "n='1'",
            3 => "internal-server-error",
            4 => "forbidden",
            _ => "type='result'",
        };
        assert!(answer.contains(word), "{answer}");
    }
    handler.remove();
    stream.say(&ask(6, "urn:x:late")).await;
    assert!(stream.expect("</iq>").await.contains("service-unavailable"));
    let mut panics = 0;
    for _ in 0..7 {
        match events.next().await {
            Some(Event::CallbackPanicked) => panics += 1,
            Some(Event::Stanza(_)) => {}
            other => panic!("{other:?}"),
        }
    }
    assert_eq!(panics, 1);
}

#[tokio::test]
async fn requests_that_a_handler_does_not_get_to_are_refused() {
    let limits = Limits {
        handler_queue_max: 2,
        ..Limits::default()
    };
    let (client, _events, mut stream) = bound(|builder| builder.limits(limits)).await;
    client.handle_iq("urn:x:slow", |_| std::future::pending());
    for id in 1..=4 {
        stream
            .say(&format!(
                "<iq type='get' id='{id}' from='eve@b.test/z'><q xmlns='urn:x:slow'/></iq>"
            ))
            .await;
        // So that the first is with the handler before the others come.
        if id == 1 {
            stream.barrier().await;
        }
    }
    let said = stream.barrier().await;
    assert_eq!(attr(&said, "id"), "4");
    assert!(said.contains("resource-constraint"), "{said}");
    // The stream is not held up.
    client
        .send_stanza(message("1"))
        .await
        .expect("an open stream");
}

#[tokio::test]
async fn oversized_stanzas_and_floods_end_the_stream() {
    let limits = Limits {
        xml: XmlLimits {
            stanza_bytes_max: 100_000,
            ..XmlLimits::client()
        },
        ..Limits::default()
    };
    let long = "x".repeat(50_000);
    let deep = "<a xmlns='urn:x'>".repeat(1000);
    let lies: [(&str, &str, StreamCondition); 5] = [
        ("<message><body>", &long, StreamCondition::PolicyViolation),
        (
            "<iq type='result' id='",
            &long,
            StreamCondition::PolicyViolation,
        ),
        ("<message>", &deep, StreamCondition::PolicyViolation),
        ("", "garbage ", StreamCondition::BadFormat),
        (
            "",
            "<unknown xmlns='urn:x'/>",
            StreamCondition::UnsupportedStanzaType,
        ),
    ];
    for (begin, more, expected) in lies {
        let (_client, mut events, mut stream) = bound(|builder| builder.limits(limits)).await;
        let flood = async {
            stream.say(begin).await;
            while stream.try_say(more).await {}
        };
        let (found, ()) = tokio::join!(condition(&mut events), flood);
        assert_eq!(found, expected, "{begin:?}");
        assert!(events.next().await.is_none());
    }
}

#[tokio::test]
async fn ss_06_an_acknowledgement_of_more_than_was_sent_ends_the_stream() {
    let (client, mut events, mut stream) = managed(|builder| builder).await;
    client
        .send_stanza(message("1"))
        .await
        .expect("an open stream");
    stream.expect("</message>").await;
    stream.ack(2).await;
    match end(&mut events).await {
        CloseReason::Ours(error) => {
            assert_eq!(error.condition, StreamCondition::UndefinedCondition);
            let app = error.app.expect("an application condition");
            assert!(app.is(ns::SM, "handled-count-too-high"));
            assert_eq!(
                (app.attr("h"), app.attr("send-count")),
                (Some("2"), Some("1"))
            );
        }
        other => panic!("{other:?}"),
    }
}

#[tokio::test]
async fn stream_management_at_the_wrong_time_ends_the_stream() {
    for lie in [
        format!("<resumed {SM} previd='one' h='0'/>"),
        format!("<enabled {SM} id='two' resume='true'/>"),
        format!("<failed {SM}/>"),
        format!("<enable {SM}/>"),
        format!("<a {SM}/>"),
    ] {
        let (_client, mut events, mut stream) = managed(|builder| builder).await;
        stream.say(&lie).await;
        let found = condition(&mut events).await;
        let expected = match lie.starts_with("<a ") {
            true => StreamCondition::BadFormat,
            false => StreamCondition::UnsupportedStanzaType,
        };
        assert_eq!(found, expected, "{lie}");
    }
    let (_client, mut events, mut stream) = bound(|builder| builder).await;
    stream.say(&format!("<r {SM}/>")).await;
    let found = condition(&mut events).await;
    assert_eq!(found, StreamCondition::UnsupportedStanzaType);
}

#[tokio::test]
async fn ss_03_send_acked_waits_for_the_server() {
    let (client, _events, mut stream) = managed(|builder| builder).await;
    let sending = tokio::spawn({
        let client = client.clone();
        async move { client.send_acked(message("1")).await }
    });
    stream.expect("</message>").await;
    assert_eq!(stream.expect("/>").await, format!("<r {SM}/>"));
    stream.ack(0).await;
    stream.barrier().await;
    assert!(!sending.is_finished());
    stream.ack(1).await;
    sending.await.expect("a task").expect("acknowledged");
}

#[tokio::test]
async fn send_acked_hands_the_stanza_back() {
    let (client, _events, mut stream) = managed(|builder| builder).await;
    let sending = tokio::spawn({
        let client = client.clone();
        async move { client.send_acked(message("mine")).await }
    });
    stream.expect("</message>").await;
    drop(stream);
    let lost = sending.await.expect("a task").expect_err("nobody knows");
    assert!(matches!(
        lost.reason,
        NotAckedReason::Closed(CloseReason::Eof)
    ));
    assert_eq!(lost.stanza.head.id.as_deref(), Some("mine"));

    let (client, _events, _stream) = bound(|builder| builder).await;
    let lost = client.send_acked(message("mine")).await;
    let lost = lost.expect_err("the server counts nothing");
    assert!(matches!(lost.reason, NotAckedReason::NoStreamManagement));
}

#[tokio::test]
async fn what_was_written_and_not_acknowledged_is_told_at_the_end() {
    let (client, mut events, mut stream) = managed(|builder| builder).await;
    for id in ["1", "2"] {
        client
            .send_stanza(message(id))
            .await
            .expect("an open stream");
    }
    stream.expect("</message>").await;
    stream.ack(1).await;
    stream.barrier().await;
    drop(stream);
    let mut unsent = Vec::new();
    while let Some(event) = events.next().await {
        if let Event::NotSent(not_acked) = event {
            unsent.push(not_acked.stanza.head.id.expect("an id"));
        }
    }
    assert_eq!(
        unsent,
        ["2".into()],
        "an answer, such as the barrier's, is nobody's loss"
    );
}

#[tokio::test]
async fn co_12_a_dead_link_is_found_after_something_was_sent() {
    let soon = Duration::from_millis(200);
    let (client, mut events, mut stream) = managed(|builder| builder.answer_max(soon)).await;
    client
        .send_stanza(message("1"))
        .await
        .expect("an open stream");
    stream.expect(&format!("<r {SM}/>")).await;
    assert_eq!(
        condition(&mut events).await,
        StreamCondition::ConnectionTimeout
    );

    let (client, mut events, mut stream) = bound(|builder| builder.answer_max(soon)).await;
    client
        .send_stanza(message("1"))
        .await
        .expect("an open stream");
    let ping = stream.expect("</iq>").await;
    assert!(ping.contains(ns::PING), "{ping}");
    let answer = format!(
        "<iq type='result' id='{}' from='a.test'/>",
        attr(&ping, "id")
    );
    stream.say(&answer).await;
    client
        .send_stanza(message("2"))
        .await
        .expect("an open stream");
    stream.expect(ns::PING).await;
    assert_eq!(
        condition(&mut events).await,
        StreamCondition::ConnectionTimeout
    );
}

#[tokio::test]
async fn co_12_an_idle_link_is_checked() {
    let soon = Duration::from_millis(50);
    let idle = |builder: Builder| builder.idle_max(soon).answer_max(2 * soon);
    let (_client, mut events, mut stream) = managed(idle).await;
    stream.expect(&format!("<r {SM}/>")).await;
    stream.ack(0).await;
    stream.expect(&format!("<r {SM}/>")).await;
    assert_eq!(
        condition(&mut events).await,
        StreamCondition::ConnectionTimeout
    );
}

#[tokio::test]
async fn co_13_the_end_is_in_order() {
    let (client, mut events, mut stream) = managed(|builder| builder).await;
    stream.say("<message from='ben@b.test'/>").await;
    assert!(matches!(events.next().await, Some(Event::Stanza(_))));
    client
        .send_stanza(message("1"))
        .await
        .expect("an open stream");
    let closing = async {
        stream.expect("</message>").await;
        let last = stream.expect("</stream:stream>").await;
        assert_eq!(last, format!("<r {SM}/><a {SM} h='1'/></stream:stream>"));
        stream.ack(1).await;
        stream.say("</stream:stream>").await;
        assert_eq!(stream.until_closed().await, "");
    };
    let (closed, ()) = tokio::join!(client.disconnect(), closing);
    closed.expect("an end in order");
    assert!(matches!(
        events.next().await,
        Some(Event::Disconnected {
            reason: CloseReason::Clean
        })
    ));
    assert!(events.next().await.is_none());
}

#[tokio::test]
async fn co_13_a_server_that_does_not_close_is_not_waited_for() {
    let limits = Limits {
        close_max: Duration::from_millis(50),
        ..Limits::default()
    };
    let (client, _events, mut stream) = bound(|builder| builder.limits(limits)).await;
    let closed = client.disconnect().await.expect_err("silence");
    assert!(
        matches!(closed.reason, CloseReason::CloseTimeout),
        "{closed}"
    );
    stream.expect("</stream:stream>").await;
}

#[tokio::test]
async fn a_server_that_acknowledges_nothing_is_given_up() {
    let limits = Limits {
        unacked_max: 10,
        ..Limits::default()
    };
    let (client, mut events, mut stream) = managed(|builder| {
        builder
            .limits(limits)
            .answer_max(Duration::from_millis(300))
    })
    .await;
    let sending = tokio::spawn({
        let client = client.clone();
        async move {
            let mut sent = 0;
            while client.send_stanza(message("1")).await.is_ok() {
                sent += 1;
            }
            sent
        }
    });
    // It lives, and that is all.
    while stream.try_say("<message from='ben@b.test'/>").await {
        if let Some(Event::Disconnected { reason }) = events.next().await {
            assert!(matches!(reason, CloseReason::Ours(_)), "{reason:?}");
            break;
        }
    }
    assert_eq!(sending.await.expect("a task"), 10);
}

#[tokio::test]
async fn answers_to_a_server_that_acknowledges_nothing_are_bounded() {
    let limits = Limits {
        unacked_max: 10,
        ..Limits::default()
    };
    let (_client, mut events, mut stream) = managed(|builder| {
        builder
            .limits(limits)
            .answer_max(Duration::from_millis(300))
    })
    .await;
    let flood = async {
        let ask = "<iq type='get' id='1' from='eve@b.test/z'><q xmlns='urn:x'/></iq>";
        while stream.try_say(ask).await {}
    };
    let (found, ()) = tokio::join!(condition(&mut events), flood);
    assert_eq!(found, StreamCondition::ConnectionTimeout);
    assert_eq!(stream.until_closed().await.matches("<iq ").count(), 20);
}

#[tokio::test]
async fn strangers_who_ask_faster_than_the_server_acknowledges_do_not_end_the_stream() {
    let limits = Limits {
        unacked_max: 10,
        ..Limits::default()
    };
    let (_client, _events, mut stream) = managed(|builder| builder.limits(limits)).await;
    let ask = "<iq type='get' id='1' from='eve@b.test/z'><q xmlns='urn:x'/></iq>";
    stream.say(&ask.repeat(100)).await;
    for _ in 0..20 {
        stream.expect("</iq>").await;
    }
    stream.ack(20).await;
    let said = stream.barrier().await;
    assert!(!said.contains("<iq "), "{said}");
}

#[tokio::test]
async fn time_outs_that_never_end_are_no_fault() {
    let (client, _events, mut stream) = managed(|builder| {
        let limits = Limits {
            stall_max: Duration::MAX,
            close_max: Duration::MAX,
            ..Limits::default()
        };
        let builder = builder.connect_max(Duration::MAX);
        let builder = builder.negotiation_max(Duration::MAX);
        let builder = builder.dial_max(Duration::MAX).lookup_max(Duration::MAX);
        let builder = builder.answer_max(Duration::MAX).idle_max(Duration::MAX);
        builder.iq_max(Duration::MAX).limits(limits)
    })
    .await;
    client.send_stanza(message("1")).await.expect("written");
    stream.expect("</message>").await;
    let ended = tokio::spawn(async move { client.disconnect().await });
    stream.expect("</stream:stream>").await;
    stream.say("</stream:stream>").await;
    drop(stream);
    ended.await.expect("a task").expect("in order");
}

#[tokio::test]
async fn the_end_may_be_wanted_by_many_and_from_inside() {
    let (client, mut events, mut stream) = bound(|builder| builder).await;
    let weak = client.downgrade();
    client.handle_iq("urn:x:end", move |_| {
        let client = weak.upgrade();
        async move {
            let _ = client.expect("a client").disconnect().await;
            Ok(None)
        }
    });
    let mut held = Some(client.clone());
    client.on_stanza(move |_| drop(held.take()));
    stream
        .say("<iq type='get' id='1' from='ben@b.test/y'><q xmlns='urn:x:end'/></iq>")
        .await;
    let ends: Vec<_> = (0..3)
        .map(|_| {
            let client = client.clone();
            tokio::spawn(async move { client.disconnect().await })
        })
        .collect();
    drop(client);
    stream.expect("</stream:stream>").await;
    stream.say("</stream:stream>").await;
    drop(stream);
    for ended in ends {
        ended.await.expect("a task").expect("in order");
    }
    assert!(matches!(end(&mut events).await, CloseReason::Clean));
}

#[tokio::test]
async fn ss_03_each_of_many_senders_learns_once_what_became_of_its_stanza() {
    let (client, _events, mut stream) = managed(|builder| builder).await;
    let senders: Vec<_> = (0..40)
        .map(|number| {
            let client = client.clone();
            tokio::spawn(async move { client.send_acked(message(&number.to_string())).await })
        })
        .collect();
    let mut taken = Vec::new();
    for _ in 0..20 {
        taken.push(attr(&stream.expect("</message>").await, "id"));
    }
    stream.ack(10).await;
    // The end comes in the middle of an element.
    stream.say("<message from='ben@b.test'><bo").await;
    drop(stream);
    let mut acked = Vec::new();
    for (number, sender) in senders.into_iter().enumerate() {
        match sender.await.expect("a task") {
            Ok(()) => acked.push(number.to_string()),
            Err(error) => assert_eq!(error.stanza.head.id.as_deref(), Some(&*number.to_string())),
        }
    }
    taken.truncate(10);
    taken.sort();
    acked.sort();
    assert_eq!(acked, taken);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_a_replaced_handler_holds_may_use_the_client_when_it_is_dropped() {
    struct Held(XmppClient, Arc<Notify>);
    impl Drop for Held {
        fn drop(&mut self) {
            self.0.handle_iq("urn:x:next", |_| async { Ok(None) });
            self.1.notify_one();
        }
    }
    let (client, _events, mut stream) = bound(|builder| builder).await;
    let done = Arc::new(Notify::new());
    let hold = || Held(client.clone(), Arc::clone(&done));
    for is_replaced in [true, false] {
        let held = hold();
        let handler = client.handle_iq("urn:x:first", move |_| {
            let _held = &held;
            async { Ok(None) }
        });
        match is_replaced {
            true => {
                let client = client.clone();
                let replace = move || client.handle_iq("urn:x:first", |_| async { Ok(None) });
                drop(tokio::task::spawn_blocking(replace));
            }
            false => handler.remove(),
        }
        // The next request finds that one is removed.
        stream
            .say("<iq type='get' id='1' from='ben@b.test/y'><q xmlns='urn:x:other'/></iq>")
            .await;
        let dropped = tokio::time::timeout(Duration::from_secs(10), done.notified()).await;
        dropped.expect("nobody waits for a lock that is held");
    }
}
