//! Many sessions at once, as fast as they go: every message arrives once and in order.

use xmpp_testkit::TestLab;
use xmpp_testkit::chat::{Plan, play};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn c6120_10_1_two_hundred_sessions_lose_double_and_reorder_nothing() {
    let lab = TestLab::new(["a.test"]).await.expect("a server");
    let plan = Plan {
        sessions: 200,
        messages: 50,
        rate: None,
    };
    let report = play(&lab, "a.test", plan).await;
    assert_eq!(report.sent, 200 * 50);
    assert_eq!((report.lost(), report.doubled, report.reordered), (0, 0, 0));
}
