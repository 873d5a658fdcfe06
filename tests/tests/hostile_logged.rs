//! Bad input over the wire: each ends in the condition that RFC 6120 names, with a log line that
//! tells the address and the reason, and nobody else notices. One test in a process of its own: what
//! is logged is told apart by thread only while no other test makes log lines.

use std::io::Write;
use std::sync::{Arc, Mutex};
use xmpp_testkit::TestLab;
use xmpp_testkit::wire::Wire;

/// How far the hostile peer comes before it misbehaves.
#[derive(Clone, Copy, Debug)]
enum Stage {
    /// Connected, nothing sent.
    Connected,
    /// The clear stream is open, STARTTLS offered.
    Clear,
    /// The stream under TLS is open, SASL offered.
    Secure,
    /// Signed in and bound.
    Bound,
}

struct Case {
    name: &'static str,
    stage: Stage,
    send: String,
    /// Stream error condition.
    want: &'static str,
}

fn case(name: &'static str, stage: Stage, send: impl Into<String>, want: &'static str) -> Case {
    Case {
        name,
        stage,
        send: send.into(),
        want,
    }
}

fn header(attrs: &str) -> String {
    format!(
        "<?xml version='1.0'?><stream:stream xmlns='jabber:client' \
         xmlns:stream='http://etherx.jabber.org/streams' {attrs}>"
    )
}

fn cases() -> Vec<Case> {
    let message = |inner: &str| format!("<message to='ben@a.test/orchard'>{inner}</message>");
    let good = header("to='a.test' version='1.0'");
    vec![
        // Headers.
        case(
            "not XML",
            Stage::Connected,
            "GET / HTTP/1.1\r\n\r\n",
            "not-well-formed",
        ),
        case(
            "host unknown",
            Stage::Connected,
            header("to='other.test' version='1.0'"),
            "host-unknown",
        ),
        case(
            "wrong stream namespace",
            Stage::Connected,
            good.replace("http://etherx.jabber.org/streams", "urn:x"),
            "invalid-namespace",
        ),
        case(
            "wrong content namespace",
            Stage::Connected,
            good.replace("jabber:client", "jabber:foo"),
            "invalid-namespace",
        ),
        case(
            "version 11",
            Stage::Connected,
            header("to='a.test' version='11.0'"),
            "unsupported-version",
        ),
        case(
            "DTD before the header",
            Stage::Connected,
            "<?xml version='1.0'?><!DOCTYPE x>",
            "restricted-xml",
        ),
        case(
            "not UTF-8 declared",
            Stage::Connected,
            "<?xml version='1.0' encoding='latin1'?><a/>",
            "unsupported-encoding",
        ),
        // Before TLS.
        case(
            "stanza before TLS",
            Stage::Clear,
            message("<body>b</body>"),
            "not-authorized",
        ),
        case(
            "unknown element before TLS",
            Stage::Clear,
            "<foo xmlns='urn:x'/>",
            "unsupported-stanza-type",
        ),
        case(
            "data behind starttls",
            Stage::Clear,
            "<starttls xmlns='urn:ietf:params:xml:ns:xmpp-tls'/><stream:stream",
            "policy-violation",
        ),
        // Before authentication.
        case(
            "iq before SASL",
            Stage::Secure,
            "<iq type='get' id='1'><q xmlns='urn:x'/></iq>",
            "not-authorized",
        ),
        case(
            "bind before SASL",
            Stage::Secure,
            "<iq type='set' id='1'><bind xmlns='urn:ietf:params:xml:ns:xmpp-bind'/></iq>",
            "not-authorized",
        ),
        case(
            "oversize before SASL",
            Stage::Secure,
            format!(
                "<auth xmlns='urn:ietf:params:xml:ns:xmpp-sasl' mechanism='PLAIN'>{}",
                "A".repeat(17 * 1024)
            ),
            "policy-violation",
        ),
        // Bound.
        case(
            "mismatched tags",
            Stage::Bound,
            message("<a></b>"),
            "not-well-formed",
        ),
        case(
            "undeclared prefix",
            Stage::Bound,
            message("<p:a/>"),
            "not-well-formed",
        ),
        case(
            "duplicate attribute",
            Stage::Bound,
            message("<a b='1' b='2'/>"),
            "not-well-formed",
        ),
        case(
            "comment",
            Stage::Bound,
            message("<!-- c -->"),
            "restricted-xml",
        ),
        case(
            "processing instruction",
            Stage::Bound,
            message("<?php x?>"),
            "restricted-xml",
        ),
        case(
            "entity",
            Stage::Bound,
            message("<body>&foo;</body>"),
            "restricted-xml",
        ),
        case(
            "DTD",
            Stage::Bound,
            "<!DOCTYPE x [<!ENTITY a 'b'>]>",
            "restricted-xml",
        ),
        case(
            "NUL by reference",
            Stage::Bound,
            message("<body>&#0;</body>"),
            "not-well-formed",
        ),
        case(
            "oversize",
            Stage::Bound,
            format!("<message to='ben@a.test'><body>{}", "x".repeat(257 * 1024)),
            "policy-violation",
        ),
        case(
            "deep nesting",
            Stage::Bound,
            format!("<message to='ben@a.test'>{}", "<a>".repeat(100)),
            "policy-violation",
        ),
        case(
            "many attributes",
            Stage::Bound,
            format!(
                "<message {}",
                (0..100).map(|n| format!("a{n}='' ")).collect::<String>() + "/>"
            ),
            "policy-violation",
        ),
        case(
            "second stream header",
            Stage::Bound,
            good.replace("<?xml version='1.0'?>", ""),
            "bad-format",
        ),
        case(
            "unknown first-level element",
            Stage::Bound,
            "<pubsub xmlns='jabber:client'/>",
            "unsupported-stanza-type",
        ),
        case("text between stanzas", Stage::Bound, "hello", "bad-format"),
    ]
}

async fn reach(lab: &TestLab, stage: Stage) -> Wire {
    match stage {
        Stage::Connected => lab.raw("a.test").await,
        Stage::Clear => {
            let mut wire = lab.raw("a.test").await;
            wire.open().await;
            wire
        }
        Stage::Secure => {
            let mut wire = lab.raw("a.test").await;
            wire.open_secure().await;
            wire
        }
        Stage::Bound => lab.wire("eve@a.test").await,
    }
}

/// What the server logs while a test runs on this thread.
#[derive(Clone, Default)]
struct Log(Arc<Mutex<Vec<u8>>>);

impl Log {
    fn text(&self) -> String {
        String::from_utf8_lossy(&self.0.lock().expect("the log")).into_owned()
    }

    fn clear(&self) {
        self.0.lock().expect("the log").clear();
    }

    fn listen(&self) -> tracing::subscriber::DefaultGuard {
        let log = self.clone();
        let subscriber = tracing_subscriber::fmt()
            .with_ansi(false)
            .with_max_level(tracing::Level::INFO)
            .with_writer(move || log.clone())
            .finish();
        tracing::subscriber::set_default(subscriber)
    }
}

impl Write for Log {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        self.0.lock().expect("the log").extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

#[tokio::test]
async fn c6120_3_bad_input_is_answered_and_logged() {
    each_ends_in_its_condition_with_a_log_line_and_harms_nobody().await;
    c6120_sa_10_five_wrong_passwords_end_the_stream().await;
    refusals_of_form_are_one_warning_a_connection().await;
}

async fn each_ends_in_its_condition_with_a_log_line_and_harms_nobody() {
    let log = Log::default();
    let _listening = log.listen();
    let lab = TestLab::new(["a.test"]).await.expect("a server");
    let mut ben = lab.wire("ben@a.test/orchard").await;
    ben.presence("").await;
    for case in cases() {
        let what = case.name;
        let mut wire = reach(&lab, case.stage).await;
        log.clear();
        wire.send(&case.send).await;
        match case.stage {
            Stage::Connected => wire.expect_header_and_error(case.want).await,
            _ => wire.expect_stream_error(case.want).await,
        };
        ben.barrier().await;
        let text = log.text();
        let line = text.lines().find(|line| line.contains(case.want));
        let line =
            line.unwrap_or_else(|| panic!("{what}: no log line with the condition in:\n{text}"));
        assert!(
            line.contains("peer=127.0.0.1:"),
            "{what}: no address in {line}"
        );
        assert!(line.contains("WARN"), "{what}: {line}");
    }
}

async fn c6120_sa_10_five_wrong_passwords_end_the_stream() {
    let log = Log::default();
    let _listening = log.listen();
    let lab = TestLab::new(["a.test"]).await.expect("a server");
    lab.account("eve@a.test").await;
    let mut wire = lab.raw("a.test").await;
    wire.open_secure().await;
    for round in 1..=5 {
        let mut plain = sasl::client::mechanisms::Plain::new("eve", "Tr0ub4dor");
        let failure = wire
            .authenticate(&mut plain)
            .await
            .expect_err("a wrong password");
        assert!(
            failure.to_string().contains("not-authorized"),
            "{round}: {failure}"
        );
    }
    wire.expect_stream_error("policy-violation").await;
    let text = log.text();
    let failed = text.lines().filter(|line| line.contains("login failed"));
    assert_eq!(failed.count(), 5, "{text}");
    assert!(
        !text.contains("Tr0ub4dor"),
        "a password in the log:\n{text}"
    );
}

/// What a client does that tries one mechanism after the other.
async fn refusals_of_form_are_one_warning_a_connection() {
    let log = Log::default();
    let _listening = log.listen();
    let lab = TestLab::new(["a.test"]).await.expect("a server");
    let password = lab.account("ann@a.test").await;
    for warnings in [1, 2] {
        let mut wire = lab.raw("a.test").await;
        wire.open_secure().await;
        for mechanism in ["SCRAM-SHA-1", "SCRAM-SHA-256", "SCRAM-SHA-512"] {
            // "y,,n=ann,r=abcdefgh": no -PLUS was offered, it says.
            let data = "eSwsbj1hbm4scj1hYmNkZWZnaA==";
            let ns = xmpp_stream::ns::SASL;
            wire.send(format!(
                "<auth xmlns='{ns}' mechanism='{mechanism}'>{data}</auth>"
            ))
            .await;
            let failure = wire.next().await;
            assert_eq!(failure.name(), "failure", "{failure}");
        }
        // A guess between them is one more.
        if warnings == 2 {
            let mut plain = sasl::client::mechanisms::Plain::new("ann", "guess");
            wire.authenticate(&mut plain)
                .await
                .expect_err("it is wrong");
        }
        let mut plain = sasl::client::mechanisms::Plain::new("ann", password.as_str());
        wire.authenticate_and_bind(&mut plain, None).await;
        let text = log.text();
        let failed = text.lines().filter(|line| line.contains("login failed"));
        let warned = failed.filter(|line| line.contains("WARN"));
        assert_eq!(warned.count(), warnings, "{text}");
        log.clear();
    }
}
