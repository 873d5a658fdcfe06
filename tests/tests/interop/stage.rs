//! Scenes one after the other, and the table of what came of them.

use std::future::Future;
use std::sync::Arc;
use std::time::Duration;
use tokio::time::timeout;
use xmpp_client::{Events, ImEvent, ImEvents, Stanza};

/// Longest time that anything may take.
pub(crate) const PATIENCE: Duration = Duration::from_secs(20);
/// Longest time that a scene may take.
const SCENE_MAX: Duration = Duration::from_secs(90);

/// What came of a scene.
#[derive(Debug)]
pub(crate) enum Outcome {
    /// It went as it should.
    Done,
    /// The server does not offer it, as it says itself.
    NotOffered,
}

/// A server, and what came of the scenes so far.
pub(crate) struct Stage<W> {
    name: String,
    world: Arc<W>,
    table: Vec<(&'static str, String)>,
    failed: usize,
}

impl<W> Stage<W> {
    pub(crate) fn new(name: &str, world: W) -> Self {
        Self {
            name: name.into(),
            world: Arc::new(world),
            table: Vec::new(),
            failed: 0,
        }
    }

    /// Plays a scene; one that fails does not keep the others from being played.
    pub(crate) async fn play<F>(&mut self, name: &'static str, scene: impl FnOnce(Arc<W>) -> F)
    where
        F: Future<Output = Outcome> + Send + 'static,
    {
        let playing = tokio::spawn(timeout(SCENE_MAX, scene(Arc::clone(&self.world))));
        let (word, is_good) = match playing.await {
            Ok(Ok(Outcome::Done)) => ("works", true),
            Ok(Ok(Outcome::NotOffered)) => ("not offered", true),
            Ok(Err(_)) => ("FAILED: too slow", false),
            Err(_) => ("FAILED", false),
        };
        self.failed += usize::from(!is_good);
        self.table.push((name, word.to_owned()));
    }

    /// Prints the table.
    pub(crate) fn finish(self) {
        let name = self.name;
        for (scene, word) in &self.table {
            println!("| {name} | {scene} | {word} |");
        }
        assert_eq!(self.failed, 0, "scenes failed against {name}");
    }
}

/// Plays a scene under its own name.
macro_rules! scene {
    ($stage:ident, $module:ident::$name:ident) => {
        $stage
            .play(
                concat!(stringify!($module), "::", stringify!($name)),
                $module::$name,
            )
            .await
    };
}
pub(crate) use scene;

/// What somebody else does comes within `PATIENCE`.
pub(crate) async fn soon<T>(what: &str, waiting: impl Future<Output = T>) -> T {
    let done = timeout(PATIENCE, waiting).await;
    done.unwrap_or_else(|_| panic!("{what} did not come"))
}

/// The first stanza that is what is looked for.
pub(crate) async fn find<T>(
    what: &str,
    events: &mut Events,
    mut look: impl FnMut(&Stanza) -> Option<T>,
) -> T {
    soon(what, async {
        loop {
            let stanza = events.next_stanza().await.expect("the stream is open");
            if let Some(found) = look(&stanza) {
                return found;
            }
        }
    })
    .await
}

/// The first event that is what is looked for.
pub(crate) async fn find_im<T>(
    what: &str,
    events: &mut ImEvents,
    mut look: impl FnMut(&ImEvent) -> Option<T>,
) -> T {
    soon(what, async {
        loop {
            let event = events.next().await.expect("the stream is open");
            if let Some(found) = look(&event) {
                return found;
            }
        }
    })
    .await
}
