//! Ways between two servers beside a stream each way by STARTTLS: direct TLS (XEP-0368), and one stream
//! for both ways (XEP-0288).

use super::world::{Side, World};
use crate::messages::{body, say};
use crate::stage::Outcome;
use std::sync::Arc;

/// How often a server was called, by STARTTLS and by direct TLS.
fn calls(side: &Side) -> [usize; 2] {
    [
        side.ways.starttls.accepted(),
        side.ways.direct_tls.accepted(),
    ]
}

/// Nobody has called by STARTTLS, both have by direct TLS.
pub(crate) async fn by_direct_tls_alone(world: Arc<World>) -> Outcome {
    let called = [calls(&world.theirs), calls(&world.ours)];
    println!("calls by STARTTLS and by direct TLS, theirs and ours: {called:?}");
    for [starttls, direct_tls] in called {
        assert_eq!(starttls, 0, "{called:?}");
        assert!(direct_tls > 0, "{called:?}");
    }
    Outcome::Done
}

/// What comes back takes the stream on which the first word came.
pub(crate) async fn both_ways_by_the_stream_of_ours(world: Arc<World>) -> Outcome {
    both_ways(&world.ours, &world.theirs).await;
    Outcome::Done
}

/// The same where they speak first.
pub(crate) async fn both_ways_by_the_stream_of_theirs(world: Arc<World>) -> Outcome {
    both_ways(&world.theirs, &world.ours).await;
    Outcome::Done
}

async fn both_ways(first: &Side, second: &Side) {
    let (ann, ben) = (first.online().await, second.online().await);
    let mut heard = (ann.events(), ben.events());
    for number in 0..10 {
        let text = number.to_string();
        say(&ann, ben.jid().as_jid(), &text).await;
        body(&mut heard.1, &text).await;
        say(&ben, ann.jid().as_jid(), &text).await;
        body(&mut heard.0, &text).await;
    }
    let called = [calls(first), calls(second)];
    assert_eq!(
        called,
        [[0, 0], [1, 0]],
        "calls of the first and the second"
    );
}
