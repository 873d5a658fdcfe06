//! Any order of plausible and broken pieces, at any split: no panic, and the same answer.

use super::*;
use proptest::prelude::*;

fn pieces() -> Vec<String> {
    let sasl = ns::SASL;
    let mut pieces: Vec<String> = [
        "<presence/>",
        "<message to='bob@d.test'><body>x</body></message>",
        "<message to='@'/>",
        "<iq type='get' id='1'><query xmlns='jabber:iq:register'/></iq>",
        "<iq type='result' id='1'/>",
        "</stream:stream>",
        "<stream:error/>",
        "<x xmlns='urn:x'/>",
        " \n",
        "<",
        "&",
        "\u{0}",
        "\u{fffe}",
    ]
    .map(str::to_owned)
    .into();
    let logins = [
        &b"\0alice\0pencil"[..],
        b"\0alice\0no",
        b"\0\0",
        b"",
        b"n,,n=alice,r=a",
        b"n,,n",
    ];
    for data in logins {
        pieces.push(auth("PLAIN", data));
        pieces.push(auth("SCRAM-SHA-1", data));
        pieces.push(response(data));
    }
    for data in [
        "c",
        "c=biws,r=a,p=AAAA",
        "c=biws,r=",
        ",p=",
        "p",
        "c=biws,r=abc,p=AA==,",
    ] {
        pieces.push(response(data.as_bytes()));
    }
    pieces.extend([
        OPEN.to_owned(),
        OPEN.to_owned(),
        bind("b", ""),
        bind("b", "<resource>taken</resource>"),
    ]);
    pieces.push(format!("<abort xmlns='{sasl}'/>"));
    pieces.push(format!("<auth xmlns='{sasl}' mechanism='PLAIN'/>"));
    pieces.push(format!("<starttls xmlns='{}'/>", ns::TLS));
    pieces
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(300))]

    #[test]
    fn the_accepting_side_survives_everything_at_every_split(
        order in prop::collection::vec(any::<prop::sample::Index>(), 0..14),
        signed_in in any::<bool>(),
        chunk in 1_usize..40,
    ) {
        let pieces = pieces();
        let text: String = order.iter().map(|index| index.get(&pieces).as_str()).collect();
        let play = |chunk| {
            let mut talk = Talk::secured(chunk);
            if signed_in {
                talk.login();
            } else {
                talk.open();
            }
            let answer = talk.say(&text);
            (answer, format!("{:?}", talk.told), talk.machine.wants_input())
        };
        prop_assert_eq!(play(usize::MAX), play(chunk));
    }

    #[test]
    fn the_calling_side_survives_everything(
        order in prop::collection::vec(any::<prop::sample::Index>(), 0..10),
        noise in prop::collection::vec(any::<u8>(), 0..40),
    ) {
        let sasl = ns::SASL;
        let mut pieces = pieces();
        pieces.extend([
            format!("<stream:features><mechanisms xmlns='{sasl}'><mechanism>PLAIN</mechanism></mechanisms></stream:features>"),
            format!("<stream:features><bind xmlns='{}'/></stream:features>", ns::BIND),
            format!("<success xmlns='{sasl}'/>"),
            format!("<challenge xmlns='{sasl}'>eA==</challenge>"),
            format!("<failure xmlns='{sasl}'/>"),
            format!("<proceed xmlns='{}'/>", ns::TLS),
        ]);
        let mut caller = pair::secured();
        caller.hear(pair::HEADER);
        for index in order {
            caller.hear(index.get(&pieces).as_str());
        }
        caller.hear_bytes(&noise);
    }

    #[test]
    fn scram_messages_of_any_shape_are_only_refused(data in prop::collection::vec(any::<u8>(), 0..60)) {
        use crate::features::scram::ClientFirst;
        use crate::features::sasl::Offer;
        let offer = Offer::of(&host_view(), Some(&tls_13()), false);
        let _ = ClientFirst::parse(&data, false, &offer);
        let mut with_header = b"n,,n=alice,".to_vec();
        with_header.extend_from_slice(&data);
        let _ = ClientFirst::parse(&with_header, false, &offer);
        let _ = crate::features::plain::Plain::parse(&data);
    }
}
