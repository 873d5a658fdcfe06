//! The client against Prosody and ejabberd as Debian has them, and against our own server.
//!
//! Not part of `cargo test`: docs/INTEROP.md says how to run it and what came of it. Every server runs
//! as an unprivileged process of its own on loopback ports, from a configuration made here, with a
//! certificate of a CA made here. Each test goes through all scenes and prints a table.

#[path = "interop/accounts.rs"]
mod accounts;
#[path = "interop/config.rs"]
mod config;
#[path = "interop/cut.rs"]
mod cut;
#[path = "interop/federation.rs"]
mod federation;
#[path = "interop/messages.rs"]
mod messages;
#[path = "interop/peer.rs"]
mod peer;
#[path = "interop/process.rs"]
mod process;
#[path = "interop/pubsub.rs"]
mod pubsub;
#[path = "interop/rooms.rs"]
mod rooms;
#[path = "interop/services.rs"]
mod services;
#[path = "interop/stage.rs"]
mod stage;

use federation::{Make, Options, Proof, World, cuts, ways};
use peer::Peer;
use stage::{Stage, scene};

/// All scenes against one server.
async fn play(peer: Peer) {
    let mut stage = Stage::new(peer.name, peer);
    scene!(stage, messages::sign_in);
    scene!(stage, messages::ping);
    scene!(stage, messages::disco);
    scene!(stage, messages::chat);
    scene!(stage, messages::roster_and_presence);
    scene!(stage, messages::blocking);
    scene!(stage, messages::carbons);
    scene!(stage, messages::archive);
    scene!(stage, rooms::join_speak_leave);
    scene!(stage, rooms::configure_and_govern);
    scene!(stage, rooms::invite);
    scene!(stage, rooms::archive_of_a_room);
    scene!(stage, pubsub::personal_events);
    scene!(stage, pubsub::service);
    scene!(stage, pubsub::bookmarks);
    scene!(stage, pubsub::upload_slot);
    scene!(stage, accounts::register);
    scene!(stage, accounts::name_exists);
    scene!(stage, accounts::register_by_form);
    scene!(stage, accounts::name_of_the_servers_choice);
    scene!(stage, accounts::password_and_end);
    scene!(stage, accounts::card_and_private_xml);
    scene!(stage, services::user_search);
    scene!(stage, services::commands);
    stage.finish();
}

/// One program, three servers, STARTTLS and direct TLS, and a link that is cut twice.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn three_servers() {
    let peers = [
        Peer::ours().await,
        Peer::prosody().await,
        Peer::ejabberd().await,
    ];
    for peer in &peers {
        cut::play(peer).await;
        println!("| {} | cut::play | works |", peer.name);
    }
}

/// The links between ours and Prosody cut while messages flow, without and with stream management.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn federation_cut() {
    for (name, modules) in [
        ("Prosody, no stream management", [].as_slice()),
        ("Prosody, stream management", &["smacks"]),
    ] {
        let options = Options {
            modules,
            ..Options::default()
        };
        let world = World::with(Make::Prosody, Proof::External, options).await;
        let mut stage = Stage::new(name, world);
        scene!(stage, cuts::to_theirs);
        scene!(stage, cuts::to_ours);
        stage.finish();
    }
}

/// The same two found by direct TLS.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn federation_by_direct_tls() {
    let options = Options {
        direct_tls: true,
        ..Options::default()
    };
    for make in [Make::Prosody, Make::Ejabberd] {
        let name = format!("ours and {} by direct TLS", make.name());
        let mut stage = Stage::new(&name, World::with(make, Proof::External, options).await);
        scene!(stage, federation::chat);
        scene!(stage, federation::first_word_is_theirs);
        scene!(stage, federation::requests);
        scene!(stage, federation::links);
        scene!(stage, ways::by_direct_tls_alone);
        stage.finish();
    }
}

/// One stream for both ways; ejabberd 23.01 does not know that.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn federation_by_bidi() {
    let options = Options {
        modules: &["s2s_bidi"],
        ..Options::default()
    };
    let new = || World::with(Make::Prosody, Proof::External, options);
    let mut stage = Stage::new("ours and Prosody, bidi, ours first", new().await);
    scene!(stage, ways::both_ways_by_the_stream_of_ours);
    stage.finish();
    let mut stage = Stage::new("ours and Prosody, bidi, theirs first", new().await);
    scene!(stage, ways::both_ways_by_the_stream_of_theirs);
    scene!(stage, federation::chat);
    scene!(stage, federation::subscription_and_presence);
    scene!(stage, federation::requests);
    scene!(stage, federation::room);
    stage.finish();
}

/// A laboratory of the command xmpp-lab, which the others join.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn laboratory() {
    if !process::is_root() {
        println!("not played: only root may give a program a resolv.conf of its own");
        return;
    }
    for (make, proof) in [
        (Make::Prosody, Proof::ServerOnly),
        (Make::Ejabberd, Proof::Fallback),
    ] {
        let name = format!("xmpp-lab and {}", make.name());
        let mut stage = Stage::new(&name, World::in_laboratory(make, proof).await);
        scene!(stage, federation::first_word_is_theirs);
        scene!(stage, federation::chat);
        scene!(stage, federation::subscription_and_presence);
        scene!(stage, federation::requests);
        scene!(stage, federation::room);
        stage.finish();
    }
}

/// All scenes of two domains, ours and one of this make.
async fn federate(make: Make) {
    let proofs = [
        Proof::External,
        Proof::ServerOnly,
        Proof::Fallback,
        Proof::Dialback,
    ];
    for proof in proofs {
        let name = format!("ours and {} by {}", make.name(), proof.name());
        let mut stage = Stage::new(&name, World::new(make, proof).await);
        if (make, proof) == (Make::Ejabberd, Proof::ServerOnly) {
            scene!(stage, federation::first_word_is_theirs);
            scene!(stage, federation::refused_for_its_purpose);
            stage.finish();
            continue;
        }
        if proof != Proof::External {
            scene!(stage, federation::first_word_is_theirs);
        }
        scene!(stage, federation::chat);
        scene!(stage, federation::subscription_and_presence);
        scene!(stage, federation::requests);
        scene!(stage, federation::room);
        scene!(stage, federation::links);
        stage.finish();
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn federation_with_prosody() {
    federate(Make::Prosody).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn federation_with_ejabberd() {
    federate(Make::Ejabberd).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn prosody() {
    play(Peer::prosody().await).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn ejabberd() {
    play(Peer::ejabberd().await).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn ours() {
    play(Peer::ours().await).await;
}
