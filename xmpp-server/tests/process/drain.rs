//! SIGTERM while messages flow: everybody is told, and what was acknowledged is there (DESIGN 1, 10).

use crate::kit::{Ready, Temp, ready, user_with};
use crate::peer::Peer;
use std::path::Path;
use std::sync::mpsc::{Sender, channel};
use std::thread;
use std::time::Duration;

const CLIENTS: usize = 4;
/// Messages between two questions of a client.
const BATCH: usize = 10;
/// Messages that are acknowledged when the signal comes; below what is kept for an account.
const BEFORE: usize = 300;
const DRAIN: Duration = Duration::from_secs(10);

fn sign_in(server: &Ready, data: &Path, name: &str) -> Peer {
    let ca = data.join("ca/ca.pem");
    let jid = format!("{name}@localhost");
    Peer::sign_in(server.starttls(), &ca, &jid, "secret").unwrap()
}

/// `h` of an `<a/>`.
fn count(tag: &str) -> Option<usize> {
    let (_, rest) = tag.split_once("<a ")?.1.split_once("h='")?;
    rest.split_once('\'')?.0.parse().ok()
}

/// Sends until the stream is closed; gives what was acknowledged, what was sent, and the last words.
fn talk(mut peer: Peer, client: usize, told: &Sender<usize>) -> (usize, usize, String) {
    peer.send("<enable xmlns='urn:xmpp:sm:3'/>");
    peer.until("<enabled xmlns='urn:xmpp:sm:3'/>");
    let (mut sent, mut h) = (0, 0);
    let mut last = String::new();
    loop {
        let batch = (sent..sent + BATCH).map(|n| {
            format!("<message to='ann@localhost' type='chat'><body>{client}:{n};</body></message>")
        });
        let batch: String = batch.collect();
        peer.send(&(batch + "<r xmlns='urn:xmpp:sm:3'/>"));
        sent += BATCH;
        let before = h;
        while h < sent {
            let tag = peer.until(">");
            h = count(&tag).unwrap_or(h);
            last.push_str(&tag);
            if tag.ends_with("</stream:stream>") {
                peer.send("</stream:stream>");
                assert_eq!(peer.rest(), "", "nothing behind the closing tag");
                return (h, sent, last);
            }
        }
        last.clear();
        // Nobody counts any more once the signal was sent.
        let _ = told.send(h - before);
    }
}

#[test]
fn im_sm_13_sigterm_in_the_middle_of_traffic_loses_nothing_that_was_acknowledged() {
    let temp = Temp::new();
    let data = temp.data();
    let names = ["ann", "c0", "c1", "c2", "c3"];
    for name in names {
        let arguments = ["add", &format!("{name}@localhost"), "--password-stdin"];
        let added = user_with(&data, &arguments, "secret\n");
        assert_eq!(added.code, Some(0), "{added:?}");
    }
    let server = ready(&data, &[]);
    let (told, heard) = channel();
    let talks: Vec<_> = (0..CLIENTS)
        .map(|client| {
            let peer = sign_in(&server, &data, names[client + 1]);
            let told = told.clone();
            thread::spawn(move || talk(peer, client, &told))
        })
        .collect();
    let mut acknowledged = 0;
    while acknowledged < BEFORE {
        acknowledged += heard.recv().unwrap();
    }
    server.process.signal("TERM");
    let (ended, took) = server.process.timed_end();
    assert_eq!(ended.code, Some(0), "{ended:?}");
    assert!(took < DRAIN, "{took:?}");
    let ends: Vec<_> = talks.into_iter().map(|talk| talk.join().unwrap()).collect();

    let server = ready(&data, &[]);
    let mut ann = sign_in(&server, &data, "ann");
    ann.send("<presence/><iq type='get' id='end'><ping xmlns='urn:xmpp:ping'/></iq>");
    let text = ann.until("id='end'");
    for (client, (h, sent, last)) in ends.iter().enumerate() {
        assert!(last.contains("<system-shutdown"), "{last}");
        let mark = format!("<body>{client}:");
        let there = text.split(&*mark).skip(1);
        let there = there.map(|rest| rest.split_once(';').unwrap().0.parse().unwrap());
        let there: Vec<usize> = there.collect();
        let expected: Vec<usize> = (0..there.len()).collect();
        assert_eq!(there, expected, "each once and in order");
        let n = there.len();
        assert!(
            (*h..=*sent).contains(&n),
            "{h} acknowledged, {n} there, {sent} sent"
        );
    }
    ann.send("</stream:stream>");
    ann.rest();
    drop(ann);
    server.stop();
}
