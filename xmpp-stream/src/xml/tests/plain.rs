//! The scanners of plain elements and headers against the parser: what they take, all take alike.
//!
//! Fed byte by byte a reader never has a whole element at hand, so its parser does all the work.

use super::*;

/// Inputs that are near to plain ones, for `mutated` to depart from.
const SEEDS: &[&str] = &[
    "<message to='b@d/r' id='1' type='chat' xml:lang='de'><body>hi &amp; \u{E9} &lt;3</body>\
     <active xmlns='http://jabber.org/protocol/chatstates'/></message>",
    "<iq type=\"get\" id='a'><query xmlns='jabber:iq:roster' ver=''><item a='1' b='&quot;'/>\
     <x xmlns='jabber:client'>]]</x></query></iq>",
    "<presence><show>away</show><c xmlns='http://jabber.org/protocol/caps' hash='sha-1' \
     node='n' ver='v'/></presence><r xmlns='urn:xmpp:sm:3'/>",
    "<a xmlns='urn:xmpp:sm:3' h='3'/><message><x xmlns='urn:x' a='b'><y xmlns='' z='\u{1F389}'/>\
     </x></message>",
    "<message ><body\n a='1' >a\tb\nc</body ><e/></message\t></stream:stream>",
];

fn pieces(body: &[u8], len: usize) -> Vec<String> {
    let mut reader = reader();
    assert!(matches!(reader.next(&mut OPEN.as_bytes()), Ok(Some(_))));
    run(&mut reader, &body.chunks(len).collect::<Vec<_>>())
}

#[track_caller]
fn check(body: &[u8]) {
    let whole = pieces(body, body.len().max(1));
    let text = String::from_utf8_lossy(body);
    assert_eq!(whole, pieces(body, 1), "{text}");
}

fn is_scanned(xml: &str) -> bool {
    parse_plain(xml.as_bytes(), XmlLimits::c2s(), ns::CLIENT, ns::CLIENT).is_some()
}

#[test]
fn plain_stanzas_are_scanned() {
    for xml in [
        "<message/>",
        "<message to='a@b' from=\"c@d\" xml:lang='en'><body>x &lt;&gt;&amp;&apos;&quot;</body></message>",
        "<iq type='get' id='1'><ping xmlns='urn:xmpp:ping'/></iq>",
        "<r xmlns='urn:xmpp:sm:3'/>",
        "<presence  \n><priority>1</priority></presence>",
    ] {
        assert!(is_scanned(xml), "{xml}");
        check(xml.as_bytes());
    }
}

#[test]
fn whatever_else_is_left_to_the_parser() {
    let long = format!("<message id='{}'/>", "x".repeat(5000));
    let many: String = (0..40).map(|n| format!(" a{n}='1'")).collect();
    for xml in [
        "<message>&#65;</message>",
        "<message>&foo;</message>",
        "<message><![CDATA[x]]></message>",
        "<message><!-- x --></message>",
        "<message><?x y?></message>",
        "<message>]]></message>",
        "<message>\r</message>",
        "<message>\u{FFFF}</message>",
        "<message>\u{1}</message>",
        "<message a='\t'/>",
        "<message a='\n'/>",
        "<message a='<'/>",
        "<message a='1' a='2'/>",
        "<message a='1'b='2'/>",
        "<message a = '1'/>",
        "<message a=1/>",
        "<message/ >",
        "<message></presence>",
        "<message></message >",
        "<message><a></message></a>",
        "<message",
        "<message>",
        "<message a='",
        "<p:message xmlns:p='jabber:client'/>",
        "<message xmlns:p='urn:p'/>",
        "<message xml:space='preserve'/>",
        "<message xmlns=''/>",
        "<message><x xmlns='urn:a' xmlns='urn:b'/></message>",
        "<message><x xmlns='http://www.w3.org/2000/xmlns/'/></message>",
        "<message><x xmlns='http://www.w3.org/XML/1998/namespace'/></message>",
        "<message><x xmlns='urn:a&amp;b'/></message>",
        "<\u{E9}/>",
        "<1/>",
        "</message>",
        "</>",
        "< message/>",
        &long,
        &format!("<message{many}/>"),
    ] {
        assert!(!is_scanned(xml), "{xml}");
        check(xml.as_bytes());
    }
}

#[test]
fn limits_are_the_same_for_both() {
    let deep = |n| format!("<message>{}{}</message>", "<a>".repeat(n), "</a>".repeat(n));
    for n in [62, 63, 64, 65] {
        check(deep(n).as_bytes());
    }
    for n in [4094, 4095, 4096, 4097] {
        check(format!("<message>{}</message>", "<a/>".repeat(n)).as_bytes());
    }
    let max = XmlLimits::c2s();
    for more in [0, 1, 2] {
        let name = "n".repeat(max.name_bytes_max + more - 1);
        check(format!("<message><{name}/><b {name}='1'/></message>").as_bytes());
        let ns = "u".repeat(max.ns_bytes_max + more - 1);
        check(format!("<message><x xmlns='{ns}'/></message>").as_bytes());
        let rest = max.stanza_bytes_max - "<message></message>".len();
        let text = "t".repeat(rest + more - 1);
        check(format!("<message>{text}</message><iq/>").as_bytes());
        // Escapes that grow, X7.
        let text = ">".repeat(2000 + 40 * more);
        check(format!("<message>{text}</message>").as_bytes());
    }
}

/// A small generator of its own, so that a seed means the same everywhere.
struct Dice(u64);

impl Dice {
    fn roll(&mut self, sides: usize) -> usize {
        self.0 = self
            .0
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1_442_695_040_888_963_407);
        (self.0 >> 33) as usize % sides
    }
}

/// One of the seeds with a few bytes changed, cut, doubled or put in.
fn mutated(dice: &mut Dice, seeds: &[&str]) -> Vec<u8> {
    const ODD: &[&str] = &[
        "<",
        ">",
        "/",
        "&",
        ";",
        "'",
        "\"",
        "=",
        " ",
        ":",
        "xmlns",
        "xml:",
        "]]>",
        "&#10;",
        "&gt;",
        "\r",
        "\t",
        "\0",
        "\u{FFFE}",
        "\u{85}",
        "a",
        "-",
        "1",
        "<a/>",
        "</",
        "<!",
        "<?",
        "\u{1F389}",
        "xmlns='jabber:client'",
        " xmlns:a='urn:a'",
        " to='x'",
        "db:",
        "stream:",
        "xml:lang='x'",
        " a='b'",
    ];
    let mut body = seeds[dice.roll(seeds.len())].as_bytes().to_vec();
    for _ in 0..=dice.roll(3) {
        let at = dice.roll(body.len());
        match dice.roll(4) {
            0 => body[at] = dice.roll(256) as u8,
            1 => drop(body.drain(at..(at + 1 + dice.roll(8)).min(body.len()))),
            2 => {
                let piece = body[at..(at + dice.roll(24)).min(body.len())].to_vec();
                let to = dice.roll(body.len());
                body.splice(to..to, piece);
            }
            _ => {
                let odd = ODD[dice.roll(ODD.len())].bytes();
                body.splice(at..at, odd);
            }
        }
        if body.is_empty() {
            body.push(b'<');
        }
    }
    body
}

fn rounds() -> usize {
    let asked = std::env::var("PLAIN_ROUNDS");
    asked.ok().and_then(|n| n.parse().ok()).unwrap_or(20_000)
}

#[test]
fn near_misses_are_read_alike() {
    let mut dice = Dice(7);
    for _ in 0..rounds() {
        check(&mutated(&mut dice, SEEDS));
    }
}

/// Headers as clients and servers write them, and a little of what follows.
const HEADERS: &[&str] = &[
    "<?xml version='1.0'?><stream:stream to='d' version='1.0' xmlns='jabber:client' \
     xmlns:stream='http://etherx.jabber.org/streams'><message/></stream:stream>",
    "<?xml version=\"1.0\" encoding=\"UTF-8\"?>\n<stream:stream xml:lang=\"en\" from=\"a@d\" \
     xmlns=\"jabber:client\" xmlns:stream=\"http://etherx.jabber.org/streams\"  to='d&amp;e' ><x\
     xmlns='urn:x'>1</x> </stream:stream> ",
    "<stream:stream xmlns='jabber:server' xmlns:db='jabber:server:dialback' id='\u{E9}' from='a' \
     xmlns:stream='http://etherx.jabber.org/streams' to='b' version='1.0'><db:result from='a' \
     to='b'>key</db:result><stream:error><x/></stream:error></stream:stream>",
];

#[track_caller]
fn check_stream(stream: &[u8]) {
    let whole = run(&mut reader(), &[stream]);
    let single: Vec<&[u8]> = stream.chunks(1).collect();
    let text = String::from_utf8_lossy(stream);
    assert_eq!(whole, run(&mut reader(), &single), "{text}");
}

fn is_opening_scanned(header: &str) -> bool {
    opening::scan(header.as_bytes(), &XmlLimits::c2s()).is_some()
}

#[test]
fn usual_headers_are_scanned() {
    for stream in HEADERS {
        assert!(is_opening_scanned(stream), "{stream}");
        check_stream(stream.as_bytes());
    }
}

#[test]
fn unusual_headers_are_left_to_the_parser() {
    let usual = "<?xml version='1.0'?><stream:stream to='d' version='1.0' xmlns='jabber:client' \
                 xmlns:stream='http://etherx.jabber.org/streams'>";
    assert!(is_opening_scanned(usual));
    for (from, to) in [
        ("1.0'?>", "1.1'?>"),
        ("1.0'?>", "1.0' standalone='yes'?>"),
        ("1.0'?>", "1.0' encoding='ISO-8859-1'?>"),
        ("1.0'?>", "1.0'?>\u{C}"),
        ("1.0'?>", "1.0'?><!-- x -->"),
        ("<stream:stream", "<stream"),
        ("<stream:stream", "<s:stream"),
        ("<stream:stream", "<stream:streams"),
        ("to='d'", "to='d' to='e'"),
        ("to='d'", "to='d'from='e'"),
        ("to='d'", "to='&#100;'"),
        ("to='d'", "to='\t'"),
        ("to='d'", "to='<'"),
        ("to='d'", "x='d'"),
        ("to='d'", "xml:space='preserve'"),
        ("to='d'", "xmlns:db='urn:x'"),
        (
            "to='d'",
            "xmlns:db='jabber:server:dialback' xmlns:db='jabber:server:dialback'",
        ),
        ("to='d'", "stream:to='d'"),
        ("'jabber:client'", "''"),
        ("'jabber:client'", "'urn:other'"),
        ("'jabber:client'", "'jabber:client' xmlns='jabber:client'"),
        ("etherx", "example"),
        ("xmlns:stream", "xmlns:other"),
        ("streams'>", "streams'/>"),
        ("streams'>", "streams'"),
    ] {
        let header = usual.replacen(from, to, 1);
        assert!(!is_opening_scanned(&header), "{header}");
        check_stream(format!("{header}<message/></stream:stream>").as_bytes());
    }
}

#[test]
fn limits_of_headers_are_the_same_for_both() {
    let max = XmlLimits::c2s();
    for more in [0, 1, 2] {
        let id = "i".repeat(max.attribute_bytes_max.min(4096) + more - 1);
        check_stream(
            HEADERS[0]
                .replace("to='d'", &format!("id='{id}'"))
                .as_bytes(),
        );
        let spaces = " ".repeat(max.stanza_bytes_max - 100 - HEADERS[0].len() + more * 100);
        check_stream(
            HEADERS[0]
                .replace("to=", &format!("{spaces}to="))
                .as_bytes(),
        );
        check_stream(format!("{spaces}{}", HEADERS[0]).as_bytes());
    }
}

/// The scanner once took headers with a token too long for the parser, which had to read them later.
#[test]
fn small_limits_of_headers_are_the_same_for_both() {
    for max in [1, 16, 32, 64, 1024] {
        let limits = XmlLimits {
            attribute_bytes_max: max,
            ..XmlLimits::c2s()
        };
        for stream in HEADERS {
            let bytes = stream.as_bytes();
            let single: Vec<&[u8]> = bytes.chunks(1).collect();
            let run = |chunks: &[&[u8]]| run(&mut Reader::new(limits, ns::CLIENT), chunks);
            assert_eq!(run(&[bytes]), run(&single), "{max}");
        }
    }
}

/// What is kept for as long as the stream lives is no more than a header needs.
#[test]
fn a_header_full_of_white_space_is_not_kept() {
    let long = HEADERS[0].replace("to=", &format!("{}to=", " ".repeat(2000)));
    let mut reader = reader();
    let mut data = long.as_bytes();
    assert!(matches!(reader.next(&mut data), Ok(Some(Frame::Header(_)))));
    assert!(reader.opening.is_none());
    check_stream(long.as_bytes());
}

#[test]
fn near_misses_of_headers_are_read_alike() {
    let mut dice = Dice(11);
    for _ in 0..rounds() {
        check_stream(&mutated(&mut dice, HEADERS));
    }
}
