//! Who is asked what it can do, and what is believed.

use super::cache::Cache;
use super::*;
use crate::config::Registration;
use crate::im::testkit::{ANN, Bench, stanza};
use crate::limits::Limits;
use crate::modules::tests::{Registry, announced, element, host};
use crate::session::Sid;
use xmpp_stream::payload::caps::Algorithm;

const SIMPLE_VER: &str = "QgayPKawpkPSDYmwT/WM94uAlu0=";
const COMPLEX_VER: &str = "q07IKJEyjvHSyhy//CH0CxmKi8w=";
const SIMPLE: &str = "<identity category='client' type='pc' name='Exodus 0.9.1'/>\
    <feature var='http://jabber.org/protocol/muc'/>\
    <feature var='http://jabber.org/protocol/disco#info'/>\
    <feature var='http://jabber.org/protocol/caps'/>\
    <feature var='http://jabber.org/protocol/disco#items'/>";
const FORM: &str = "<x xmlns='jabber:x:data' type='result'>\
    <field var='FORM_TYPE' type='hidden'><value>urn:xmpp:dataforms:softwareinfo</value></field>\
    <field var='os_version'><value>10.5.1</value></field>\
    <field var='ip_version' type='text-multi'><value>ipv6</value><value>ipv4</value></field>\
    <field var='os'><value>Mac</value></field>\
    <field var='software'><value>Psi</value></field>\
    <field var='software_version'><value>0.11</value></field></x>";

fn query(content: &str) -> Element {
    element(&format!(
        "<query xmlns='http://jabber.org/protocol/disco#info'>{content}</query>"
    ))
}

fn complex(more: &str) -> Element {
    query(&format!(
        "<identity xml:lang='en' category='client' name='Psi 0.11' type='pc'/>\
         <identity xml:lang='el' category='client' name='\u{3a8} 0.11' type='pc'/>\
         <feature var='http://jabber.org/protocol/caps'/>\
         <feature var='http://jabber.org/protocol/disco#info'/>\
         <feature var='http://jabber.org/protocol/disco#items'/>\
         <feature var='http://jabber.org/protocol/muc'/>{FORM}{more}"
    ))
}

fn sha1(info: &Element) -> Option<String> {
    xmpp_stream::payload::caps::of(info, Algorithm::Sha1)
}

#[test]
fn im_ec_05_the_servers_own_is_what_its_node_says() {
    let (announced, host) = (announced(), host(Registration::Closed));
    let c = own(&announced, &host).unwrap();
    assert_eq!(
        (c.attr("hash"), c.attr("node")),
        (Some("sha-1"), Some(ns::CAPS_NODE))
    );
    let info = disco::host_info(&announced, &host);
    assert_eq!(c.attr("ver"), sha1(&info).as_deref());
    assert!(announced.host_features.contains(&ns::CAPS));
    let node = own_node(&announced, &host).unwrap();
    let is_known = |node: &str| {
        announced
            .host_nodes
            .iter()
            .any(|rule| rule(&announced, &host, node))
    };
    assert!(is_known(&node) && !is_known(ns::CAPS_NODE) && !is_known(&format!("{node}x")));
}

fn presence(ver: &str) -> Stanza {
    stanza(&format!(
        "<presence from='{ANN}/r'><c xmlns='http://jabber.org/protocol/caps' hash='sha-1' \
         node='http://code.google.com/p/exodus' ver='{ver}'/></presence>"
    ))
}

fn key(ver: &str) -> cache::Key {
    key_of(&presence(ver)).unwrap()
}

#[test]
fn im_ec_03_only_what_has_its_hash_is_kept() {
    let (cache, limits) = (Cache::default(), Limits::default());
    let known = |ver| cache.features(&presence(ver)).is_some();
    let asks = |sid, id| cache.is_to_be_asked(key(SIMPLE_VER), Sid(sid), id, &limits);
    let told = |sid, id, info: Option<&Element>| cache.answered(Sid(sid), id, info, &limits);
    assert!(asks(1, "a"));
    assert!(!asks(1, "b"), "once a session");
    assert!(asks(2, "c"), "another may say it");
    assert!(!told(1, "c", Some(&query(SIMPLE))), "not its question");
    let poison = query("<feature var='urn:x'/>");
    assert!(told(1, "a", Some(&poison)));
    assert!(!known(SIMPLE_VER));
    assert!(!told(1, "a", Some(&query(SIMPLE))), "one answer");
    assert!(!asks(1, "d"), "who lied is not asked again");
    assert!(told(2, "c", Some(&query(SIMPLE))));
    let features = cache.features(&presence(SIMPLE_VER)).unwrap();
    assert_eq!(features.len(), 4);
    assert!(
        features
            .iter()
            .any(|var| &**var == "http://jabber.org/protocol/muc")
    );
    assert!(!asks(3, "e"), "known");
    assert!(!known(COMPLEX_VER));
}

#[test]
fn questions_and_answers_have_bounds() {
    let limits = Limits {
        caps_asked_max: 2,
        caps_kept_max: 1,
        ..Limits::default()
    };
    let cache = Cache::default();
    let asks = |ver, sid, id| cache.is_to_be_asked(key(ver), Sid(sid), id, &limits);
    for (sid, id) in [(1, "a"), (2, "b"), (3, "c")] {
        assert!(asks(SIMPLE_VER, sid, id));
    }
    assert!(!cache.answered(Sid(1), "a", None, &limits), "forgotten");
    assert!(cache.answered(Sid(2), "b", Some(&query(SIMPLE)), &limits));
    assert!(cache.features(&presence(SIMPLE_VER)).is_some());
    assert!(asks(COMPLEX_VER, 2, "d"));
    assert!(cache.answered(Sid(2), "d", Some(&complex("")), &limits));
    assert!(cache.features(&presence(COMPLEX_VER)).is_some());
    assert!(cache.features(&presence(SIMPLE_VER)).is_none(), "made room");
}

#[test]
fn im_ec_04_a_client_is_asked_by_its_account() {
    let registry = Registry::of(&Feature);
    assert_eq!(registry.announced.host_features, [ns::CAPS]);
    let bench = Bench::new().online("r", 0);
    let cache = Cache::default();
    let asks = |xml: &str| {
        let mut cx = bench.cx_of("r");
        assert_eq!(ask(&stanza(xml), &mut cx, &cache), Flow::Continue);
        let mut effects = cx.effects.into_iter();
        match (effects.next(), effects.next()) {
            (None, None) => None,
            (Some(Effect::Route(question)), None) => Some(*question),
            other => panic!("{other:?}"),
        }
    };
    let directed = presence(SIMPLE_VER).with_to(crate::im::testkit::jid("bob@b.test"));
    assert!(asks(&directed.to_xml()).is_none());
    let question = asks(&presence(SIMPLE_VER).to_xml()).unwrap();
    assert_eq!(question.head.from.as_ref().unwrap().as_str(), ANN);
    assert_eq!(
        question.head.to.as_ref().unwrap().as_str(),
        format!("{ANN}/r")
    );
    let node = question.first_element().unwrap();
    assert!(node.attr("node").unwrap().ends_with(SIMPLE_VER));
    assert!(
        asks(&presence(SIMPLE_VER).to_xml()).is_none(),
        "asked already"
    );
    let id = question.head.id.as_deref().unwrap();
    let learns = |ty: &str, id: &str, to: &str, info: &Element| {
        let xml = format!(
            "<iq type='{ty}' id='{id}' from='{ANN}/r'{to}>{}</iq>",
            info.to_xml("")
        );
        learn(&stanza(&xml), &mut bench.cx_of("r"), &cache)
    };
    let (info, to) = (query(SIMPLE), format!(" to='{ANN}'"));
    assert_eq!(learns("result", "other", &to, &info), Flow::Continue);
    assert_eq!(learns("get", id, &to, &info), Flow::Continue);
    assert_eq!(
        learns("result", id, " to='bob@b.test'", &info),
        Flow::Continue
    );
    assert_eq!(learns("result", id, &to, &info), Flow::Stop);
    assert!(cache.features(&presence(SIMPLE_VER)).is_some());
}
