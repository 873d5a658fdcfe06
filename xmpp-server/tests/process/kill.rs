//! A server that is killed in the middle of everything: what it acknowledged is there (DESIGN 10).

use crate::kit::{Process, Ready, Temp, ready, user_with};
use crate::peer::Peer;
use std::path::Path;

/// Messages of one round.
pub(crate) const MESSAGES: u32 = 1000;
const ANN: &str = "ann@localhost";
/// Messages that the client sends ahead of what was acknowledged.
const AHEAD: u32 = 100;

pub(crate) struct Dice(pub(crate) u64);

impl Dice {
    pub(crate) fn below(&mut self, bound: u32) -> u32 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        (self.0 % u64::from(bound)) as u32
    }
}

pub(crate) fn number(name: &str, otherwise: u64) -> u64 {
    match std::env::var(name) {
        Ok(text) => text.parse().unwrap(),
        Err(_) => otherwise,
    }
}

/// The greatest `h` among answers.
fn counted(text: &str) -> u32 {
    let answers = text.split("<a ").skip(1);
    let counts = answers.filter_map(|rest| {
        let (_, rest) = rest.split_once("h='")?;
        rest.split_once('\'')?.0.parse().ok()
    });
    counts.max().unwrap_or(0)
}

fn message(to: &str, id: u32) -> String {
    format!("<message to='{to}' type='chat' id='{id}'><body>message {id}</body></message>")
}

/// The numbers in what came.
pub(crate) fn numbers(text: &str) -> Vec<u32> {
    let bodies = text.split("<body>message ").skip(1);
    bodies
        .map(|rest| rest.split_once('<').unwrap().0.parse().unwrap())
        .collect()
}

/// Somebody with stream management.
pub(crate) fn managed(server: &Ready, ca: &Path, jid: &str) -> Peer {
    let mut peer = Peer::sign_in(server.starttls(), ca, jid, "secret").unwrap();
    peer.send("<enable xmlns='urn:xmpp:sm:3'/>");
    peer.until("<enabled xmlns='urn:xmpp:sm:3'/>");
    peer
}

/// Sends messages from the first on, a bounded number ahead; kills the server before the last so
/// many. Gives the count that the client was told.
pub(crate) fn send(
    peer: &mut Peer,
    to: &str,
    first: u32,
    kill: Option<(u32, &mut Process)>,
) -> u32 {
    let end = kill.as_ref().map_or(MESSAGES, |(at, _)| *at);
    let (mut sent, mut h) = (first, 0);
    while sent < end {
        let upto = (sent + 10).min(end);
        let mut text: String = (sent..upto).map(|id| message(to, id)).collect();
        text.push_str("<r xmlns='urn:xmpp:sm:3'/>");
        peer.send(&text);
        sent = upto;
        while sent - first > h + AHEAD {
            peer.until("<a ");
            let answer = format!("<a {}", peer.until("/>"));
            h = h.max(counted(&answer));
        }
    }
    match kill {
        Some((_, server)) => {
            server.kill();
            first + h.max(counted(&peer.rest()))
        }
        None => {
            while first + h < MESSAGES {
                peer.send("<r xmlns='urn:xmpp:sm:3'/>");
                peer.until("<a ");
                let answer = format!("<a {}", peer.until("/>"));
                h = h.max(counted(&answer));
            }
            MESSAGES
        }
    }
}

/// What waits for ann, at a login.
fn waiting(server: &Ready, data: &Path) -> Vec<u32> {
    let ca = data.join("ca/ca.pem");
    let mut peer = Peer::sign_in(server.starttls(), &ca, "ann@localhost", "secret").unwrap();
    peer.send("<presence/><iq type='get' id='end'><ping xmlns='urn:xmpp:ping'/></iq>");
    let text = peer.until("id='end'");
    peer.send("</stream:stream>");
    peer.rest();
    numbers(&text)
}

/// One round: killed, looked at, and sent again what was not acknowledged. The even rounds look
/// before that, the odd ones after.
#[expect(
    clippy::print_stdout,
    reason = "a round can be played again by its seed"
)]
fn round(seed: u64) {
    let mut dice = Dice(seed);
    let temp = Temp::new();
    let data = temp.data();
    for name in ["ann@localhost", "ben@localhost"] {
        let added = user_with(&data, &["add", name, "--password-stdin"], "secret\n");
        assert_eq!(added.code, Some(0), "{added:?}");
    }
    let kill_at = dice.below(MESSAGES) + 1;
    let mut server = ready(&data, &[]);
    let ca = data.join("ca/ca.pem");
    let mut peer = managed(&server, &ca, "ben@localhost");
    let h = send(&mut peer, ANN, 0, Some((kill_at, &mut server.process)));
    println!("seed {seed}: killed after {kill_at}, {h} acknowledged");
    drop(server);
    let server = ready(&data, &[]);
    let mut seen = Vec::new();
    if dice.below(2) == 0 {
        seen = waiting(&server, &data);
        let expected: Vec<u32> = (0..seen.len() as u32).collect();
        assert_eq!(
            seen, expected,
            "seed {seed}: once, in order, without a hole"
        );
        assert!(seen.len() as u32 >= h, "seed {seed}: {} of {h}", seen.len());
    }
    let mut peer = managed(&server, &ca, "ben@localhost");
    send(&mut peer, ANN, h, None);
    drop(peer);
    seen.extend(waiting(&server, &data));
    let expected: Vec<u32> = (0..MESSAGES).collect();
    assert_eq!(seen, expected, "seed {seed}: everything once and in order");
    assert!(waiting(&server, &data).is_empty(), "seed {seed}");
    server.stop();
}

/// `ROUNDS=20` plays all of them; `SEED` plays one again.
#[test]
fn what_was_acknowledged_survives_a_kill_at_any_moment() {
    let first = number("SEED", 0x9e37_79b9_7f4a_7c15);
    for nth in 0..number("ROUNDS", 10) {
        round(first.wrapping_add(nth.wrapping_mul(0x2545_f491_4f6c_dd1d)));
    }
}
