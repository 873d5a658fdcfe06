//! xmpp-client against the server: the way in, what fails at which step, requests, callbacks, the end.

use std::time::Duration;
use tokio::sync::mpsc;
use xmpp_client::{
    Builder, CloseReason, ConnectError, Event, Failure, IqError, Jid, Kind, Stanza, Step, Ty,
    XmppClient,
};
use xmpp_stream::error::{SaslCondition, StanzaCondition};
use xmpp_stream::ns;
use xmpp_stream::xml::Element;
use xmpp_testkit::{TestLab, Wire};

async fn lab() -> TestLab {
    TestLab::new(["a.test"]).await.expect("a server")
}

async fn builder(lab: &TestLab, jid: &str) -> Builder {
    let password = lab.account(jid).await;
    let address = lab.place("a.test").address.to_string();
    XmppClient::builder(jid)
        .password(&password)
        .ca_pem(lab.ca_pem())
        .connect_to(&address)
}

fn ping(to: &str) -> Stanza {
    let iq = Stanza::new(Kind::Iq, Ty::Get).with_to(Jid::parse(to).expect("a JID"));
    iq.with_child(&Element::new(ns::PING, "ping"))
}

/// Sends a stanza that asks the wire for its place in the order: what comes back was answered by it.
async fn id_of_request(wire: &mut Wire) -> String {
    let request = wire.next().await;
    assert_eq!(request.name(), "iq", "{request}");
    request.attr("id").expect("an id").to_owned()
}

#[tokio::test]
async fn connects_by_starttls_and_by_direct_tls() {
    let lab = lab().await;
    let client = builder(&lab, "ann@a.test/one")
        .await
        .connect()
        .await
        .expect("STARTTLS");
    assert_eq!(client.jid().as_str(), "ann@a.test/one");
    let address = lab
        .place("a.test")
        .address_tls
        .expect("a listener")
        .to_string();
    let direct = builder(&lab, "ann@a.test/two")
        .await
        .connect_to(&address)
        .direct_tls();
    let direct = direct.connect().await.expect("direct TLS");
    assert_eq!(direct.jid().as_str(), "ann@a.test/two");
    let unnamed = builder(&lab, "ann@a.test")
        .await
        .connect()
        .await
        .expect("a resource of the server's");
    assert!(!unnamed.jid().resource_str().is_empty());
    for client in [client, direct, unnamed] {
        client.disconnect().await.expect("an end in order");
    }
}

#[tokio::test]
async fn errors_name_the_step_that_failed() {
    #[track_caller]
    fn check(result: Result<XmppClient, ConnectError>, step: Step) -> ConnectError {
        let error = result.expect_err("no connection");
        assert_eq!(error.step(), step, "{error}");
        error
    }
    let lab = lab().await;
    check(
        XmppClient::builder("@").password("x").connect().await,
        Step::Configuration,
    );
    check(
        XmppClient::builder("a.test")
            .password("x")
            .ca_pem(lab.ca_pem())
            .connect()
            .await,
        Step::Configuration,
    );
    check(
        XmppClient::builder("ann@a.test")
            .ca_pem(lab.ca_pem())
            .connect()
            .await,
        Step::Configuration,
    );
    check(
        builder(&lab, "ann@a.test")
            .await
            .ca_pem("nothing")
            .connect()
            .await,
        Step::Configuration,
    );
    check(
        builder(&lab, "ann@a.test")
            .await
            .ca_file("/no/such/file")
            .connect()
            .await,
        Step::Configuration,
    );
    check(
        builder(&lab, "ann@a.test")
            .await
            .connect_to("no.such.host.invalid:5222")
            .connect()
            .await,
        Step::Resolve,
    );

    let free =
        std::net::TcpListener::bind("127.0.0.1:0").and_then(|listener| listener.local_addr());
    let nobody = free.expect("a free port").to_string();
    check(
        builder(&lab, "ann@a.test")
            .await
            .connect_to(&nobody)
            .connect()
            .await,
        Step::Connect,
    );

    let other = TestLab::new(["a.test"]).await.expect("a server");
    check(
        builder(&lab, "ann@a.test")
            .await
            .ca_pem(other.ca_pem())
            .connect()
            .await,
        Step::Tls,
    );

    let wrong = builder(&lab, "ann@a.test")
        .await
        .password("a guess")
        .connect()
        .await;
    match check(wrong, Step::Authentication) {
        ConnectError::Negotiation(
            _,
            Failure::Login {
                condition: SaslCondition::NotAuthorized,
                ..
            },
        ) => {}
        other => panic!("{other}"),
    }
}

#[tokio::test]
async fn a_server_that_says_nothing_times_out() {
    let lab = lab().await;
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0")
        .await
        .expect("a port");
    let address = listener.local_addr().expect("an address").to_string();
    let silent = builder(&lab, "ann@a.test").await.connect_to(&address);
    let error = silent
        .connect_max(Duration::from_millis(50))
        .connect()
        .await
        .expect_err("silence");
    assert_eq!(error.step(), Step::Stream, "{error}");
}

#[tokio::test]
async fn requests_get_their_answers() {
    let lab = lab().await;
    let ann = lab.client("ann@a.test/x").await.expect("a client");
    let result = ann.send_iq(ping("a.test")).await.expect("an answer");
    assert_eq!((result.kind, &result.head.ty), (Kind::Iq, &Ty::Result));
    match ann.send_iq(ping("nobody@a.test")).await {
        Err(IqError::Stanza(error)) => {
            assert_eq!(error.condition, StanzaCondition::ServiceUnavailable)
        }
        other => panic!("{other:?}"),
    }
    assert_eq!(
        ann.send_iq(Stanza::presence(Ty::None))
            .await
            .expect_err("no request"),
        IqError::NotARequest
    );
}

#[tokio::test]
async fn an_answer_from_somebody_else_is_not_taken() {
    let lab = lab().await;
    let ann = lab.client("ann@a.test/x").await.expect("a client");
    let mut ben = lab.wire("ben@a.test/y").await;
    let mut eve = lab.wire("eve@a.test/z").await;
    let asking = tokio::spawn({
        let ann = ann.clone();
        async move { ann.send_iq(ping("ben@a.test/y")).await }
    });
    let id = id_of_request(&mut ben).await;
    eve.send(format!(
        "<iq type='result' id='{id}' to='ann@a.test/x'><forged xmlns='urn:x'/></iq>"
    ))
    .await;
    eve.barrier().await;
    ben.send(format!("<iq type='result' id='{id}' to='ann@a.test/x'/>"))
        .await;
    let answer = asking.await.expect("a task").expect("an answer");
    assert_eq!(
        answer.head.from.as_ref().map(Jid::as_str),
        Some("ben@a.test/y")
    );
    assert!(answer.first_element().is_none());
}

#[tokio::test]
async fn an_answer_that_does_not_come_times_out_and_the_end_is_no_answer() {
    let lab = lab().await;
    let mut ben = lab.wire("ben@a.test/y").await;
    let hasty = builder(&lab, "ann@a.test/x")
        .await
        .iq_max(Duration::from_millis(50));
    let ann = hasty.connect().await.expect("a client");
    assert_eq!(
        ann.send_iq(ping("ben@a.test/y"))
            .await
            .expect_err("silence"),
        IqError::Timeout
    );
    id_of_request(&mut ben).await;

    let patient = lab.client("ann@a.test/z").await.expect("a client");
    let asking = tokio::spawn({
        let patient = patient.clone();
        async move { patient.send_iq(ping("ben@a.test/y")).await }
    });
    id_of_request(&mut ben).await;
    lab.kick("ann@a.test/z").await;
    assert_eq!(
        asking.await.expect("a task").expect_err("the end"),
        IqError::Closed
    );
}

#[tokio::test]
async fn callbacks_get_every_stanza_in_order_until_removed() {
    let lab = lab().await;
    let (sender, mut bodies) = mpsc::unbounded_channel();
    let early = sender.clone();
    let ann = builder(&lab, "ann@a.test/x")
        .await
        .on_stanza(move |stanza| {
            let _ = early.send(("early", stanza.body()));
        });
    let ann = ann.connect().await.expect("a client");
    let late = ann.on_stanza(move |stanza| {
        let _ = sender.send(("late", stanza.body()));
    });
    let mut ben = lab.wire("ben@a.test/y").await;
    let mut heard = (Vec::new(), Vec::new());
    for number in 0..3 {
        ben.send(format!(
            "<message to='ann@a.test/x'><body>{number}</body></message>"
        ))
        .await;
    }
    for _ in 0..6 {
        match bodies.recv().await.expect("a call") {
            ("early", body) => heard.0.push(body.expect("a body")),
            (_, body) => heard.1.push(body.expect("a body")),
        }
    }
    assert_eq!(heard.0, ["0", "1", "2"]);
    assert_eq!(heard.1, ["0", "1", "2"]);
    late.remove();
    for number in 3..5 {
        ben.send(format!(
            "<message to='ann@a.test/x'><body>{number}</body></message>"
        ))
        .await;
        assert_eq!(
            bodies.recv().await,
            Some(("early", Some(number.to_string())))
        );
    }
}

#[tokio::test]
async fn a_panicking_callback_harms_nobody_else() {
    let lab = lab().await;
    let ann = builder(&lab, "ann@a.test/x")
        .await
        .on_stanza(|_| panic!("on purpose"));
    let ann = ann.connect().await.expect("a client");
    let mut events = ann.events();
    let mut ben = lab.wire("ben@a.test/y").await;
    for body in ["one", "two"] {
        ben.send(format!(
            "<message to='ann@a.test/x'><body>{body}</body></message>"
        ))
        .await;
        assert_eq!(
            events
                .next_stanza()
                .await
                .and_then(|stanza| stanza.body())
                .as_deref(),
            Some(body)
        );
    }
}

#[tokio::test]
async fn the_end_is_told_with_its_reason() {
    let lab = lab().await;
    let ann = lab.client("ann@a.test/x").await.expect("a client");
    let mut events = ann.events();
    lab.kick("ann@a.test/x").await;
    match events.next().await {
        Some(Event::Disconnected {
            reason: CloseReason::Theirs(_),
        }) => {}
        other => panic!("{other:?}"),
    }
    assert!(events.next().await.is_none());
    let error = ann
        .send_stanza(Stanza::presence(Ty::None))
        .await
        .expect_err("the stream is over");
    assert!(matches!(error.reason, CloseReason::Theirs(_)), "{error}");
    assert!(ann.next_stanza().await.is_none());
}

#[tokio::test]
async fn the_last_clone_takes_the_stream_with_it() {
    let lab = lab().await;
    let mut ben = lab.wire("ben@a.test/y").await;
    let ann = lab.client("ann@a.test/x").await.expect("a client");
    let directed = Stanza::presence(Ty::None).with_to(Jid::parse("ben@a.test/y").expect("a JID"));
    ann.send_stanza(directed).await.expect("the stream is open");
    assert_eq!(ben.next().await.attr("from"), Some("ann@a.test/x"));
    drop(ann);
    ben.expect_presence_unavailable("ann@a.test/x").await;
}
