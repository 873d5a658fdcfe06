//! An initiator and a responder back to back: no sockets, no task, and a clock that the test moves.
//!
//! TLS is played: both sides are told the same channel-binding data. The responder's caller is played
//! too, with one account whose resource is always free. Bytes travel in pieces of a size the test
//! chooses, so that every transcript can be had at every split.

use std::fmt::Debug;
use std::sync::Arc;
use std::time::{Duration, Instant};
use xmpp_stream::jid::BareJid;
use xmpp_stream::limits::{Limits, XmlLimits};
use xmpp_stream::stanza::{Item, Stanza};
use xmpp_stream::stream::responder::Credentials;
use xmpp_stream::stream::{
    CloseReason, HostView, Hosts, Initiator, InitiatorConfig, Machine, Manage, Output, Password,
    Responder, ResponderConfig, ScramHash, StoredKeys, Strength, TlsInfo, TlsRule, Verdict,
};

/// Rounds after which two machines that still talk are held to do so for ever.
const ROUNDS_MAX: usize = 100_000;
const ITERATIONS: u32 = 4096;

/// What the two are set up with.
#[derive(Clone, Debug)]
pub struct Plan {
    /// Who signs in; the only account there is.
    pub account: &'static str,
    /// Its password.
    pub password: &'static str,
    /// What the initiator believes the password to be.
    pub tried: &'static str,
    /// Hashes that the domain offers.
    pub hashes: Vec<ScramHash>,
    /// PLAIN is offered, and may be used.
    pub plain: bool,
    /// TLS policy of both sides.
    pub tls: TlsRule,
    /// What TLS tells both sides.
    pub tls_info: TlsInfo,
    /// Bounds of both sides.
    pub limits: Limits,
    /// Bytes that travel at once.
    pub piece: usize,
}

impl Default for Plan {
    fn default() -> Self {
        Self {
            account: "ann@a.test",
            password: "secret",
            tried: "secret",
            hashes: vec![ScramHash::Sha1, ScramHash::Sha256, ScramHash::Sha512],
            plain: true,
            tls: TlsRule::Required,
            tls_info: TlsInfo {
                version: "TLSv1.3",
                exporter: Some([7; 32]),
                ..TlsInfo::default()
            },
            limits: Limits {
                after_auth: XmlLimits::client(),
                ..Limits::default()
            },
            piece: usize::MAX,
        }
    }
}

/// Two machines, and what each has told its caller.
pub struct Pair {
    /// The calling side.
    pub initiator: Initiator,
    /// The accepting side.
    pub responder: Responder,
    /// What time it is.
    pub now: Instant,
    /// What the initiator told, orders that the pair carried out left out.
    pub heard_by_initiator: Vec<Output>,
    /// What the responder told, likewise.
    pub heard_by_responder: Vec<Output>,
    plan: Plan,
    keys: Vec<Arc<StoredKeys>>,
    to_responder: Vec<u8>,
    to_initiator: Vec<u8>,
    tls_wanted: (bool, bool),
}

impl Pair {
    /// Makes both; nothing has travelled yet.
    ///
    /// # Panics
    /// The plan's account is no bare JID.
    #[must_use]
    pub fn new(plan: Plan) -> Self {
        let now = tokio::time::Instant::now().into_std();
        let account = BareJid::parse(plan.account).expect("a bare JID");
        let derive = |hash: &ScramHash| {
            StoredKeys::derive(*hash, plan.password, b"salt of sixteen.", ITERATIONS)
        };
        let keys = plan.hashes.iter().map(derive).map(Arc::new).collect();
        let host = HostView {
            domain: account.domain().into(),
            hashes: plan.hashes.clone(),
            plain: plan.plain,
            guest_ns: Arc::default(),
            features_before_auth: bytes::Bytes::new(),
            features_after_auth: bytes::Bytes::new(),
        };
        let responder = ResponderConfig {
            hosts: Arc::new(OneHost(host)),
            limits: Arc::new(plan.limits),
            tls: plan.tls,
            downgrade_protection: true,
            manage: true,
        };
        let initiator = InitiatorConfig {
            account,
            password: Some(Password(plan.tried.into())),
            name_account: false,
            resource: Some("pair".into()),
            lang: None,
            tls: plan.tls,
            plain: plan.plain,
            least: Strength::Plain,
            manage: Manage::Off,
            limits: plan.limits,
        };
        let direct = plan.tls == TlsRule::Direct;
        let mut pair = Self {
            initiator: Initiator::new(initiator, Box::new(counting(1)), now),
            responder: Responder::new(responder, Box::new(counting(2)), now),
            now,
            heard_by_initiator: Vec::new(),
            heard_by_responder: Vec::new(),
            plan,
            keys,
            to_responder: Vec::new(),
            to_initiator: Vec::new(),
            tls_wanted: (direct, direct),
        };
        if direct {
            pair.secure();
        }
        pair
    }

    /// Lets both talk until neither has anything to say.
    ///
    /// # Panics
    /// They do not stop.
    pub fn talk(&mut self) {
        for _ in 0..ROUNDS_MAX {
            let heard = self.heed_initiator() | self.heed_responder();
            self.initiator.take_bytes(&mut self.to_responder);
            self.responder.take_bytes(&mut self.to_initiator);
            let (now, piece) = (self.now, self.plan.piece);
            let moved = carry(&mut self.to_responder, &mut self.responder, piece, now)
                | carry(&mut self.to_initiator, &mut self.initiator, piece, now);
            if !heard && !moved {
                return;
            }
        }
        panic!("the two do not stop talking");
    }

    /// Moves the clock by this much at most: to the next deadline of either side, if one comes
    /// earlier. Then lets both talk. True when a deadline has passed.
    pub fn wait(&mut self, max: Duration) -> bool {
        let end = self.now + max;
        let deadlines = [self.initiator.poll_timeout(), self.responder.poll_timeout()];
        self.now = deadlines
            .iter()
            .flatten()
            .copied()
            .min()
            .unwrap_or(end)
            .clamp(self.now, end);
        let mut passed = false;
        if deadlines[0].is_some_and(|deadline| deadline <= self.now) {
            self.initiator.handle_timeout(self.now);
            passed = true;
        }
        if deadlines[1].is_some_and(|deadline| deadline <= self.now) {
            self.responder.handle_timeout(self.now);
            passed = true;
        }
        self.talk();
        passed
    }

    /// The initiator sends a stanza; lets both talk.
    pub fn initiator_sends(&mut self, stanza: Stanza) {
        self.initiator.send(&Item::<()>::One(Box::new(stanza)));
        self.talk();
    }

    /// The responder sends a stanza; lets both talk.
    pub fn responder_sends(&mut self, stanza: Stanza) {
        self.responder.send(&Item::<()>::One(Box::new(stanza)));
        self.talk();
    }

    /// Why each side's stream ended; `None`: it has not.
    #[must_use]
    pub fn ends(&self) -> (Option<&CloseReason>, Option<&CloseReason>) {
        (end(&self.heard_by_initiator), end(&self.heard_by_responder))
    }

    fn heed_initiator(&mut self) -> bool {
        let mut any = false;
        while let Some(output) = self.initiator.poll_output() {
            any = true;
            match output {
                Output::StartTls { .. } => self.tls_wanted.0 = true,
                other => self.heard_by_initiator.push(other),
            }
        }
        self.secure();
        any
    }

    fn heed_responder(&mut self) -> bool {
        let mut any = false;
        while let Some(output) = self.responder.poll_output() {
            any = true;
            match output {
                Output::StartTls { .. } => self.tls_wanted.1 = true,
                Output::NeedCredentials { account, hash } => {
                    let known = self.keys.iter().find(|keys| keys.hash == hash);
                    let credentials = match known {
                        Some(keys) if account.as_str() == self.plan.account => {
                            Credentials::Keys(keys.clone())
                        }
                        _ => Credentials::Fake {
                            salt: b"salt of nobody..".as_slice().into(),
                            iterations: ITERATIONS,
                        },
                    };
                    self.responder.credentials(credentials, self.now);
                }
                Output::CheckPassword { account, password } => {
                    let right =
                        account.as_str() == self.plan.account && password.0 == self.plan.password;
                    let verdict = if right { Verdict::Allow } else { Verdict::Deny };
                    self.responder.verdict(verdict, self.now);
                }
                Output::Bind { account, resource } => {
                    let jid = account
                        .as_jid()
                        .with_resource(resource.as_deref().unwrap_or("made"));
                    self.responder.bound(Ok(jid.expect("a resource")), self.now);
                }
                Output::PeerClosing => self.responder.finish_close(None),
                other => self.heard_by_responder.push(other),
            }
        }
        self.secure();
        any
    }

    /// TLS is there once both want it and nothing in clear is under way.
    fn secure(&mut self) {
        let under_way = !self.to_initiator.is_empty() || !self.to_responder.is_empty();
        if self.tls_wanted == (true, true) && !under_way {
            self.tls_wanted = (false, false);
            self.initiator
                .tls_established(self.plan.tls_info.clone(), self.now);
            self.responder
                .tls_established(self.plan.tls_info.clone(), self.now);
        }
    }
}

/// Carries bytes as far as the machine wants them, in pieces.
fn carry(bytes: &mut Vec<u8>, machine: &mut impl Machine, piece: usize, now: Instant) -> bool {
    if bytes.is_empty() || !machine.wants_input() {
        return false;
    }
    let len = piece.clamp(1, bytes.len());
    let sent: Vec<u8> = bytes.drain(..len).collect();
    machine.handle_bytes(&sent, now);
    true
}

fn end(heard: &[Output]) -> Option<&CloseReason> {
    heard.iter().find_map(|output| match output {
        Output::Closed(reason) => Some(reason),
        _ => None,
    })
}

/// A source of "random" bytes that no two calls get the same from.
fn counting(seed: u8) -> impl FnMut(&mut [u8]) + Send {
    let mut count = 0_u8;
    move |bytes| {
        for byte in bytes {
            count = count.wrapping_add(1);
            *byte = count.wrapping_mul(37) ^ seed;
        }
    }
}

struct OneHost(HostView);

impl Hosts for OneHost {
    fn host(&self, domain: &str) -> Option<HostView> {
        (*domain == *self.0.domain).then(|| self.0.clone())
    }

    fn fallback(&self) -> Box<str> {
        self.0.domain.clone()
    }
}

impl Debug for Pair {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let heard = (&self.heard_by_initiator, &self.heard_by_responder);
        f.debug_struct("Pair")
            .field("plan", &self.plan)
            .field("heard", &heard)
            .finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use xmpp_stream::error::SaslCondition;
    use xmpp_stream::stream::{Failure, Note};

    fn established(heard: &[Output]) -> Option<&str> {
        heard.iter().find_map(|output| match output {
            Output::Established(established) => Some(established.jid.as_str()),
            _ => None,
        })
    }

    type Way = (&'static str, Option<&'static str>);

    fn mechanism(pair: &Pair) -> Option<Way> {
        pair.heard_by_responder
            .iter()
            .find_map(|output| match output {
                Output::Note(Note::LoggedIn {
                    mechanism,
                    channel_binding,
                    ..
                }) => Some((*mechanism, *channel_binding)),
                _ => None,
            })
    }

    fn body(heard: &[Output]) -> Option<String> {
        heard.iter().find_map(|output| match output {
            Output::Stanza(stanza) => stanza.body(),
            _ => None,
        })
    }

    /// Both are established by this mechanism, a message passes each way, and both end cleanly.
    #[track_caller]
    fn check(plan: Plan, by: Way) {
        let mut pair = Pair::new(plan);
        pair.talk();
        assert_eq!(
            established(&pair.heard_by_initiator),
            Some("ann@a.test/pair"),
            "{pair:?}"
        );
        assert_eq!(
            established(&pair.heard_by_responder),
            Some("ann@a.test/pair"),
            "{pair:?}"
        );
        assert_eq!(mechanism(&pair), Some(by));
        pair.initiator_sends(Stanza::chat("ben@a.test", "from the initiator").unwrap());
        pair.responder_sends(Stanza::chat("ann@a.test", "from the responder").unwrap());
        assert_eq!(
            body(&pair.heard_by_responder).as_deref(),
            Some("from the initiator")
        );
        assert_eq!(
            body(&pair.heard_by_initiator).as_deref(),
            Some("from the responder")
        );
        pair.initiator.close(None, pair.now);
        pair.talk();
        assert!(
            matches!(
                pair.ends(),
                (Some(CloseReason::Clean), Some(CloseReason::Clean))
            ),
            "{pair:?}"
        );
    }

    #[test]
    fn pair_uses_the_strongest_mechanism_that_both_have() {
        let exporter = Some("tls-exporter");
        check(Plan::default(), ("SCRAM-SHA-512-PLUS", exporter));
        check(
            Plan {
                hashes: vec![ScramHash::Sha1, ScramHash::Sha256],
                ..Plan::default()
            },
            ("SCRAM-SHA-256-PLUS", exporter),
        );
        check(
            Plan {
                hashes: vec![ScramHash::Sha1],
                ..Plan::default()
            },
            ("SCRAM-SHA-1-PLUS", exporter),
        );
        check(
            Plan {
                tls: TlsRule::Direct,
                ..Plan::default()
            },
            ("SCRAM-SHA-512-PLUS", exporter),
        );
        let end_point = TlsInfo {
            version: "TLSv1.2",
            server_end_point: Some([3; 32].into()),
            ..TlsInfo::default()
        };
        check(
            Plan {
                tls_info: end_point,
                ..Plan::default()
            },
            ("SCRAM-SHA-512-PLUS", Some("tls-server-end-point")),
        );
        check(
            Plan {
                tls_info: TlsInfo::default(),
                ..Plan::default()
            },
            ("SCRAM-SHA-512", None),
        );
        check(
            Plan {
                hashes: Vec::new(),
                ..Plan::default()
            },
            ("PLAIN", None),
        );
    }

    #[test]
    fn pair_gives_the_same_at_every_split() {
        for piece in [1, 2, 3, 7, 64] {
            check(
                Plan {
                    piece,
                    ..Plan::default()
                },
                ("SCRAM-SHA-512-PLUS", Some("tls-exporter")),
            );
        }
    }

    #[test]
    fn pair_refuses_a_wrong_password() {
        for hashes in [vec![ScramHash::Sha256], Vec::new()] {
            let mut pair = Pair::new(Plan {
                tried: "guess",
                hashes,
                ..Plan::default()
            });
            pair.talk();
            let (Some(CloseReason::Failed(Failure::Login { condition, .. })), _) = pair.ends()
            else {
                panic!("{pair:?}");
            };
            assert_eq!(*condition, SaslCondition::NotAuthorized);
            assert_eq!(established(&pair.heard_by_responder), None);
        }
    }

    #[test]
    fn pair_has_nothing_in_common_without_scram_and_plain() {
        let mut pair = Pair::new(Plan {
            hashes: Vec::new(),
            plain: false,
            ..Plan::default()
        });
        pair.talk();
        assert!(
            matches!(
                pair.ends().0,
                Some(CloseReason::Failed(Failure::NoMechanism))
            ),
            "{pair:?}"
        );
    }

    #[test]
    fn pair_stays_open_through_silence_because_each_answers() {
        let mut pair = Pair::new(Plan::default());
        pair.talk();
        let start = pair.now;
        let mut deadlines = 0;
        while pair.now < start + Duration::from_secs(3600) {
            deadlines += usize::from(pair.wait(Duration::from_secs(60)));
        }
        assert!(deadlines > 0, "nobody has asked whether the other is there");
        assert!(matches!(pair.ends(), (None, None)), "{pair:?}");
        pair.initiator_sends(Stanza::chat("ben@a.test", "still there").unwrap());
        assert_eq!(
            body(&pair.heard_by_responder).as_deref(),
            Some("still there")
        );
    }
}
