//! Archives (XEP-0313): pages until complete, and results that nobody asked for.

use super::fake::Fake;
use xmpp_client::ext::RequestError;
use xmpp_client::ext::mam::{self, Bounds, MamError, Order, Page, Query};
use xmpp_client::{BareJid, IqError, Stanza, XmppClient};
use xmpp_stream::payload::rsm::PageRequest;
use xmpp_stream::xml::Element;

const OWN: &str = "ann@a.test";

fn query_of(stanza: &Stanza) -> Element {
    stanza.first_element().expect("a query")
}

fn query_id(stanza: &Stanza) -> String {
    query_of(stanza).attr("queryid").expect("an id").to_owned()
}

fn page_of(stanza: &Stanza) -> PageRequest {
    let query = query_of(stanza);
    let set = query.children().find(|child| child.name() == "set");
    PageRequest::parse(set.expect("a page")).expect("a page")
}

fn result(from: &str, query_id: &str, id: &str) -> String {
    format!(
        "<message from='{from}' to='ann@a.test/x'>\
         <result xmlns='urn:xmpp:mam:2' queryid='{query_id}' id='{id}'>\
         <forwarded xmlns='urn:xmpp:forward:0'>\
         <delay xmlns='urn:xmpp:delay' stamp='1970-01-01T00:00:00Z'/>\
         <message xmlns='jabber:client' from='ben@b.test/y' type='chat'>\
         <body>{id}</body></message></forwarded></result></message>"
    )
}

fn fin(complete: bool, ids: &[&str]) -> String {
    let complete = if complete { " complete='true'" } else { "" };
    let set = match (ids.first(), ids.last()) {
        (Some(first), Some(last)) => format!("<first>{first}</first><last>{last}</last>"),
        _ => String::new(),
    };
    format!(
        "<fin xmlns='urn:xmpp:mam:2'{complete}>\
         <set xmlns='http://jabber.org/protocol/rsm'>{set}</set></fin>"
    )
}

/// Answers one query with these messages.
async fn answer(fake: &mut Fake, ids: &[&str], complete: bool) -> Stanza {
    let asked = fake.next().await;
    for id in ids {
        fake.send(&result(OWN, &query_id(&asked), id));
    }
    fake.result(&asked, &fin(complete, ids));
    asked
}

fn ids(page: &Page) -> Vec<&str> {
    page.messages.iter().map(|message| &*message.id).collect()
}

/// Reads all pages; the ids in each, and how it ended.
async fn read(
    client: &XmppClient,
    query: Query,
    bounds: Bounds,
) -> (Vec<Vec<String>>, Result<bool, MamError>) {
    let mut pages = mam::pages(client, None, query, bounds)
        .await
        .expect("pages");
    let mut read = Vec::new();
    loop {
        match pages.next().await {
            Ok(Some(page)) => read.push(ids(&page).into_iter().map(Into::into).collect()),
            Ok(None) => return (read, Ok(pages.is_cut())),
            Err(error) => {
                assert!(pages.next().await.expect("an end").is_none(), "{error}");
                return (read, Err(error));
            }
        }
    }
}

#[tokio::test]
async fn ss_08_pages_follow_until_the_archive_is_complete() {
    let (mut fake, client) = Fake::start("ann@a.test/x").await;
    let reading =
        tokio::spawn(async move { read(&client, Query::default(), Bounds::default()).await });
    let first = answer(&mut fake, &["1", "2"], false).await;
    assert_eq!(page_of(&first), PageRequest::first(50));
    let second = answer(&mut fake, &["3", "4"], false).await;
    assert_eq!(page_of(&second), PageRequest::after(50, "2"));
    let third = answer(&mut fake, &[], true).await;
    assert_eq!(page_of(&third), PageRequest::after(50, "4"));
    let (pages, end) = reading.await.expect("a task");
    assert_eq!(pages, [vec!["1", "2"], vec!["3", "4"], vec![]]);
    assert_eq!(end, Ok(false));
}

#[tokio::test]
async fn ss_08_the_newest_page_comes_first_where_that_is_wanted() {
    let (mut fake, client) = Fake::start("ann@a.test/x").await;
    let query = Query {
        order: Order::NewestFirst,
        ..Query::default()
    };
    let bounds = Bounds { page: 2, total: 4 };
    let reading = tokio::spawn(async move { read(&client, query, bounds).await });
    let first = answer(&mut fake, &["8", "9"], false).await;
    assert_eq!(page_of(&first), PageRequest::last(2));
    let second = answer(&mut fake, &["6", "7"], false).await;
    assert_eq!(page_of(&second), PageRequest::before(2, "8"));
    let (pages, end) = reading.await.expect("a task");
    assert_eq!(pages, [["8", "9"], ["6", "7"]]);
    assert_eq!(end, Ok(true), "cut at the total");
}

#[tokio::test]
async fn ck_03_results_that_nobody_asked_for_are_not_taken() {
    let (mut fake, client) = Fake::start("ann@a.test/x").await;
    let reading =
        tokio::spawn(async move { read(&client, Query::default(), Bounds::default()).await });
    let asked = fake.next().await;
    let id = query_id(&asked);
    for from in ["eve@a.test", "a.test", "ann@a.test/y", "room@c.test"] {
        fake.send(&result(from, &id, "forged"));
    }
    fake.send(&result(OWN, "another", "stale"));
    fake.send(&result(OWN, &id, "1"));
    fake.send(&result(OWN, &id, "1"));
    fake.result(&asked, &fin(true, &["1"]));
    let (pages, end) = reading.await.expect("a task");
    assert_eq!(pages, [["1"]]);
    assert_eq!(end, Ok(false));
}

#[tokio::test]
async fn ck_03_a_room_answers_for_its_own_archive() {
    let (mut fake, client) = Fake::start("ann@a.test/x").await;
    let reading = tokio::spawn(async move {
        let room = BareJid::parse("room@c.test").expect("a JID");
        let asked = PageRequest::first(10);
        mam::page(&client, Some(&room), &Query::default(), &asked).await
    });
    let asked = fake.next().await;
    assert_eq!(
        asked.head.to.as_ref().expect("a room").as_str(),
        "room@c.test"
    );
    let id = query_id(&asked);
    fake.send(&result(OWN, &id, "own"));
    fake.send(&result("room@c.test/eve", &id, "eve"));
    fake.send(&result("room@c.test", &id, "1"));
    fake.result(&asked, &fin(true, &["1"]));
    let page = reading.await.expect("a task").expect("a page");
    assert_eq!(ids(&page), ["1"]);
}

#[tokio::test]
async fn xep0313_archives_that_do_not_end_are_refused() {
    let (mut fake, client) = Fake::start("ann@a.test/x").await;
    let bounds = Bounds {
        page: 2,
        total: 100,
    };
    let read_again = |client: &XmppClient| {
        let client = client.clone();
        tokio::spawn(async move { read(&client, Query::default(), bounds).await.1 })
    };

    let reading = read_again(&client);
    answer(&mut fake, &["1", "2", "3"], false).await;
    assert_eq!(reading.await.expect("a task"), Err(MamError::TooMuch));

    let reading = read_again(&client);
    answer(&mut fake, &["1", "2"], false).await;
    answer(&mut fake, &["2", "1"], false).await;
    assert_eq!(reading.await.expect("a task"), Err(MamError::NoProgress));
}

#[tokio::test]
async fn ss_09_a_forgotten_id_is_told_and_ids_are_named_only_where_known() {
    let (mut fake, client) = Fake::start("ann@a.test/x").await;
    let query = Query {
        after_id: Some("7".into()),
        ..Query::default()
    };
    let info = |features: &str| {
        format!("<query xmlns='http://jabber.org/protocol/disco#info'>{features}</query>")
    };

    let opening = tokio::spawn({
        let (client, query) = (client.clone(), query.clone());
        async move {
            mam::pages(&client, None, query, Bounds::default())
                .await
                .map(|_| ())
        }
    });
    let asked = fake.next().await;
    assert_eq!(asked.head.to.as_ref().expect("ourselves").as_str(), OWN);
    fake.result(&asked, &info("<feature var='urn:xmpp:mam:2'/>"));
    assert_eq!(opening.await.expect("a task"), Err(MamError::NotById));

    let reading = tokio::spawn({
        let client = client.clone();
        async move { read(&client, query, Bounds::default()).await.1 }
    });
    let asked = fake.next().await;
    fake.result(&asked, &info("<feature var='urn:xmpp:mam:2#extended'/>"));
    let asked = fake.next().await;
    let missing = "<item-not-found xmlns='urn:ietf:params:xml:ns:xmpp-stanzas'/>";
    fake.error(&asked, "cancel", missing);
    assert_eq!(reading.await.expect("a task"), Err(MamError::UnknownId));

    // Where none is named it is the archive that is not there, such as that of a room that is gone.
    let all = Query::default();
    let reading = tokio::spawn(async move { read(&client, all, Bounds::default()).await.1 });
    let asked = fake.next().await;
    fake.error(&asked, "cancel", missing);
    let failed = reading.await.expect("a task");
    assert!(matches!(failed, Err(MamError::Request(_))), "{failed:?}");
}

#[tokio::test]
async fn xep0313_an_answer_that_is_none_is_an_error() {
    let (mut fake, client) = Fake::start("ann@a.test/x").await;
    let reading = tokio::spawn({
        let client = client.clone();
        async move { read(&client, Query::default(), Bounds::default()).await.1 }
    });
    let asked = fake.next().await;
    fake.result(&asked, "<other xmlns='urn:x'/>");
    assert!(matches!(
        reading.await.expect("a task"),
        Err(MamError::Request(RequestError::Malformed(_)))
    ));

    let reading =
        tokio::spawn(async move { read(&client, Query::default(), Bounds::default()).await.1 });
    fake.next().await;
    drop(fake);
    assert_eq!(
        reading.await.expect("a task"),
        Err(MamError::Request(IqError::Closed.into()))
    );
}

#[tokio::test]
async fn reading_an_archive_takes_no_live_message_from_the_program() {
    let (mut fake, client) = Fake::start("ann@a.test/x").await;
    let live =
        |id: &str| format!("<message from='ben@b.test/y' id='{id}'><body>live</body></message>");
    fake.send(&live("before"));
    let bounds = Bounds::default();
    let mut pages = mam::pages(&client, None, Query::default(), bounds)
        .await
        .expect("pages");
    let (page, ()) = tokio::join!(pages.next(), async {
        let asked = fake.next().await;
        fake.send(&live("meanwhile"));
        fake.send(&result(OWN, &query_id(&asked), "1"));
        fake.result(&asked, &fin(true, &["1"]));
    });
    assert_eq!(page.expect("a page").expect("a page").messages.len(), 1);
    let mut events = client.events();
    for id in ["before", "meanwhile"] {
        let stanza = events.next_stanza().await.expect("a stanza");
        assert_eq!(stanza.head.id.as_deref(), Some(id));
    }
}

#[tokio::test]
async fn ck_03_an_archive_that_goes_round_comes_to_an_end() {
    let (mut fake, client) = Fake::start("ann@a.test/x").await;
    let bounds = Bounds {
        page: 1,
        total: usize::MAX,
    };
    let held = client.clone();
    let mut reading = tokio::spawn(async move { read(&client, Query::default(), bounds).await });
    let mut round = (1..=5).cycle();
    let (pages, end) = loop {
        let id = round.next().expect("no end").to_string();
        let ids = [&*id];
        tokio::select! {
            biased;
            done = &mut reading => break done.expect("a task"),
            _ = answer(&mut fake, &ids, false) => {}
        }
    };
    drop(held);
    assert!((5..20).contains(&pages.len()), "{}", pages.len());
    assert_eq!(end, Err(MamError::NoProgress));
}
