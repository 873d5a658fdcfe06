//! Messages to another domain when the sending server is killed: what it acknowledged arrives once and
//! in order, whether the other server is up meanwhile or not (DESIGN 10).

use crate::certificates::today;
use crate::kill::{Dice, MESSAGES, managed, number, numbers, send};
use crate::kit::{BINARY, Ready, Temp, run_with, server_with_file};
use crate::peer::Peer;
use std::net::{SocketAddr, TcpListener};
use std::path::PathBuf;
use std::process::Command;
use xmpp_certs::DevCa;

const BEN: &str = "ben@b.test";
/// So many wait for a server that is down, and come back no earlier (`s2s_pending_max`).
const WAITING: u32 = 250;

/// Two servers that know where the other is, and believe it.
struct Two {
    _temp: Temp,
    ca: PathBuf,
    /// Of a.test and of b.test.
    files: [PathBuf; 2],
}

impl Two {
    fn new() -> Self {
        let temp = Temp::new();
        let ca = DevCa::new(today()).unwrap();
        let ca_file = temp.write("ca.pem", ca.pem());
        // Held together, so that they differ.
        let ports = [(); 2].map(|()| TcpListener::bind("127.0.0.1:0").unwrap());
        let at = ports.map(|port| port.local_addr().unwrap());
        let file = |domain: &str, own: SocketAddr, (other, there): (&str, SocketAddr)| {
            let leaf = ca.issue(&[domain], today()).unwrap();
            temp.write(&format!("{domain}.pem"), &leaf.chain_pem);
            temp.write(&format!("{domain}.key"), &leaf.key_pem);
            let folder = temp.path().display();
            let text = format!(
                "data_dir = \"{folder}/{domain}\"\n\
                 [[domain]]\nname = \"{domain}\"\n\
                 certificate = \"{folder}/{domain}.pem\"\nkey = \"{folder}/{domain}.key\"\n\
                 [c2s]\nlisten = [\"127.0.0.1:0\"]\nlisten_tls = []\n\
                 [s2s]\nlisten = [\"{own}\"]\nlisten_tls = []\n\
                 ca = [\"{folder}/ca.pem\"]\ndialback = \"never\"\n\
                 [dns.override]\n\"{other}\" = \"{there}\"\n"
            );
            temp.write(&format!("{domain}.toml"), &text)
        };
        let files = [
            file("a.test", at[0], ("b.test", at[1])),
            file("b.test", at[1], ("a.test", at[0])),
        ];
        for (file, name) in [(&files[0], "ann@a.test"), (&files[1], BEN)] {
            let mut command = Command::new(BINARY);
            command.arg("--config").arg(file);
            command.args(["user", "add", name, "--password-stdin"]);
            let added = run_with(&mut command, "secret\n");
            assert_eq!(added.code, Some(0), "{added:?}");
        }
        Self {
            _temp: temp,
            ca: ca_file,
            files,
        }
    }

    fn start(&self, server: usize) -> Ready {
        Ready::new(server_with_file(&self.files[server]))
    }

    fn ann(&self, server: &Ready) -> Peer {
        managed(server, &self.ca, "ann@a.test")
    }

    fn ben(&self, server: &Ready) -> Peer {
        let mut ben = Peer::sign_in(server.starttls(), &self.ca, BEN, "secret").unwrap();
        ben.send("<presence/>");
        ben.until("<presence");
        ben
    }
}

/// All numbers up to the mark, which somebody has sent behind them.
fn received(ben: &mut Peer, mark: &str) -> Vec<u32> {
    numbers(&ben.until(&format!("<body>{mark}</body>")))
}

fn say(ann: &mut Peer, mark: &str) {
    ann.send(&format!(
        "<message to='{BEN}' type='chat' id='{mark}'><body>{mark}</body></message>"
    ));
}

/// The link is up: something came through.
fn linked(two: &Two, a: &Ready, ben: &mut Peer) -> Peer {
    let mut ann = two.ann(a);
    say(&mut ann, "hello");
    assert!(received(ben, "hello").is_empty());
    ann
}

/// The numbers up to so many, each once and in order.
#[track_caller]
fn check(seed: u64, seen: &[u32], least: u32) {
    let expected: Vec<u32> = (0..seen.len() as u32).collect();
    assert_eq!(
        seen, expected,
        "seed {seed}: once, in order, without a hole"
    );
    assert!(
        seen.len() as u32 >= least,
        "seed {seed}: {} of {least}",
        seen.len()
    );
}

/// What the other server does meanwhile.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum Other {
    Up,
    Down,
    /// Its process is halted: what is sent gets as far as its socket, and is not answered.
    Still,
}

/// One round: the sender's server is killed among messages, and started again.
#[expect(
    clippy::print_stdout,
    reason = "a round can be played again by its seed"
)]
fn round(seed: u64, other: Other) {
    let mut dice = Dice(seed);
    let most = if other == Other::Up {
        MESSAGES
    } else {
        WAITING
    };
    let kill_at = dice.below(most) + 1;
    let two = Two::new();
    let (mut a, b) = (two.start(0), two.start(1));
    let mut ben = two.ben(&b);
    let mut ann = linked(&two, &a, &mut ben);
    let b = match other {
        Other::Up => Some((b, ben)),
        Other::Down => {
            drop(ben);
            b.stop();
            None
        }
        Other::Still => {
            b.process.signal("STOP");
            Some((b, ben))
        }
    };
    let h = send(&mut ann, BEN, 0, Some((kill_at, &mut a.process)));
    // What was said before counts too.
    let h = h.saturating_sub(1);
    println!("seed {seed}: killed after {kill_at}, {h} acknowledged, the other {other:?}");
    drop(a);
    let (b, mut ben) = b.unwrap_or_else(|| {
        let b = two.start(1);
        let ben = two.ben(&b);
        (b, ben)
    });
    if other == Other::Still {
        b.process.signal("CONT");
    }
    let a = two.start(0);
    let mut ann = two.ann(&a);
    say(&mut ann, "end");
    let seen = received(&mut ben, "end");
    check(seed, &seen, h);
}

#[test]
fn what_was_acknowledged_reaches_the_other_domain_after_a_kill() {
    let first = number("SEED", 0x9e37_79b9_7f4a_7c15);
    for nth in 0..number("ROUNDS", 3) {
        let seed = first.wrapping_add(nth.wrapping_mul(0x2545_f491_4f6c_dd1d));
        for other in [Other::Up, Other::Down, Other::Still] {
            round(seed, other);
        }
    }
}
