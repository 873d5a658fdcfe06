//! The queue by hand: what leaves when, and what happens at each bound, from both sides.

use super::*;
use crate::store::RowIds;
use std::sync::Arc;
use std::time::UNIX_EPOCH;
use xmpp_stream::jid::Jid;
use xmpp_stream::stanza::{Rendered, Stanza, To};

fn limits() -> Limits {
    Limits {
        outbox_items_soft: 4,
        outbox_items_hard: 8,
        sm_unacked_max: 3,
        ..Limits::default()
    }
}

fn shared(id: &str, class: Class) -> Arc<Rendered> {
    let from = Jid::parse(&format!("{}@a.test/r", id.trim_end_matches('+'))).unwrap();
    let stanza = match class {
        Class::Presence => Stanza::presence(xmpp_stream::stanza::Ty::None),
        _ => Stanza::chat("b@a.test", "hi").unwrap(),
    };
    let stanza = stanza.with_from(from).with_id(id);
    Arc::new(Rendered::new(Arc::new(stanza), class))
}

fn message(id: &str) -> OutItem {
    Item::Shared(To::AsWritten, shared(id, Class::Message), None)
}

fn presence(id: &str) -> OutItem {
    Item::Shared(To::Bare, shared(id, Class::Presence), None)
}

/// A message with a row.
fn kept(ids: &RowIds) -> (RowId, Arc<Delivery>, OutItem) {
    let id = ids.next(UNIX_EPOCH);
    let delivery = Arc::new(Delivery::kept(id, TicketView::committed()));
    let rendered = shared("m", Class::Message);
    let item = Item::Shared(To::AsWritten, rendered, Some(Arc::clone(&delivery)));
    (id, delivery, item)
}

/// What is handed to the transport now, by id.
fn sent(outbox: &Outbox) -> Vec<String> {
    let mut ids = Vec::new();
    outbox.send(&limits(), |item| {
        match item {
            Item::Shared(_, rendered, _) => {
                ids.push(rendered.stanza().head.id.as_deref().unwrap().to_owned());
            }
            Item::Nonza(bytes) if bytes.is_empty() => {}
            Item::Nonza(bytes) => ids.push(String::from_utf8_lossy(bytes).into_owned()),
            _ => ids.push("?".into()),
        }
        true
    });
    ids
}

fn managed() -> Outbox {
    let outbox = Outbox::default();
    outbox.count(Box::from(*b"<enabled/>"), &limits());
    assert_eq!(sent(&outbox), ["<enabled/>"]);
    outbox.flushed();
    outbox
}

#[test]
fn an_item_leaves_when_it_was_written() {
    let (outbox, ids) = (Outbox::default(), RowIds::after(None));
    let (id, delivery, item) = kept(&ids);
    outbox.push(item, &limits());
    assert!(outbox.flushed().is_empty(), "not sent yet");
    assert_eq!(sent(&outbox), ["m"]);
    assert!(delivery.is_held() && !delivery.is_taken());
    assert_eq!(outbox.flushed(), [id]);
    assert!(!delivery.is_held() && delivery.is_taken());
}

#[test]
fn im_sm_04_with_stream_management_it_leaves_when_it_was_acknowledged() {
    let (outbox, ids) = (managed(), RowIds::after(None));
    let (first, delivery, item) = kept(&ids);
    outbox.push(item, &limits());
    outbox.push(message("2"), &limits());
    assert_eq!(outbox.acknowledged(1), Err(TooHigh { sent: 0 }));
    assert_eq!(sent(&outbox), ["m", "2"]);
    assert!(outbox.flushed().is_empty() && delivery.is_held());
    assert_eq!(outbox.acknowledged(0), Ok(vec![]));
    assert_eq!(outbox.acknowledged(1), Ok(vec![first]));
    assert!(delivery.is_taken());
    assert_eq!(outbox.unacknowledged(), Some(1));
    assert_eq!(outbox.acknowledged(3), Err(TooHigh { sent: 2 }));
    assert_eq!(outbox.acknowledged(2), Ok(vec![]));
    assert_eq!(outbox.load(), (0, 0));
}

/// Nobody counts at the other end, and messages are asked about (`s2s::pings`).
#[test]
fn x0199_what_is_asked_about_is_what_stands_from_the_first_message_on() {
    let outbox = Outbox::default();
    outbox.begin(true);
    outbox.probe();
    let push = |items: Vec<OutItem>| {
        for item in items {
            outbox.push(item, &limits());
        }
        sent(&outbox).len()
    };
    assert_eq!(push(vec![presence("1"), presence("2")]), 2);
    assert_eq!(outbox.load().0, 2, "not written yet");
    outbox.flushed();
    assert_eq!(outbox.load(), (0, 0));
    assert_eq!(outbox.sent_count(), 2);
    assert_eq!(push(vec![presence("3"), message("4"), presence("5")]), 3);
    let asked = outbox.sent_count();
    outbox.flushed();
    assert_eq!(outbox.ids(), "4 5 | ");
    assert_eq!(outbox.acknowledged(asked + 1), Err(TooHigh { sent: asked }));
    assert_eq!(
        push(vec![message("6"), presence("7")]),
        1,
        "three are the bound"
    );
    outbox.flushed();
    assert_eq!(outbox.acknowledged(asked), Ok(vec![]));
    assert_eq!(outbox.ids(), "6 | 7 ");
    assert_eq!(sent(&outbox), ["7"]);
    outbox.acknowledged(asked + 1).unwrap();
    assert_eq!(outbox.ids(), "7 | ");
    outbox.flushed();
    assert_eq!(outbox.load(), (0, 0));
    // Nobody answers: what was written is taken.
    push(vec![message("8")]);
    outbox.flushed();
    assert_eq!(outbox.ids(), "8 | ");
    outbox.uncount();
    outbox.flushed();
    assert_eq!(outbox.load(), (0, 0));
}

#[test]
fn im_sm_05_what_was_sent_before_does_not_count() {
    let outbox = Outbox::default();
    outbox.push(message("before"), &limits());
    outbox.count(Box::from(*b"<enabled/>"), &limits());
    outbox.push(message("after"), &limits());
    assert_eq!(sent(&outbox), ["before", "<enabled/>", "after"]);
    outbox.flushed();
    assert_eq!(outbox.unacknowledged(), Some(1));
    assert_eq!(outbox.acknowledged(2), Err(TooHigh { sent: 1 }));
    assert_eq!(outbox.acknowledged(1), Ok(vec![]));
}

#[test]
fn im_sm_04_the_count_wraps() {
    let outbox = managed();
    outbox.push(message("m"), &limits());
    sent(&outbox);
    // What was acknowledged is no more than a number: put it at the edge.
    outbox.lock().set_acknowledged(u32::MAX);
    assert_eq!(outbox.acknowledged(1), Err(TooHigh { sent: 0 }));
    assert_eq!(outbox.acknowledged(0), Ok(vec![]));
    assert_eq!(outbox.load(), (0, 0));
}

#[test]
fn im_sm_08_what_was_not_acknowledged_is_sent_again_also_after_a_replay_cut_short() {
    let outbox = managed();
    for id in ["1", "2", "3"] {
        outbox.push(message(id), &limits());
    }
    assert_eq!(sent(&outbox), ["1", "2", "3"]);
    outbox.acknowledged(1).unwrap();
    outbox.rewind();
    outbox.push(message("4"), &limits());
    let mut one = Vec::new();
    outbox.send(&limits(), |item| {
        one.push(matches!(item, Item::Shared(..)));
        false
    });
    assert_eq!(one, [true], "cut short after one");
    // It had all three over the first transport.
    assert_eq!(outbox.acknowledged(3), Ok(vec![]));
    outbox.rewind();
    assert_eq!(sent(&outbox), ["4"]);
    assert_eq!(outbox.acknowledged(4), Ok(vec![]));
    assert_eq!(outbox.load(), (0, 0));
}

#[test]
fn im_sm_17_the_writer_pauses_at_the_bound() {
    let outbox = managed();
    for id in ["1", "2", "3", "4"] {
        outbox.push(message(id), &limits());
    }
    assert_eq!(
        sent(&outbox),
        ["1", "2", "3"],
        "three may be unacknowledged"
    );
    assert!(sent(&outbox).is_empty());
    outbox.acknowledged(1).unwrap();
    assert_eq!(sent(&outbox), ["4"]);
}

#[test]
fn im_sm_17_the_writer_pauses_at_so_many_bytes() {
    let outbox = managed();
    let size = shared("1", Class::Message).len();
    let limits = |bytes| Limits {
        sm_unacked_bytes_max: bytes,
        ..Limits::default()
    };
    outbox.push(message("1"), &limits(0));
    outbox.push(message("2"), &limits(0));
    let mut count = 0;
    let mut send = |bytes| {
        outbox.send(&limits(bytes), |_| {
            count += 1;
            true
        });
        count
    };
    assert_eq!(send(size), 1);
    assert_eq!(send(size + 1), 2);
}

#[test]
fn over_the_soft_bound_the_producer_is_told() {
    let outbox = Outbox::default();
    for _ in 0..4 {
        assert_eq!(outbox.push(message("m"), &limits()), Push::Ok);
    }
    assert_eq!(outbox.push(message("m"), &limits()), Push::Soft);
}

#[test]
fn over_the_hard_bound_the_session_is_marked_and_not_ended() {
    let outbox = Outbox::default();
    for _ in 0..8 {
        outbox.push(message("m"), &limits());
    }
    assert!(!outbox.is_marked());
    assert_eq!(outbox.push(message("m"), &limits()), Push::Full);
    assert!(outbox.is_marked() && !outbox.is_closed());
    outbox.unmark();
    assert!(!outbox.is_marked());
    assert_eq!(outbox.close().len(), 9);
}

#[test]
fn bytes_are_bounded_like_items() {
    let limits = Limits::default();
    let size = shared("m", Class::Message).len();
    let (fit, outbox) = (limits.outbox_bytes_hard_total() / size, Outbox::default());
    let wide = Limits {
        outbox_items_hard: usize::MAX,
        ..limits
    };
    for _ in 0..fit {
        outbox.push(message("m"), &wide);
    }
    assert!(!outbox.is_marked());
    assert_eq!(outbox.push(message("m"), &wide), Push::Full);
}

#[test]
fn availability_is_coalesced_over_the_soft_bound_only() {
    let outbox = Outbox::default();
    for id in ["ann", "ben", "ann+", "ben+"] {
        outbox.push(presence(id), &limits());
    }
    assert_eq!(outbox.load().0, 4, "all four below the bound");
    outbox.push(message("x"), &limits());
    outbox.push(presence("ann++"), &limits());
    outbox.push(presence("ben++"), &limits());
    outbox.push(presence("ann+++"), &limits());
    assert_eq!(
        sent(&outbox),
        ["ann", "ben", "x", "ben++", "ann+++"],
        "the newest before the bound and the older one of each sender make room"
    );
}

#[test]
fn availability_that_was_sent_is_not_taken_back() {
    let outbox = Outbox::default();
    for id in ["1", "2", "3", "4", "5"] {
        outbox.push(message(id), &limits());
    }
    outbox.push(presence("ann"), &limits());
    assert_eq!(sent(&outbox).len(), 6);
    outbox.push(presence("ann+"), &limits());
    assert_eq!(sent(&outbox), ["ann+"]);
    assert_eq!(outbox.close().len(), 7);
}

#[test]
fn what_others_send_waits_behind_the_gate() {
    let outbox = Outbox::default();
    outbox.push(message("before"), &limits());
    outbox.shut_gate();
    outbox.push(message("live"), &limits());
    outbox.push(Item::Nonza(Box::from(*b"<own/>")), &limits());
    outbox.place(message("due"));
    assert_eq!(sent(&outbox), ["before", "<own/>", "due"]);
    outbox.open_gate();
    assert_eq!(sent(&outbox), ["live"]);
}

#[test]
fn withdrawn_is_what_was_not_sent_and_is_not_for_this_resource() {
    let (outbox, ids) = (Outbox::default(), RowIds::after(None));
    let (_, first, item) = kept(&ids);
    outbox.push(item, &limits());
    assert_eq!(sent(&outbox), ["m"]);
    let (_, second, item) = kept(&ids);
    outbox.push(presence("ann"), &limits());
    outbox.push(item, &limits());
    assert!(outbox.withdraw("b@a.test").is_empty(), "for this resource");
    assert_eq!(outbox.withdraw("b@a.test/r").len(), 1);
    assert!(first.is_held() && !second.is_held());
    assert_eq!(sent(&outbox), ["ann"]);
}

#[test]
fn the_end_gives_back_what_nobody_took_in_order() {
    let (outbox, ids) = (managed(), RowIds::after(None));
    let (_, first, item) = kept(&ids);
    outbox.push(item, &limits());
    sent(&outbox);
    outbox.shut_gate();
    let (_, second, item) = kept(&ids);
    outbox.push(item, &limits());
    let left = outbox.close();
    assert_eq!(left.len(), 2);
    assert!(!first.is_held() && !second.is_held() && !first.is_taken());
    assert_eq!(outbox.push(message("m"), &limits()), Push::Closed);
}

#[test]
fn a_flood_of_presence_leaves_nothing_behind() {
    let outbox = managed();
    for id in 0..8 {
        outbox.push(message(&id.to_string()), &limits());
    }
    assert_eq!(
        sent(&outbox),
        ["0", "1", "2"],
        "the bound of acknowledgements"
    );
    for _ in 0..10_000 {
        outbox.push(presence("ann"), &limits());
        outbox.push(presence("ben"), &limits());
    }
    assert_eq!(outbox.load().0, 8 + 2);
    let slots = outbox.ids().split_whitespace().count();
    assert!(slots < 200, "{slots} places");
    // What an error waits behind is found all the same.
    let end = outbox.end_number();
    let mut left = outbox.unacknowledged().unwrap() as u32;
    let mut all = Vec::new();
    while outbox.sent_until() < end {
        outbox.acknowledged(left).unwrap();
        all.extend(sent(&outbox));
        left = (all.len() + 3) as u32;
    }
    assert_eq!(all, ["3", "4", "5", "6", "7", "ann", "ben"]);
}

/// One that had been sent, and was to be sent again, gave way to a newer one: the client's count then
/// covered less than it had received, and the rest came twice.
#[test]
fn im_sm_14_presence_that_the_client_may_have_counted_stays() {
    let outbox = managed();
    for item in [message("0"), presence("ann"), message("1")] {
        outbox.push(item, &limits());
    }
    assert_eq!(sent(&outbox), ["0", "ann", "1"]);
    outbox.rewind();
    for id in 2..5 {
        outbox.push(message(&id.to_string()), &limits());
    }
    outbox.push(presence("ann+"), &limits());
    // It had received all three.
    outbox.acknowledged(3).unwrap();
    assert_eq!(sent(&outbox), ["2", "3", "4"]);
    outbox.acknowledged(6).unwrap();
    assert_eq!(sent(&outbox), ["ann+"]);
    outbox.acknowledged(7).unwrap();
    assert_eq!(outbox.load(), (0, 0));
}

/// A session that no longer wants messages gave back what it had been sent before it was resumed.
#[test]
fn im_sm_08_what_was_sent_before_resumption_stays_with_the_session() {
    let outbox = managed();
    outbox.push(message("1"), &limits());
    assert_eq!(sent(&outbox), ["1"]);
    outbox.rewind();
    outbox.push(message("2"), &limits());
    assert_eq!(outbox.withdraw("x").len(), 1);
    assert_eq!(sent(&outbox), ["1"]);
    outbox.push(presence("ann"), &limits());
    outbox.acknowledged(1).unwrap();
    assert_eq!(sent(&outbox), ["ann"]);
}

/// DESIGN 5 rule 1: whoever cuts holds the account's lock, and no lock is held across a wake.
#[test]
fn a_cut_leaves_the_wake_to_its_caller() {
    struct Woken(AtomicBool);
    impl std::task::Wake for Woken {
        fn wake(self: Arc<Self>) {
            self.0.store(true, Ordering::SeqCst);
        }
    }
    let woken = Arc::new(Woken(AtomicBool::new(false)));
    let (outbox, waker) = (Outbox::default(), Arc::clone(&woken).into());
    let mut cx = Context::from_waker(&waker);
    assert!(
        outbox
            .poll_ready(&mut cx, false, &Limits::default())
            .is_pending()
    );
    outbox.cut();
    assert!(!woken.0.load(Ordering::SeqCst));
    outbox.wake();
    assert!(woken.0.load(Ordering::SeqCst));
    assert!(
        outbox
            .poll_ready(&mut cx, false, &Limits::default())
            .is_ready()
    );
}
