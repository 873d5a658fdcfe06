//! Our two machines with each other, and with a third that verifies: whole conversations.

use super::*;

/// Carries bytes both ways until nobody says anything.
fn carry(caller: &mut Talk<Caller>, callee: &mut Talk<Callee>) {
    let mut there = caller.answer();
    let mut back = callee.answer();
    while !there.is_empty() || !back.is_empty() {
        back.push_str(&callee.say(&there));
        there = caller.say(&std::mem::take(&mut back));
    }
}

fn both(config: CallerConfig, is_trusted: bool, chunk: usize) -> (Talk<Caller>, Talk<Callee>) {
    let rule = config.tls;
    let mut caller = Talk::calling(config, chunk);
    let mut callee = Talk::called(callee_config(rule), chunk);
    if !is_trusted {
        callee.verdict = PeerVerdict::Untrusted(Distrust::UnknownIssuer);
    }
    if rule == TlsRule::Direct {
        caller.machine.tls_established(tls_info(), caller.now);
        callee.machine.tls_established(tls_info(), callee.now);
    }
    carry(&mut caller, &mut callee);
    (caller, callee)
}

fn item(from: &str, to: &str) -> Item {
    Item::One(Box::new(Stanza::parse(&message(from, to)).unwrap()))
}

#[test]
fn by_certificate_with_everything_that_we_have() {
    for rule in [TlsRule::Required, TlsRule::Direct] {
        each_split(|chunk| {
            let config = CallerConfig {
                bidi: true,
                manage: Manage::Enable,
                ..caller_config(rule)
            };
            let (mut caller, mut callee) = both(config, true, chunk);
            let link = caller.link().unwrap();
            assert_eq!(link.proof, Proof::External);
            assert!(link.is_bidi && link.is_managed && callee.machine.is_bidi());
            assert_eq!(
                link.limits.stanza_bytes_max,
                Some(XmlLimits::s2s().stanza_bytes_max)
            );
            assert_eq!(callee.proven(), ["a.test to b.test by EXTERNAL"]);
            assert_eq!(caller.machine.stream_id(), callee.machine.stream_id());
            caller.machine.send(&item("ann@a.test", "ben@b.test"));
            callee.machine.send(&item("ben@b.test", "ann@a.test"));
            carry(&mut caller, &mut callee);
            assert_eq!((callee.stanzas().len(), caller.stanzas().len()), (1, 1));
            caller.machine.close(None, caller.now);
            carry(&mut caller, &mut callee);
            assert!(matches!(caller.closed(), Some(CloseReason::Clean)));
            assert!(matches!(callee.closed(), Some(CloseReason::Clean)));
        });
    }
}

#[test]
fn by_dialback_with_the_key_verified_by_its_maker() {
    each_split(|chunk| {
        let (mut caller, mut callee) = both(caller_config(TlsRule::Required), false, chunk);
        let check = callee.keys()[0].clone();
        // Who made the key is asked on a stream of its own.
        let mut domains = callee_config(TlsRule::Direct);
        struct OnlyA;
        impl Domains for OnlyA {
            fn is_served(&self, domain: &str) -> bool {
                domain == "a.test"
            }
            fn fallback(&self) -> Box<str> {
                "a.test".into()
            }
        }
        domains.domains = Arc::new(OnlyA);
        let config = CallerConfig {
            pair: a_to_b().reversed(),
            purpose: Purpose::Verify,
            ..caller_config(TlsRule::Direct)
        };
        let mut asking = Talk::over_tls(config, chunk);
        asking.machine.verify(check.clone());
        let mut authority = Talk::secured_with(domains, chunk, false);
        carry(&mut asking, &mut authority);
        let [Event::Verified(asked, answer)] = asking.events()[..] else {
            panic!("{:?}", asking.told);
        };
        assert_eq!((asked, answer), (&check, &Answer::Valid));
        let now = callee.now;
        callee.machine.key_checked(&check.pair, answer.clone(), now);
        caller.say(&callee.answer());
        assert_eq!(caller.link().unwrap().proof, Proof::Dialback);
        caller.machine.send(&item("ann@a.test", "ben@b.test"));
        carry(&mut caller, &mut callee);
        assert_eq!(callee.stanzas().len(), 1);
    });
}
