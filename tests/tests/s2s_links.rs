//! Links between two servers of ours over the wire: what goes across, and who may.

use xmpp_testkit::Federated;

#[tokio::test]
async fn c6120_ro_messages_and_requests_go_across() {
    let all = Federated::new(["a.test", "b.test"]).await;
    let mut ann = all.online("ann@a.test/x").await;
    let mut ben = all.online("ben@b.test/y").await;
    ann.send("<message to='ben@b.test' type='chat' id='m1'><body>hi</body></message>")
        .await;
    ben.expect(
        "<message from='ann@a.test/x' to='ben@b.test' type='chat' id='m1' xml:lang='{any}'>\
         <body>hi</body></message>",
    )
    .await;
    ben.send("<message to='ann@a.test/x' type='chat' id='m2'><body>ho</body></message>")
        .await;
    ann.expect(
        "<message from='ben@b.test/y' to='ann@a.test/x' type='chat' id='m2' xml:lang='{any}'>\
         <body>ho</body></message>",
    )
    .await;
    let pong = ann
        .iq("get", "b.test", "<ping xmlns='urn:xmpp:ping'/>")
        .await;
    assert_eq!(pong.attr("type"), Some("result"), "{pong}");
}
