//! Which results count, and what a query looks like.

use super::*;

fn results(room: Option<&str>) -> Results {
    Results {
        own: FullJid::parse("ann@a.test/x").unwrap(),
        room: room.map(|room| BareJid::parse(room).unwrap()),
        query_id: "q".into(),
        max: 1,
        bytes: 0,
        messages: Vec::new(),
    }
}

fn result(from: &str, query_id: &str, id: &str, inside: &str) -> Stanza {
    let (mam, forward) = (ns::MAM, ns::FORWARD);
    let result = format!(
        "<result xmlns='{mam}' queryid='{query_id}'{id}>\
         <forwarded xmlns='{forward}'>{inside}</forwarded></result>"
    );
    Stanza::parse(&format!("<message{from}>{result}</message>")).unwrap()
}

const MESSAGE: &str =
    "<message xmlns='jabber:client' from='ben@b.test/y'><body>hi</body></message>";

#[test]
fn ck_03_results_count_from_the_archive_that_was_asked() {
    #[track_caller]
    fn check(room: Option<&str>, from: &str, counts: bool) {
        let stanza = result(from, "q", " id='1'", MESSAGE);
        let got = results(room).read(&stanza);
        assert_eq!(got.is_ok_and(|result| result.is_some()), counts, "{from}");
    }
    check(None, "", true);
    check(None, " from='ann@a.test'", true);
    check(None, " from='ann@a.test/y'", false);
    check(None, " from='a.test'", false);
    check(None, " from='eve@a.test'", false);
    let room = Some("room@c.test");
    check(room, " from='room@c.test'", true);
    check(room, " from='room@c.test/eve'", false);
    check(room, " from='ann@a.test'", false);
    check(room, "", false);
}

#[test]
fn ck_03_results_count_with_the_id_of_the_open_query() {
    let read = |stanza: Stanza| results(None).read(&stanza).unwrap();
    assert!(read(result("", "q", " id='1'", MESSAGE)).is_some());
    assert!(read(result("", "other", " id='1'", MESSAGE)).is_none());
    assert!(read(result("", "", " id='1'", MESSAGE)).is_none());
    assert!(read(result("", "q", "", MESSAGE)).is_none());
    let iq = "<iq xmlns='jabber:client' type='set' id='1'/>";
    assert!(read(result("", "q", " id='1'", iq)).is_none());
    let live = Stanza::parse("<message><body>hi</body></message>").unwrap();
    assert!(read(live.clone()).is_none());
    assert!(!is_result(&live));
    assert!(is_result(&result("", "other", "", MESSAGE)));
}

#[test]
fn xep0313_more_than_was_asked_for_is_refused() {
    let mut results = results(None);
    let stanza = result("", "q", " id='1'", MESSAGE);
    assert_eq!(results.take(&stanza), Ok(()));
    assert_eq!(results.take(&stanza), Err(MamError::TooMuch));
}

#[test]
fn xep0313_a_page_is_bounded_in_bytes() {
    let long = "x".repeat(PAGE_BYTES_MAX / 10);
    let message = MESSAGE.replace("hi", &long);
    let mut results = Results {
        max: usize::MAX,
        ..results(None)
    };
    let stanza = result("", "q", " id='1'", &message);
    let taken = (0..20).take_while(|_| results.take(&stanza).is_ok());
    assert_eq!(taken.count(), 9);
}

#[test]
fn xep0313_a_query_says_what_is_wanted() {
    let query = Query {
        with: Some(Jid::parse("ben@b.test").unwrap()),
        start: Some(SystemTime::UNIX_EPOCH),
        after_id: Some("7".into()),
        ..Query::default()
    };
    let element = to_element(&query, "q", &PageRequest::after(50, "8"));
    let form = Form::find(&element).unwrap();
    assert_eq!(form.form_type(), Some(ns::MAM));
    assert_eq!(form.value("with"), Some("ben@b.test"));
    assert_eq!(form.value("start"), Some("1970-01-01T00:00:00.000Z"));
    assert_eq!(form.value("after-id"), Some("7"));
    assert_eq!(form.value("end"), None);
    let set = PageRequest::parse(element.child(ns::RSM, "set").unwrap());
    assert_eq!(set, Some(PageRequest::after(50, "8")));
}

#[test]
fn ck_04_a_stanza_id_counts_from_the_archive_that_gave_it() {
    let xml = "<message><stanza-id xmlns='urn:xmpp:sid:0' id='evil' by='eve@a.test'/>\
               <stanza-id xmlns='urn:xmpp:sid:0' id='good' by='ann@a.test'/></message>";
    let stanza = Stanza::parse(xml).unwrap();
    let id = |by: &str| stanza_id(&stanza, &BareJid::parse(by).unwrap());
    assert_eq!(id("ann@a.test").as_deref(), Some("good"));
    assert_eq!(id("room@c.test"), None);
}

#[test]
fn what_is_remembered_of_an_archive_does_not_grow_with_it() {
    let mut seen = Seen::default();
    for number in 0..1000_usize {
        // Pages of three of which the first is the last of the page before.
        let archived = |id: usize| Archived {
            id: id.to_string(),
            stamp: None,
            message: Stanza::parse(MESSAGE).unwrap(),
        };
        let ids = number * 2..=number * 2 + 2;
        let mut page: Vec<Archived> = ids.map(archived).collect();
        seen.take(&mut page);
        assert_eq!(page.len(), if number == 0 { 3 } else { 2 });
        assert!(!seen.is_round(&Some(rsm::From::After(number.to_string()))));
        assert_eq!(seen.last_page.len(), 3);
    }
}
