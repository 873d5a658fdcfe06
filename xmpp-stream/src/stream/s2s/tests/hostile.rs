//! Any order of plausible and broken pieces, at any split: no panic, the same answer, and nothing
//! proven that nobody has verified.

use super::*;
use proptest::prelude::*;

fn pieces() -> Vec<String> {
    let mut pieces: Vec<String> = [
        "</stream:stream>",
        "<stream:error/>",
        "<x xmlns='urn:x'/>",
        " \n",
        "<",
        "&",
        "\u{0}",
        "<db:result/>",
        "<db:result from='b.test' to='a.test' type='valid'/>",
        "<db:result from='a.test' to='b.test' type='valid'/>",
        "<db:result from='b.test' to='a.test' type='error'><error/></db:result>",
        "<db:verify from='b.test' to='a.test' id='x' type='valid'/>",
        "<message/>",
        "<message from='@' to='b.test'/>",
        "<message from='a.test' to='@'/>",
    ]
    .map(str::to_owned)
    .into();
    let sasl = |name: &str| format!("<{name} xmlns='{}'/>", ns::SASL);
    let sm = |name: &str| format!("<{name} xmlns='{}' h='1' previd='x'/>", ns::SM);
    pieces.extend(["success", "failure", "challenge", "abort", "response"].map(sasl));
    pieces.extend(["enable", "enabled", "resume", "resumed", "failed", "r", "a"].map(sm));
    pieces.extend([
        OPEN.to_owned(),
        ANSWER.to_owned(),
        auth("a.test"),
        auth("c.test"),
        auth_data("="),
        auth_data(""),
        starttls(),
        format!("<proceed xmlns='{}'/>", ns::TLS),
        format!("<bidi xmlns='{}'/>", ns::BIDI),
        features(&external()),
        features(&dialback_feature()),
        features(&format!("{}<sm xmlns='{}'/>", dialback_feature(), ns::SM)),
        result("a.test", "b.test", "key"),
        result("c.test", "b.test", "key"),
        result("b.test", "b.test", "key"),
        result("a.test", "d.test", "key"),
        verify("a.test", "b.test", "x", "key"),
        message("ann@a.test", "ben@b.test"),
        message("ben@b.test", "ann@a.test"),
        message("ann@c.test", "ben@b.test"),
    ]);
    pieces
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(300))]

    #[test]
    fn the_called_survives_everything_and_proves_nothing_by_itself(
        order in prop::collection::vec(any::<prop::sample::Index>(), 0..14),
        is_open in any::<bool>(),
        chunk in 1_usize..40,
    ) {
        let pieces = pieces();
        let text: String = order.iter().map(|index| index.get(&pieces).as_str()).collect();
        let play = |chunk| {
            let mut talk = match is_open {
                true => Talk::dialled_back(chunk),
                false => Talk::secured(chunk, false),
            };
            let answer = talk.say(&text);
            (answer, format!("{:?}", talk.told), talk.machine.wants_input())
        };
        prop_assert_eq!(play(usize::MAX), play(chunk));
        let mut talk = Talk::secured(chunk, false);
        talk.say(&text);
        prop_assert!(talk.proven().is_empty() && talk.stanzas().is_empty());
    }

    #[test]
    fn whose_certificate_is_good_speaks_for_nobody_else(
        order in prop::collection::vec(any::<prop::sample::Index>(), 0..14),
        chunk in 1_usize..40,
    ) {
        let pieces = pieces();
        let mut talk = Talk::secured(chunk, true);
        talk.say(OPEN);
        for index in order {
            talk.say(index.get(&pieces).as_str());
        }
        let is_a = |pair: &str| pair.starts_with("a.test to ");
        prop_assert!(talk.proven().iter().all(|pair| is_a(pair)), "{:?}", talk.told);
        for stanza in talk.stanzas() {
            prop_assert_eq!(stanza.head.from.as_ref().map(|from| from.domain()), Some("a.test"));
        }
    }

    #[test]
    fn the_caller_survives_everything(
        order in prop::collection::vec(any::<prop::sample::Index>(), 0..12),
        noise in prop::collection::vec(any::<u8>(), 0..40),
        is_bidi in any::<bool>(),
        chunk in 1_usize..40,
    ) {
        let pieces = pieces();
        let text: String = order.iter().map(|index| index.get(&pieces).as_str()).collect();
        let play = |chunk| {
            let config = CallerConfig {
                bidi: is_bidi,
                manage: Manage::Enable,
                ..caller_config(TlsRule::Direct)
            };
            let mut talk = Talk::over_tls(config, chunk);
            talk.say(ANSWER);
            let answer = talk.say(&text);
            talk.machine.handle_bytes(&noise, talk.now);
            talk.drain();
            (answer, format!("{:?}", talk.told), talk.stanzas().len())
        };
        let whole = play(usize::MAX);
        prop_assert!(is_bidi || whole.2 == 0);
        prop_assert_eq!(whole, play(chunk));
    }
}
