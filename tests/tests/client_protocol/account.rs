//! What an account keeps on the server, and how it comes to be and ends.

use super::{bare, jid, lab, person, until};
use xmpp_client::{Builder, ImEvent, Photo, RegisterError, VCard, XmppClient, ext::ping::Outcome};
use xmpp_server::config::Registration;
use xmpp_stream::xml::Element;
use xmpp_testkit::TestLab;

#[tokio::test]
async fn cards_and_private_xml_are_kept() {
    let lab = lab().await;
    let (ann, _events) = person(&lab, "ann@a.test/x").await;
    assert_eq!(ann.vcard(None).await.expect("an answer"), None);
    let mut card = VCard::default()
        .with(&["FN"], "Ann")
        .with(&["ADR", "CTRY"], "AT");
    let photo = Photo {
        media_type: "image/png".into(),
        bytes: vec![1, 2, 3],
    };
    card.set_photo(&photo);
    ann.set_vcard(&card).await.expect("set");
    let kept = ann.vcard(None).await.expect("an answer").expect("a card");
    assert_eq!(kept.full_name().as_deref(), Some("Ann"));
    assert_eq!(kept.photo(), Some(photo));
    let (ben, _events) = person(&lab, "ben@a.test/y").await;
    assert!(
        ben.vcard(Some(&bare("ann@a.test")))
            .await
            .expect("an answer")
            .is_some()
    );
    assert_eq!(
        ben.vcard(Some(&bare("nobody@a.test")))
            .await
            .expect("an answer"),
        None
    );

    let notes = Element::new("urn:x", "notes").with_text("milk");
    ann.set_private_xml(notes.clone()).await.expect("set");
    assert_eq!(
        ann.private_xml("urn:x", "notes").await.expect("an answer"),
        notes
    );
    let none = ann.private_xml("urn:x", "other").await.expect("an answer");
    assert_eq!(none, Element::new("urn:x", "other"));
}

#[tokio::test]
async fn others_are_asked_what_they_are() {
    let lab = lab().await;
    let (ann, _events) = person(&lab, "ann@a.test/x").await;
    let server = jid("a.test");
    assert!(
        ann.disco_info(&server, None)
            .await
            .expect("an answer")
            .is("server", "im")
    );
    assert!(ann.disco_items(&server, None).await.is_ok());
    assert!(
        !ann.version_of(&server)
            .await
            .expect("an answer")
            .name
            .is_empty()
    );
    assert_eq!(
        ann.time_of(&server).await.expect("an answer").offset,
        "+00:00"
    );
    assert!(matches!(ann.ping(None).await, Ok(Outcome::Pong { .. })));
    assert!(ann.commands(&server).await.is_err(), "the server has none");
    assert!(
        ann.search_questions(&server).await.is_err(),
        "nor a directory"
    );
}

#[tokio::test]
async fn li_07_others_get_their_answers() {
    let lab = lab().await;
    let (_ann, _events) = person(&lab, "ann@a.test/x").await;
    let (ben, _more) = person(&lab, "ben@a.test/y").await;
    let device = jid("ann@a.test/x");
    assert!(matches!(
        ben.ping(Some(&device)).await,
        Ok(Outcome::Pong { .. })
    ));
    assert_eq!(
        ben.version_of(&device).await.expect("an answer").name,
        "xmpp-client"
    );
    assert!(ben.time_of(&device).await.is_ok());
    assert!(
        ben.disco_info(&device, None)
            .await
            .expect("an answer")
            .is("client", "pc")
    );
    assert!(ben.commands(&device).await.is_err());
}

async fn open_lab() -> TestLab {
    let open = TestLab::with(["a.test"], |config| {
        for domain in &mut config.domains {
            domain.registration = Registration::Open;
        }
    });
    open.await.expect("a server")
}

fn builder(lab: &TestLab, jid: &str) -> Builder {
    let address = lab.place("a.test").address.to_string();
    XmppClient::builder(jid)
        .ca_pem(lab.ca_pem())
        .connect_to(&address)
}

#[tokio::test]
async fn im_ib_01_a_guest_registers_and_signs_in() {
    let lab = open_lab().await;
    let mut guest = builder(&lab, "a.test")
        .connect_guest()
        .await
        .expect("a stream");
    let mut asked = guest.questions().await.expect("an answer");
    assert!(!asked.is_registered);
    assert_eq!(asked.names(), ["username", "password"]);
    let missing = guest
        .register(&asked)
        .await
        .expect_err("nothing is filled in");
    assert_eq!(
        missing,
        RegisterError::Missing(vec!["username".into(), "password".into()])
    );
    lab.account("ben@a.test").await;
    assert!(asked.set("username", "ben") && asked.set("password", "secret"));
    assert_eq!(guest.register(&asked).await, Err(RegisterError::Conflict));
    assert_eq!(
        guest.exists("ben").await,
        Ok(None),
        "our server does not tell"
    );
    asked.set("username", "Ann");
    let registered = guest.register(&asked).await.expect("an account");
    let account = guest.account(&registered).expect("an address");
    assert_eq!(account.as_str(), "ann@a.test");
    guest.disconnect().await.expect("an end in order");

    let ann = builder(&lab, account.as_str())
        .password("secret")
        .connect()
        .await;
    ann.expect("signed in")
        .disconnect()
        .await
        .expect("an end in order");
}

#[tokio::test]
async fn im_ib_01_where_nobody_may_register_a_guest_is_told_so() {
    let closed = TestLab::with(["a.test"], |config| {
        for domain in &mut config.domains {
            domain.registration = Registration::Closed;
        }
    });
    let lab = closed.await.expect("a server");
    let mut guest = builder(&lab, "a.test")
        .connect_guest()
        .await
        .expect("a stream");
    let refused = guest.questions().await.expect_err("closed");
    assert!(
        matches!(
            refused,
            RegisterError::NotAllowed(_) | RegisterError::Request(_)
        ),
        "{refused}"
    );
}

#[tokio::test]
async fn im_ib_03_passwords_are_changed_and_accounts_removed() {
    let lab = open_lab().await;
    let (ann, mut events) = person(&lab, "ann@a.test/x").await;
    let on_file = ann.registration(None).await.expect("an answer");
    assert!(on_file.is_registered);
    ann.change_password("another one").await.expect("changed");
    let again = builder(&lab, "ann@a.test/z")
        .password("another one")
        .connect()
        .await;
    again
        .expect("the new password")
        .disconnect()
        .await
        .expect("an end in order");
    ann.unregister(None).await.expect("removed");
    until(&mut events, |event| {
        matches!(event, ImEvent::Disconnected { .. })
    })
    .await;
    assert!(lab.accounts().await.is_empty());
}
