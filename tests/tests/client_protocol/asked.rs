//! What is asked of services: registration by a form and under a name of their choice, a directory,
//! commands in stages, approvals in advance. The service is scripted: it says what Prosody and ejabberd
//! say (docs/INTEROP.md), or more than they do.

use super::{bare, jid};
use std::future::Future;
use xmpp_client::ext::RequestError;
use xmpp_client::{Action, CommandStatus, Guest, RegisterError, XmppProtocol};
use xmpp_stream::ns;
use xmpp_testkit::fake::attr;
use xmpp_testkit::{FakeServer, FakeStream};

const FORM: &str = "<x xmlns='jabber:x:data' type='form'><title>T</title>\
    <field var='FORM_TYPE' type='hidden'><value>urn:x:form</value></field>\
    <field var='username' type='text-single'><required/></field>\
    <field var='password' type='text-private'><required/></field>\
    <field var='email' type='text-single'><required/></field>\
    <field type='fixed'><value>Read this</value></field></x>";

/// A guest at a server that says whatever the test tells it.
async fn guest(server: &FakeServer) -> (Guest, FakeStream) {
    let (guest, stream) = tokio::join!(server.builder("a.test").connect_guest(), async {
        let mut stream = server.accept().await;
        stream.offer(&["SCRAM-SHA-256"]).await;
        stream
    });
    (guest.expect("a stream"), stream)
}

/// Answers the next request with this, and gives the request.
async fn answer(stream: &mut FakeStream, ty: &str, content: &str) -> String {
    let asked = stream.expect_next("<iq", "</iq>").await;
    let id = attr(&asked, "id");
    stream
        .say(&format!(
            "<iq type='{ty}' id='{id}' from='a.test'>{content}</iq>"
        ))
        .await;
    asked
}

fn query(ns: &str, content: &str) -> String {
    format!("<query xmlns='{ns}'>{content}</query>")
}

fn error(condition: &str) -> String {
    format!(
        "<error type='cancel'><{condition} xmlns='{}'/></error>",
        ns::STANZAS
    )
}

/// Runs a request of ours beside the answer to it.
async fn both<T>(
    asking: impl Future<Output = T>,
    answering: impl Future<Output = String>,
) -> (T, String) {
    tokio::join!(asking, answering)
}

#[tokio::test]
async fn im_ib_01_a_guest_fills_in_a_form_and_takes_the_name_that_it_is_given() {
    let server = FakeServer::new("a.test").await;
    let (mut guest, mut stream) = guest(&server).await;
    let form = query(ns::REGISTER, &format!("<username/><password/>{FORM}"));
    let (asked, _) = both(guest.questions(), answer(&mut stream, "result", &form)).await;
    let mut asked = asked.expect("questions");
    assert!(asked.set("username", "ann") && asked.set("password", "secret"));
    let missing = RegisterError::Missing(vec!["email".into()]);
    assert_eq!(guest.register(&asked).await, Err(missing));
    asked.set("email", "ann@example.org");

    let taken = error("conflict");
    let (refused, _) = both(guest.register(&asked), answer(&mut stream, "error", &taken)).await;
    assert_eq!(refused, Err(RegisterError::Conflict));
    let given = query(ns::REGISTER, "<username>Ann7</username>");
    let (registered, sent) = both(
        guest.register(&asked),
        answer(&mut stream, "result", &given),
    )
    .await;
    let registered = registered.expect("an account");
    assert_eq!(registered.username.as_deref(), Some("Ann7"));
    assert_eq!(guest.account(&registered), Some(bare("ann7@a.test")));
    for part in [
        "type='submit'",
        "<value>urn:x:form</value>",
        "<value>ann</value>",
        "<value>ann@example.org</value>",
    ] {
        assert!(sent.contains(part), "{part} in {sent}");
    }
    assert!(
        !sent.contains("<username") && !sent.contains("Read this"),
        "{sent}"
    );
}

#[tokio::test]
async fn whether_a_name_exists_is_told_by_some() {
    let server = FakeServer::new("a.test").await;
    let (mut guest, mut stream) = guest(&server).await;
    for (ty, content, told) in [
        (
            "result",
            query(ns::REGISTER, "<registered/><username>ann</username>"),
            Some(true),
        ),
        (
            "result",
            query(ns::REGISTER, "<username>ann</username>"),
            Some(false),
        ),
        (
            "result",
            query(ns::REGISTER, "<username/><password/>"),
            None,
        ),
        ("error", error("conflict"), Some(true)),
        ("error", error("item-not-found"), Some(false)),
        ("error", error("service-unavailable"), None),
    ] {
        let (exists, sent) = both(guest.exists("ann"), answer(&mut stream, ty, &content)).await;
        assert_eq!(exists, Ok(told), "{content}");
        assert!(sent.contains("type='get'"), "nobody is registered: {sent}");
    }
}

/// Somebody signed in at a server that says whatever the test tells it.
async fn ann(server: &FakeServer, features: &str) -> (XmppProtocol, FakeStream) {
    let (client, stream) = tokio::join!(server.builder("ann@a.test/x").connect(), async {
        let mut stream = server.signed_in().await;
        stream.features(features).await;
        stream.bind("ann@a.test/x").await;
        stream
    });
    (XmppProtocol::new(&client.expect("a client")), stream)
}

#[tokio::test]
async fn xep0055_a_directory_is_searched() {
    let server = FakeServer::new("a.test").await;
    let (im, mut stream) = ann(&server, "").await;
    let directory = jid("a.test");
    let plain = query(
        ns::SEARCH,
        "<instructions>Fill in</instructions><last/><nick/>",
    );
    let asking = im.search_questions(&directory);
    let (asked, _) = both(asking, answer(&mut stream, "result", &plain)).await;
    let mut asked = asked.expect("questions");
    assert!(asked.set("last", "Doe") && !asked.set("email", "x"));
    let items = "<item jid='jane@a.test'><last>Doe</last></item><item jid='@'/>";
    let items = query(ns::SEARCH, items);
    let searching = im.search(&directory, &asked);
    let (found, sent) = both(searching, answer(&mut stream, "result", &items)).await;
    let found = found.expect("a result");
    assert_eq!(found.len(), 1);
    assert_eq!(
        (&found[0].jid, &*found[0].fields[0].1),
        (&jid("jane@a.test"), "Doe")
    );
    assert!(sent.contains("<last>Doe</last></query>"), "{sent}");
    let refusal = error("item-not-found");
    let searching = im.search(&directory, &asked);
    let (found, _) = both(searching, answer(&mut stream, "error", &refusal)).await;
    assert!(matches!(found, Err(RequestError::Iq(_))), "{found:?}");
}

fn stage(session: &str, status: &str, content: &str) -> String {
    let commands = ns::COMMANDS;
    format!(
        "<command xmlns='{commands}' node='n' sessionid='{session}' status='{status}'>{content}</command>"
    )
}

#[tokio::test]
async fn xep0050_a_command_is_run_stage_by_stage() {
    let server = FakeServer::new("a.test").await;
    let (im, mut stream) = ann(&server, "").await;
    let of = jid("a.test");
    let first = stage(
        "s1",
        "executing",
        &format!("<actions execute='next'><next/></actions>{FORM}"),
    );
    let (command, sent) = both(im.execute(&of, "n"), answer(&mut stream, "result", &first)).await;
    let mut command = command.expect("a form");
    assert!(
        sent.contains("action='execute'") && !sent.contains("sessionid"),
        "{sent}"
    );
    assert_eq!(command.reply.default, Some(Action::Next));
    let form = command
        .reply
        .form
        .as_ref()
        .expect("a form")
        .answer()
        .with("username", "ben");

    // What is refused leaves the stage as it was.
    let refusal = error("bad-request");
    let (refused, _) = both(
        command.next(Some(&form)),
        answer(&mut stream, "error", &refusal),
    )
    .await;
    assert!(refused.is_err() && command.is_executing());
    let second = stage("s1", "executing", "<actions><prev/><complete/></actions>");
    let (next, sent) = both(
        command.next(Some(&form)),
        answer(&mut stream, "result", &second),
    )
    .await;
    next.expect("a stage");
    assert!(
        sent.contains("action='next'") && sent.contains("sessionid='s1'"),
        "{sent}"
    );
    assert!(sent.contains("<value>ben</value>"), "{sent}");
    assert_eq!(command.reply.actions, [Action::Prev, Action::Complete]);
    let (prev, _) = both(command.prev(), answer(&mut stream, "result", &first)).await;
    prev.expect("a stage");
    assert!(command.reply.form.is_some());
    let last = stage("s1", "completed", "<note type='info'>done</note>");
    let (done, _) = both(command.complete(None), answer(&mut stream, "result", &last)).await;
    done.expect("done");
    assert_eq!(command.reply.status, CommandStatus::Completed);
    assert_eq!(command.reply.notes[0].text, "done");
}

#[tokio::test]
async fn nothing_is_approved_in_advance_where_the_server_does_not_know_that() {
    let server = FakeServer::new("a.test").await;
    let (im, mut stream) = ann(&server, "").await;
    assert!(!im.pre_approve(&bare("ben@b.test")).await.expect("open"));
    assert_eq!(stream.barrier().await, "");
    let feature = format!("<sub xmlns='{}'/>", ns::FEATURE_PRE_APPROVAL);
    let (im, mut stream) = ann(&server, &feature).await;
    assert!(im.pre_approve(&bare("ben@b.test")).await.expect("open"));
    let sent = stream.expect_next("<presence", "/>").await;
    assert!(
        sent.contains("type='subscribed'") && sent.contains("to='ben@b.test'"),
        "{sent}"
    );
}
