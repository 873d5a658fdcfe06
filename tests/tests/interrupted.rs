//! Connections that end in the middle of something: nobody else notices, and nothing is left behind.
//!
//! Rows st-22 and lm-01 of RFC 6120's checklist at every step of a login.

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use xmpp_stream::ns;
use xmpp_testkit::TestLab;
use xmpp_testkit::wire::Wire;

/// Where the peer goes away.
#[derive(Clone, Copy, Debug)]
enum Cut {
    Connected,
    MidHeader,
    AtFeatures,
    MidStartTls,
    BeforeHello,
    MidHello,
    MidDirectHello,
    MidHeaderUnderTls,
    MidAuth,
    AtChallenge,
    MidResponse,
    BeforeNewHeader,
    MidBind,
    MidRegistration,
}

const CUTS: [Cut; 14] = [
    Cut::Connected,
    Cut::MidHeader,
    Cut::AtFeatures,
    Cut::MidStartTls,
    Cut::BeforeHello,
    Cut::MidHello,
    Cut::MidDirectHello,
    Cut::MidHeaderUnderTls,
    Cut::MidAuth,
    Cut::AtChallenge,
    Cut::MidResponse,
    Cut::BeforeNewHeader,
    Cut::MidBind,
    Cut::MidRegistration,
];

/// The first bytes of a ClientHello that promises 512.
const HALF_HELLO: [u8; 11] = [22, 3, 1, 2, 0, 1, 0, 1, 252, 3, 3];

#[tokio::test]
async fn c6120_st_22_a_connection_cut_anywhere_before_binding_harms_nobody() {
    // No more places than this test needs at once: what a cut connection held must come back.
    let lab = TestLab::with(["a.test"], |config| config.limits.unauthenticated_max = 2).await;
    let lab = lab.expect("a server");
    let password = lab.account("eve@a.test").await;
    let mut ann = lab.wire("ann@a.test/one").await;
    let mut ben = lab.wire("ben@a.test/one").await;
    ben.presence("").await;
    for cut in CUTS.into_iter().cycle().take(3 * CUTS.len()) {
        match cut {
            Cut::BeforeHello | Cut::MidHello | Cut::MidDirectHello => {
                cut_handshake(&lab, cut).await
            }
            _ => drop(advance(&lab, cut, &password).await),
        }
        ann.send(format!(
            "<message to='ben@a.test' id='{cut:?}'><body>b</body></message>"
        ))
        .await;
        let got = ben.next().await;
        assert_eq!(got.attr("id"), Some(format!("{cut:?}").as_str()), "{got}");
        ann.barrier().await;
        // What was half done is not there: the account can sign in, with any resource.
        let mut eve = lab.wire("eve@a.test/one").await;
        eve.barrier().await;
        eve.close().await;
    }
    assert!(
        !lab.accounts()
            .await
            .iter()
            .any(|jid| jid.as_str().starts_with("mallory"))
    );
}

/// As far as the cut; dropped, the connection ends there.
async fn advance(lab: &TestLab, cut: Cut, password: &str) -> Wire {
    let mut wire = lab.raw("a.test").await;
    let half_header = "<?xml version='1.0'?><stream:stream to='a.te";
    match cut {
        Cut::Connected => return wire,
        Cut::MidHeader => {
            wire.send(half_header).await;
            return wire;
        }
        Cut::AtFeatures => {
            wire.open().await;
            return wire;
        }
        Cut::MidStartTls => {
            wire.open().await;
            wire.send("<starttls xmlns='urn:ietf:params:xml:ns").await;
            return wire;
        }
        Cut::MidHeaderUnderTls => {
            wire.start_tls().await;
            wire.secure().await;
            wire.send(half_header).await;
            return wire;
        }
        _ => wire.open_secure().await,
    };
    let auth = format!("<auth xmlns='{}' mechanism='SCRAM-SHA-256'>", ns::SASL);
    match cut {
        Cut::MidAuth => wire.send(auth).await,
        Cut::AtChallenge | Cut::MidResponse => {
            wire.send(format!("{auth}biwsbj1ldmUscj1hYmNkZWZnaA==</auth>"))
                .await;
            assert_eq!(wire.next().await.name(), "challenge");
            if matches!(cut, Cut::MidResponse) {
                wire.send(format!("<response xmlns='{}'>Yz1iaXdz", ns::SASL))
                    .await;
            }
        }
        Cut::MidRegistration => {
            let fields = "<username>mallory</username><password>x</password>";
            wire.send(format!(
                "<iq type='set' id='r'><query xmlns='{}'>{fields}",
                ns::REGISTER
            ))
            .await;
        }
        _ => {
            let mut plain = sasl::client::mechanisms::Plain::new("eve", password);
            wire.authenticate(&mut plain)
                .await
                .expect("the right password");
            if matches!(cut, Cut::MidBind) {
                wire.open().await;
                wire.send(format!(
                    "<iq type='set' id='b'><bind xmlns='{}'><resource>one",
                    ns::BIND
                ))
                .await;
            }
        }
    }
    wire
}

async fn cut_handshake(lab: &TestLab, cut: Cut) {
    let place = lab.place("a.test");
    let address = match cut {
        Cut::MidDirectHello => place.address_tls.expect("a listener"),
        _ => place.address,
    };
    let mut stream = TcpStream::connect(address).await.expect("a connection");
    if !matches!(cut, Cut::MidDirectHello) {
        let opening = format!(
            "<stream:stream to='a.test' version='1.0' xmlns='{}' xmlns:stream='{}'><starttls xmlns='{}'/>",
            ns::CLIENT,
            ns::STREAMS,
            ns::TLS
        );
        // A header and starttls in one packet is in order: nothing stands behind starttls.
        stream.write_all(opening.as_bytes()).await.expect("written");
        let mut got = Vec::new();
        while !String::from_utf8_lossy(&got).contains("<proceed") {
            assert!(
                stream.read_buf(&mut got).await.expect("proceed") > 0,
                "{got:?}"
            );
        }
    }
    if !matches!(cut, Cut::BeforeHello) {
        stream.write_all(&HALF_HELLO).await.expect("written");
    }
    stream.shutdown().await.expect("closed");
    let mut rest = Vec::new();
    stream.read_to_end(&mut rest).await.expect("the end");
    assert!(
        !String::from_utf8_lossy(&rest).contains('<'),
        "tl-06: {rest:?}"
    );
}

#[tokio::test]
async fn c6120_st_22_half_stanzas_of_a_bound_session_are_dropped_with_it() {
    let lab = TestLab::new(["a.test"]).await.expect("a server");
    let mut ben = lab.wire("ben@a.test/one").await;
    let mut friend = lab.wire("ann@a.test/watch").await;
    friend.befriend(&mut ben).await;
    for (number, half) in [
        "<message to='ben@a.test/one'><body>half",
        "<message to='ben@a.test/one'><body>half</body></message",
        "<message to='ben@a.test/one",
        "<presence to='ben@a.test/one'>",
        "<iq type='set' id='r'><query xmlns='jabber:iq:roster'><item jid='c@a.test'/></query>",
        "<message to='ben@a.test/one'><body>\u{e9}",
        "</stream:strea",
    ]
    .into_iter()
    .enumerate()
    {
        let full = format!("ann@a.test/cut{number}");
        let mut ann = lab.wire(&full).await;
        ann.send("<presence/>").await;
        assert_eq!(ben.next().await.attr("from"), Some(full.as_str()));
        // The last byte of a multi-byte character may be missing too.
        let bytes = half.as_bytes();
        let end = if half.ends_with('\u{e9}') {
            bytes.len() - 1
        } else {
            bytes.len()
        };
        ann.send_bytes(&bytes[..end]).await;
        drop(ann);
        ben.expect_presence_unavailable(&full).await;
        ben.barrier().await;
    }
    let roster = friend.roster_get_among_others().await;
    assert_eq!(roster.children().count(), 1, "only ben: {roster}");
}

#[tokio::test]
async fn c6120_3_resource_constraint_for_who_does_not_read_and_nobody_else() {
    const MESSAGES: usize = 60;
    let lab = TestLab::new(["a.test"]).await.expect("a server");
    let mut ann = lab.wire("ann@a.test/one").await;
    let mut other = lab.wire("other@a.test/one").await;
    // 64 KiB fit into the pipe; the rest has to wait on the server.
    let mut deaf = lab.wire_in_memory("deaf@a.test/one").await;
    let body = "x".repeat(64 * 1024);
    for number in 0..MESSAGES {
        ann.send(format!(
            "<message to='deaf@a.test/one' type='chat' id='{number}'><body>{body}</body></message>"
        ))
        .await;
    }
    ann.barrier().await;
    let mut received = 0;
    let error = loop {
        let got = deaf.next().await;
        if got.is(ns::STREAMS, "error") {
            break got;
        }
        assert_eq!(
            got.attr("id"),
            Some(received.to_string().as_str()),
            "in order"
        );
        received += 1;
    };
    assert!(
        error
            .child_ns(ns::STREAM_ERRORS, "resource-constraint")
            .is_some(),
        "{error}"
    );
    deaf.expect_closed().await;
    // What it did not take waits for it, once each and in order.
    assert!(received > 0 && received < MESSAGES, "{received}");
    let mut back = lab.wire("deaf@a.test/two").await;
    back.send("<presence/>").await;
    let seen = back.barrier_seeing().await;
    let waited = seen.iter().filter(|tree| tree.name() == "message");
    let ids: Vec<_> = waited.filter_map(|tree| tree.attr("id")).collect();
    // The one that was being written at the end counts as not taken, though it may have arrived.
    let first = MESSAGES - ids.len();
    assert!(
        first == received || first + 1 == received,
        "{first}, {received} were received"
    );
    let lost: Vec<String> = (first..MESSAGES).map(|number| number.to_string()).collect();
    assert_eq!(ids, lost);
    ann.send("<message to='other@a.test/one' id='after'><body>b</body></message>")
        .await;
    assert_eq!(other.next().await.attr("id"), Some("after"));
}

#[tokio::test]
async fn c6120_stanza_iq_reply_requests_never_written_to_a_session_are_answered() {
    let lab = TestLab::new(["a.test"]).await.expect("a server");
    let mut ann = lab.wire("ann@a.test/one").await;
    // Reads nothing after login, so that what comes for it stays in its queue behind a large message.
    let _deaf = lab.wire_in_memory("deaf@a.test/one").await;
    let body = "x".repeat(200 * 1024);
    ann.send(format!(
        "<message to='deaf@a.test/one' id='m'><body>{body}</body></message>"
    ))
    .await;
    for id in ["1", "2", "3"] {
        ann.send(format!(
            "<iq type='get' id='{id}' to='deaf@a.test/one'><ping xmlns='urn:xmpp:ping'/></iq>"
        ))
        .await;
    }
    ann.barrier().await;
    lab.kick("deaf@a.test/one").await;
    let answers = ann.barrier_seeing().await;
    let ids: Vec<_> = answers
        .iter()
        .filter(|answer| answer.name() == "iq")
        .map(|answer| (answer.attr("type"), answer.attr("id")))
        .collect();
    let expected = ["1", "2", "3"].map(|id| (Some("error"), Some(id)));
    assert_eq!(ids, expected);
    assert!(
        answers
            .iter()
            .all(|answer| answer.to_string().contains("service-unavailable"))
    );
}
