//! RFC 6121 section 8 over the wire: which session gets a message, by type and address.
//!
//! Rows of the checklist: section 5.1, the matrix of its table as played from a table here, and
//! de-01 to de-06. Where the table offers it, messages wait for the next session (XEP-0160).

use xmpp_testkit::TestLab;
use xmpp_testkit::wire::Wire;

/// What one situation and type must lead to.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Want {
    /// service-unavailable to the sender, nobody gets it.
    Error,
    /// Nobody gets it, no error.
    Silent,
    /// Nobody gets it now, the next session with a priority that is not negative does.
    Stored,
    /// These sessions get it, by index.
    To(&'static [usize]),
}
use Want::{Error, Silent, Stored, To};

const TYPES: [&str; 4] = ["normal", "chat", "groupchat", "headline"];

struct Situation {
    name: &'static str,
    /// Priorities of ben's sessions r0, r1…; `None`: connected, not available.
    sessions: &'static [Option<i8>],
    /// Resource in `to`; empty: bare.
    to: &'static str,
    /// By type, in the order of `TYPES`.
    want: [Want; 4],
}

const MATRIX: &[Situation] = &[
    Situation {
        name: "no resources, bare",
        sessions: &[],
        to: "",
        want: [Stored, Stored, Error, Silent],
    },
    Situation {
        name: "no resources, full",
        sessions: &[],
        to: "gone",
        want: [Error, Stored, Error, Silent],
    },
    Situation {
        name: "connected only, bare",
        sessions: &[None],
        to: "",
        want: [Stored, Stored, Error, Silent],
    },
    Situation {
        name: "connected only, full match",
        sessions: &[None],
        to: "r0",
        want: [To(&[0]), To(&[0]), To(&[0]), To(&[0])],
    },
    Situation {
        name: "negative only, bare",
        sessions: &[Some(-1)],
        to: "",
        want: [Stored, Stored, Error, Silent],
    },
    Situation {
        name: "negative only, full match",
        sessions: &[Some(-1)],
        to: "r0",
        want: [To(&[0]), To(&[0]), To(&[0]), To(&[0])],
    },
    Situation {
        name: "negative only, full no match",
        sessions: &[Some(-1)],
        to: "gone",
        want: [Error, Stored, Error, Silent],
    },
    Situation {
        name: "one, bare",
        sessions: &[Some(0)],
        to: "",
        want: [To(&[0]), To(&[0]), Error, To(&[0])],
    },
    Situation {
        name: "one, full match",
        sessions: &[Some(0)],
        to: "r0",
        want: [To(&[0]), To(&[0]), To(&[0]), To(&[0])],
    },
    Situation {
        name: "one, full no match",
        sessions: &[Some(0)],
        to: "gone",
        want: [Error, To(&[0]), Error, Silent],
    },
    Situation {
        name: "several, bare: the most available ones; headline to all",
        sessions: &[Some(5), Some(1), Some(5), Some(-1)],
        to: "",
        want: [To(&[0, 2]), To(&[0, 2]), Error, To(&[0, 1, 2])],
    },
    Situation {
        name: "several, full match",
        sessions: &[Some(5), Some(1)],
        to: "r1",
        want: [To(&[1]), To(&[1]), To(&[1]), To(&[1])],
    },
    Situation {
        name: "several, full no match",
        sessions: &[Some(5), Some(1)],
        to: "gone",
        want: [Error, To(&[0]), Error, Silent],
    },
];

#[tokio::test]
async fn c6121_message_type_deliver_matrix() {
    let lab = TestLab::new(["a.test"]).await.expect("a server");
    for (number, situation) in MATRIX.iter().enumerate() {
        let local = format!("ben{number}");
        lab.account(&format!("{local}@a.test")).await;
        let mut ann = lab.wire("ann@a.test").await;
        let mut sessions = sessions(&lab, &local, situation.sessions).await;
        for (ty, want) in TYPES.iter().zip(situation.want) {
            let to = match situation.to {
                "" => format!("{local}@a.test"),
                resource => format!("{local}@a.test/{resource}"),
            };
            let what = format!("{}, {ty}", situation.name);
            ann.send(format!(
                "<message to='{to}' type='{ty}' id='{ty}'><body>b</body></message>"
            ))
            .await;
            check(&mut ann, &mut sessions, &to, ty, want, &what).await;
        }
        let stored = TYPES.iter().zip(situation.want);
        let stored = stored.filter_map(|(ty, want)| (want == Stored).then_some(*ty));
        let mut later = lab.wire(&format!("{local}@a.test/later")).await;
        later.send("<presence/>").await;
        let seen = later.barrier_seeing().await;
        let messages = seen.iter().filter(|tree| tree.name() == "message");
        let ids: Vec<_> = messages
            .map(|tree| {
                let delay = tree.child_ns("urn:xmpp:delay", "delay");
                let from = delay.and_then(|delay| delay.attr("from"));
                assert_eq!(from, Some("a.test"), "{}: {tree}", situation.name);
                tree.attr("id").unwrap_or_default()
            })
            .collect();
        assert_eq!(ids, stored.collect::<Vec<_>>(), "{}", situation.name);
    }
}

async fn check(ann: &mut Wire, sessions: &mut [Wire], to: &str, ty: &str, want: Want, what: &str) {
    if want == Error {
        let got = ann.next().await;
        assert_eq!(got.attr("type"), Some("error"), "{what}: {got}");
        assert!(
            got.to_string().contains("service-unavailable"),
            "{what}: {got}"
        );
    }
    // The sender's barrier shows that there is no (other) error and that delivery has happened.
    ann.barrier().await;
    for (index, session) in sessions.iter_mut().enumerate() {
        if matches!(want, To(list) if list.contains(&index)) {
            let got = session.next().await;
            assert_eq!(got.name(), "message", "{what}: {got}");
            assert_eq!(got.attr("id"), Some(ty), "{what}: {got}");
            assert_eq!(got.attr("to"), Some(to), "de-02, {what}: {got}");
        }
        session.barrier().await;
    }
}

async fn sessions(lab: &TestLab, local: &str, priorities: &[Option<i8>]) -> Vec<Wire> {
    let mut sessions = Vec::new();
    for (index, priority) in priorities.iter().enumerate() {
        let mut session = lab.wire(&format!("{local}@a.test/r{index}")).await;
        if let Some(priority) = priority {
            session
                .send(format!(
                    "<presence><priority>{priority}</priority></presence>"
                ))
                .await;
        }
        session.barrier_over_presence().await;
        sessions.push(session);
    }
    for session in &mut sessions {
        session.barrier_over_presence().await;
    }
    sessions
}

#[tokio::test]
async fn c6121_no_account_matrix() {
    let lab = TestLab::new(["a.test"]).await.expect("a server");
    let mut ann = lab.wire("ann@a.test").await;
    for to in ["zed@a.test", "zed@a.test/gone"] {
        for (ty, want) in TYPES.iter().zip([Error, Error, Error, Silent]) {
            ann.send(format!(
                "<message to='{to}' type='{ty}' id='{ty}'><body>b</body></message>"
            ))
            .await;
            check(
                &mut ann,
                &mut [],
                to,
                ty,
                want,
                &format!("no account, {to}, {ty}"),
            )
            .await;
        }
    }
}

#[tokio::test]
async fn c6121_message_errors_are_dropped_but_for_a_full_match() {
    let lab = TestLab::new(["a.test"]).await.expect("a server");
    let mut ann = lab.wire("ann@a.test").await;
    let mut ben = lab.wire("ben@a.test/r0").await;
    ben.presence("").await;
    let error = "<error type='cancel'><gone xmlns='urn:ietf:params:xml:ns:xmpp-stanzas'/></error>";
    for to in ["ben@a.test", "ben@a.test/gone"] {
        ann.send(format!(
            "<message to='{to}' type='error' id='e'>{error}</message>"
        ))
        .await;
    }
    ann.barrier().await;
    ben.barrier().await;
    ann.send(format!(
        "<message to='ben@a.test/r0' type='error' id='f'>{error}</message>"
    ))
    .await;
    let got = ben.next().await;
    assert_eq!(
        (got.attr("type"), got.attr("id")),
        (Some("error"), Some("f")),
        "{got}"
    );
}

#[tokio::test]
async fn c6121_unknown_message_type_is_normal() {
    let lab = TestLab::new(["a.test"]).await.expect("a server");
    let mut ann = lab.wire("ann@a.test").await;
    let mut ben = lab.wire("ben@a.test/r0").await;
    ben.presence("").await;
    ann.send("<message to='ben@a.test' type='telegram' id='t'><body>b</body></message>")
        .await;
    let got = ben.next().await;
    assert_eq!(got.attr("id"), Some("t"), "{got}");
}

#[tokio::test]
async fn messages_keep_their_order_and_arrive_once() {
    let lab = TestLab::new(["a.test"]).await.expect("a server");
    let mut ann = lab.wire("ann@a.test").await;
    let mut ben = lab.wire("ben@a.test/r0").await;
    ben.presence("").await;
    let mut all = String::new();
    for number in 0..500 {
        // Bare and full alternate: both are the same recipient to the order rule (RFC 6120 10.1).
        let to = if number % 2 == 0 {
            "ben@a.test"
        } else {
            "ben@a.test/r0"
        };
        all.push_str(&format!(
            "<message to='{to}' type='chat' id='{number}'><body>b</body></message>"
        ));
    }
    ann.send(&all).await;
    for number in 0..500 {
        let got = ben.next().await;
        assert_eq!(got.attr("id"), Some(number.to_string().as_str()), "{got}");
    }
    ben.barrier().await;
}

#[tokio::test]
async fn messages_of_a_lost_session_go_to_another_one_or_back() {
    let lab = TestLab::new(["a.test"]).await.expect("a server");
    let mut ann = lab.wire("ann@a.test").await;
    let mut phone = lab.wire("ben@a.test/phone").await;
    let mut desk = lab.wire("ben@a.test/desk").await;
    phone.presence("<priority>5</priority>").await;
    desk.send("<presence><priority>1</priority></presence>")
        .await;
    desk.barrier_over_presence().await;
    phone.barrier_over_presence().await;
    // The phone goes: what is sent afterwards has one place left.
    phone.close().await;
    desk.expect_presence_unavailable("ben@a.test/phone").await;
    ann.send("<message to='ben@a.test/phone' type='chat' id='c'><body>b</body></message>")
        .await;
    let got = desk.next().await;
    assert_eq!(got.attr("id"), Some("c"), "{got}");
}
