//! Every bound of DESIGN 9 from both sides of its number: which test shows it, and here those that
//! have no better place. `TESTS` is checked against the keys of docs/OPERATING.md and against the
//! names of tests in the tree.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::time::Duration;
use tokio::time::{Instant, advance};
use xmpp_server::config::Conflict;
use xmpp_server::limits::Limits;
use xmpp_stream::ns;
use xmpp_testkit::managed::ids;
use xmpp_testkit::wire::Wire;
use xmpp_testkit::{Over, TestLab, Tree};

const SECOND: Duration = Duration::from_secs(1);
const MS: Duration = Duration::from_millis(1);

/// Keys of `[limits]` and the tests of each, on both sides of the number.
const TESTS: &[(&str, &[&str])] = &[
    (
        "account_miss_kept",
        &["unknown_names_are_remembered_until_one_is_made"],
    ),
    ("accounts_cached_max", &["misses_of_a_flood_are_bounded"]),
    (
        "admin_connections_max",
        &["connections_over_the_bound_wait"],
    ),
    ("admin_line_bytes_max", &["lines_that_are_no_request"]),
    (
        "bind_tries_max",
        &[
            "c6120_6_retries_are_bounded",
            "im_sm_09_tries_to_resume_are_bounded",
        ],
    ),
    (
        "broadcasts_max",
        &["c6120_lm_05_a_session_sends_so_many_of_a_kind"],
    ),
    ("caps_asked_max", &["questions_and_answers_have_bounds"]),
    ("caps_bytes_max", &["questions_and_answers_have_bounds"]),
    ("caps_kept_max", &["questions_and_answers_have_bounds"]),
    ("close_max", &["c6120_st_05_we_close_and_still_listen"]),
    ("directed_max", &["c6121_pr_11_the_list_has_a_bound"]),
    (
        "drain_max",
        &["a_peer_that_does_not_answer_holds_it_up_for_ten_seconds_at_most"],
    ),
    // A net below our own handlers: nothing that a peer sends comes near it.
    ("effects_max", &["effects_of_one_stanza_are_bounded"]),
    (
        "login_delay",
        &[
            "c6120_lm_07_delays_double_up_to_the_longest_and_end_with_a_success",
            "c6120_lm_07_each_wrong_password_makes_the_next_attempt_wait_longer",
        ],
    ),
    (
        "login_delay_entries_max",
        &["entries_are_forgotten_and_bounded"],
    ),
    ("login_delay_kept", &["entries_are_forgotten_and_bounded"]),
    (
        "login_delay_max",
        &["c6120_lm_07_delays_double_up_to_the_longest_and_end_with_a_success"],
    ),
    (
        "login_failures_max",
        &["c6120_sa_10_five_wrong_passwords_end_the_stream"],
    ),
    ("login_refusals_max", &["c6120_lm_07_ten_refusals_of_form"]),
    (
        "loopback_exempt",
        &["loopback_is_exempt_by_address_but_not_in_all"],
    ),
    ("negotiation_max", &["the_time_to_sign_in_is_bounded"]),
    (
        "offline_messages_max",
        &["im_of_04_a_full_queue_is_told_to_the_sender_alone"],
    ),
    ("outbox_bytes_hard", &["bytes_are_bounded_like_items"]),
    (
        "outbox_bytes_soft",
        &["a_producer_that_meets_a_soft_queue_pauses_once"],
    ),
    (
        "outbox_items_hard",
        &[
            "over_the_hard_bound_the_session_is_marked_and_not_ended",
            "im_sm_17_a_waiting_session_ends_at_the_hard_bound_and_nothing_is_lost",
        ],
    ),
    (
        "outbox_items_soft",
        &[
            "over_the_soft_bound_the_producer_is_told",
            "availability_is_coalesced_over_the_soft_bound_only",
            "a_producer_that_meets_a_soft_queue_pauses_once",
        ],
    ),
    (
        "outbox_pause_max",
        &["a_producer_that_meets_a_soft_queue_pauses_once"],
    ),
    (
        "pending_request_bytes_max",
        &["c6121_su_22_kept_requests_are_bounded_in_size"],
    ),
    (
        "pending_requests_max",
        &["c6121_su_22_kept_requests_are_bounded_in_number"],
    ),
    ("presence_bytes_max", &["payloads_are_bounded_in_bytes"]),
    ("private_bytes_max", &["payloads_are_bounded_in_bytes"]),
    (
        "private_elements_max",
        &["im_pv_01_private_elements_are_stored_for_their_owner"],
    ),
    (
        "read_bytes_per_second_max",
        &["c6120_lm_05_bytes_are_read_so_fast"],
    ),
    (
        "recipients_max",
        &["c6120_lm_04_a_session_writes_to_so_many_addresses_a_minute"],
    ),
    ("registration_entries_max", &["addresses_are_bounded"]),
    (
        "registration_max",
        &["the_time_to_fill_in_a_form_is_bounded"],
    ),
    (
        "registrations_per_address_max",
        &["im_ib_03_so_many_an_hour_from_one_network"],
    ),
    (
        "replace_max",
        &["a_session_that_is_replaced_may_finish_for_so_long"],
    ),
    (
        "resources_per_account_max",
        &["sessions_are_bounded_in_number"],
    ),
    ("roster_bytes_max", &["payloads_are_bounded_in_bytes"]),
    (
        "roster_group_bytes_max",
        &["c6121_ro_12_names_and_groups_have_bounds"],
    ),
    (
        "roster_groups_max",
        &["c6121_ro_12_names_and_groups_have_bounds"],
    ),
    ("roster_items_max", &["c6121_ro_12_items_have_a_bound"]),
    (
        "roster_name_bytes_max",
        &["c6121_ro_12_names_and_groups_have_bounds"],
    ),
    (
        "roster_removed_max",
        &["removed_contacts_are_remembered_up_to_a_number"],
    ),
    (
        "component_pending_bytes_max",
        &["what_waits_for_a_component_is_bounded"],
    ),
    (
        "component_pending_max",
        &["what_waits_for_a_component_is_bounded"],
    ),
    (
        "s2s_connect_max",
        &["s2s_connect_max_ends_a_connection_that_takes_too_long"],
    ),
    ("s2s_idle_max", &["an_unused_stream_is_told_of_and_stays"]),
    ("s2s_keys_max", &["keys_and_pairs_are_bounded"]),
    ("s2s_links_max", &["s2s_links_max_bounds_domains"]),
    ("s2s_log_again", &["the_same_failure_is_logged_once"]),
    ("s2s_log_kept_max", &["the_log_remembers_so_many_causes"]),
    ("s2s_pairs_max", &["keys_and_pairs_are_bounded"]),
    ("s2s_pending_bytes_max", &["s2s_pending_bounds_one_domain"]),
    (
        "s2s_pending_bytes_total_max",
        &["s2s_pending_bounds_all_domains"],
    ),
    ("s2s_pending_max", &["s2s_pending_bounds_one_domain"]),
    (
        "s2s_refusals_max",
        &[
            "refused_keys_are_counted",
            "c6120_sa_10_refused_proofs_are_counted",
        ],
    ),
    (
        "s2s_resumable_max",
        &["counts_are_kept_for_a_time_and_up_to_a_number"],
    ),
    (
        "s2s_verify_max",
        &["asking_about_keys_is_bounded_and_never_in_clear_where_tls_is_required"],
    ),
    (
        "s2s_wait_max",
        &["only_a_link_that_was_up_lately_is_waited_for"],
    ),
    ("sessions_max", &["sessions_are_bounded_in_number"]),
    (
        "silence_answer_max",
        &["a_silent_peer_is_asked_and_given_a_minute"],
    ),
    (
        "silence_max",
        &["a_silent_peer_is_asked_and_given_a_minute"],
    ),
    (
        "sm_ack_wait",
        &["im_sm_06_a_store_that_hangs_does_not_stop_chat_and_counts_nothing"],
    ),
    (
        "sm_ended_kept",
        &["im_sm_09_the_count_of_an_ended_stream_is_told_for_two_days"],
    ),
    (
        "sm_ended_max",
        &["im_sm_09_streams_are_remembered_for_a_time_and_up_to_a_number"],
    ),
    (
        "sm_enable_max",
        &["im_sm_02_enable_does_not_wait_long_for_a_store_that_hangs"],
    ),
    (
        "sm_resume",
        &["im_sm_13_contacts_see_no_end_before_the_time_is_over_and_one_then"],
    ),
    (
        "sm_resume_max",
        &["im_sm_03_the_time_that_the_client_asked_for_is_kept"],
    ),
    ("sm_unacked_bytes_max", &["im_sm_17_the_same_in_bytes"]),
    (
        "sm_unacked_max",
        &["im_sm_17_the_writer_pauses_at_the_bound_and_goes_on_with_the_ack"],
    ),
    (
        "stanza_bytes_before_auth_max",
        &["stanzas_are_bounded_in_bytes"],
    ),
    (
        "stanza_bytes_max",
        &["stanzas_are_bounded_in_bytes", "c6120_lm_03_stanza_size"],
    ),
    (
        "stanza_bytes_pending_max",
        &["what_waits_for_the_store_is_bounded_in_bytes"],
    ),
    (
        "stanzas_pending_max",
        &["what_waits_for_the_store_is_bounded_in_number"],
    ),
    (
        "ticket_max",
        &[
            "waits_its_time_and_no_longer",
            "im_sm_06_an_error_comes_before_the_count_that_covers_it",
        ],
    ),
    (
        "subscribes_max",
        &["c6120_lm_05_a_session_sends_so_many_of_a_kind"],
    ),
    (
        "turn_bytes_max",
        &["others_have_their_turn_after_so_many_bytes"],
    ),
    (
        "unauthenticated_max",
        &["loopback_is_exempt_by_address_but_not_in_all"],
    ),
    (
        "unauthenticated_per_address_max",
        &["c6120_lm_01_connections_per_address_are_bounded"],
    ),
    ("vcard_bytes_max", &["payloads_are_bounded_in_bytes"]),
    (
        "watch_bytes_max",
        &["a_slow_watcher_loses_stanzas_and_is_told"],
    ),
    (
        "watch_stanzas_max",
        &["a_slow_watcher_loses_stanzas_and_is_told"],
    ),
    ("write_stall_max", &["a_write_may_stall_for_so_long"]),
    (
        "writer_bytes_max",
        &["room_is_counted_in_operations_and_bytes"],
    ),
    (
        "writer_group_bytes_max",
        &["groups_are_bounded_and_submits_never_split"],
    ),
    (
        "writer_group_ops_max",
        &["groups_are_bounded_and_submits_never_split"],
    ),
    (
        "writer_ops_max",
        &[
            "room_is_counted_in_operations_and_bytes",
            "a_full_queue_refuses_and_takes_again_when_drained",
        ],
    ),
];

#[test]
fn every_bound_has_its_test() {
    let root = Path::new(concat!(env!("CARGO_MANIFEST_DIR"), "/.."));
    let page = std::fs::read_to_string(root.join("docs/OPERATING.md")).expect("the page");
    let section = page.split("### `[limits]`").nth(1).expect("the section");
    let section = section.split("\n## ").next().unwrap_or_default();
    let rows = section
        .lines()
        .filter_map(|line| line.strip_prefix("| `")?.split_once('`'));
    let keys: BTreeSet<&str> = rows
        .filter(|(_, rest)| !rest.contains("*later*"))
        .map(|(key, _)| key)
        .collect();
    let table: BTreeMap<_, _> = TESTS.iter().copied().collect();
    let missing: Vec<_> = keys
        .iter()
        .filter(|key| !table.contains_key(*key))
        .collect();
    assert!(missing.is_empty(), "bounds without a test: {missing:?}");
    let unknown: Vec<_> = table.keys().filter(|key| !keys.contains(*key)).collect();
    assert!(unknown.is_empty(), "no bounds: {unknown:?}");
    let mut text = String::new();
    for folder in ["tests/tests", "xmpp-server", "xmpp-stream/src"] {
        read(&root.join(folder), &mut text);
    }
    for (key, tests) in TESTS {
        for test in *tests {
            assert!(
                text.contains(&format!("fn {test}(")),
                "{key}: no test {test}"
            );
        }
    }
}

fn read(folder: &Path, text: &mut String) {
    for entry in std::fs::read_dir(folder).expect("a folder") {
        let path = entry.expect("an entry").path();
        if path.is_dir() {
            read(&path, text);
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            text.push_str(&std::fs::read_to_string(&path).expect("a file"));
        }
    }
}

async fn lab(change: impl FnOnce(&mut Limits)) -> TestLab {
    let lab = TestLab::with(["a.test"], |config| change(&mut config.limits));
    lab.await.expect("a server")
}

fn condition(error: &Tree) -> String {
    let condition = error
        .child("error")
        .and_then(|error| error.children().next());
    condition.map_or_else(String::new, |child| child.name().to_owned())
}

#[tokio::test]
async fn sessions_are_bounded_in_number() {
    for each in [false, true] {
        let lab = lab(|limits| match each {
            true => limits.resources_per_account_max = 2,
            false => limits.sessions_max = 2,
        })
        .await;
        let one = lab.wire_in_memory("ann@a.test/one").await;
        let _two = lab.wire_in_memory("ann@a.test/two").await;
        let mut third = lab.unbound(Over::Memory, "ann@a.test").await;
        let bind = format!("<iq type='set' id='b'><bind xmlns='{}'/></iq>", ns::BIND);
        third.send(&bind).await;
        assert_eq!(condition(&third.next().await), "resource-constraint");
        // One goes, one comes.
        one.close().await;
        third.bind(Some("three")).await;
        third.barrier().await;
    }
}

#[tokio::test(start_paused = true)]
async fn the_time_to_sign_in_is_bounded() {
    let lab = lab(|_| ()).await;
    let password = lab.account("ann@a.test").await;
    for (wait, in_time) in [(29, true), (30, false)] {
        let mut wire = lab.raw_in_memory("a.test");
        wire.open_secure().await;
        advance(Duration::from_secs(wait)).await;
        match in_time {
            true => {
                wire.authenticate_scram("ann", &password).await;
                wire.open().await;
                wire.bind(None).await;
                // Once signed in there is time.
                advance(Duration::from_secs(60)).await;
                wire.barrier().await;
            }
            false => drop(wire.expect_stream_error("connection-timeout").await),
        }
    }
}

#[tokio::test(start_paused = true)]
async fn the_time_to_fill_in_a_form_is_bounded() {
    let lab = lab(|_| ()).await;
    for (wait, in_time) in [(299, true), (300, false)] {
        let mut wire = lab.raw_in_memory("a.test");
        wire.open_secure().await;
        wire.send(format!(
            "<iq type='get' id='f' to='a.test'><query xmlns='{}'/></iq>",
            ns::REGISTER
        ))
        .await;
        wire.answer("f").await;
        advance(Duration::from_secs(wait)).await;
        match in_time {
            true => wire.register("new", "secret").await,
            false => drop(wire.expect_stream_error("connection-timeout").await),
        }
    }
}

#[tokio::test(start_paused = true)]
async fn a_silent_peer_is_asked_and_given_a_minute() {
    let lab = lab(|_| ()).await;
    for managed in [false, true] {
        let mut ann = lab.wire_in_memory("ann@a.test").await;
        if managed {
            ann.enable("").await;
        }
        ann.barrier().await;
        answer(&mut ann).await;
        let heard = Instant::now();
        advance(299 * SECOND).await;
        let asked = match managed {
            true => {
                ann.expect_asked().await;
                None
            }
            false => Some(ann.next().await),
        };
        assert!(
            (heard.elapsed().as_secs_f64() - 300.0).abs() < 0.1,
            "{:?}",
            heard.elapsed()
        );
        // Just in time.
        advance(59 * SECOND).await;
        match &asked {
            None => ann.ack().await,
            Some(ping) => {
                assert!(ping.child_ns(ns::PING, "ping").is_some(), "{ping}");
                let id = ping.attr("id").expect("an id");
                ann.send(format!("<iq type='result' id='{id}' to='a.test'/>"))
                    .await;
            }
        }
        ann.barrier().await;
        answer(&mut ann).await;
        advance(300 * SECOND).await;
        match managed {
            true => ann.expect_asked().await,
            false => drop(ann.next().await),
        }
        let asked = Instant::now();
        advance(55 * SECOND).await;
        ann.expect_stream_error("connection-timeout").await;
        assert!(
            (asked.elapsed().as_secs_f64() - 60.0).abs() < 0.1,
            "{:?}",
            asked.elapsed()
        );
    }
}

#[tokio::test(start_paused = true)]
async fn what_waits_for_the_store_is_bounded_in_number() {
    for (sent, handled) in [(4, 4), (5, 5), (6, 5), (9, 5)] {
        let lab = lab(|limits| limits.stanzas_pending_max = 5).await;
        let mut ann = lab.managed(Over::Memory, "ann@a.test/one").await;
        let mut ben = lab.wire_in_memory("ben@a.test/one").await;
        ben.presence("").await;
        lab.memory().hold();
        for id in 0..sent {
            ann.chat("ben@a.test", id).await;
        }
        assert_eq!(ben.message_ids(handled).await, ids(0..handled as u32));
        ben.barrier().await;
        lab.memory().settle(1, true);
        if sent as usize > handled {
            assert_eq!(ben.message_ids(1).await, [handled.to_string()]);
        }
        ben.barrier().await;
        lab.memory().release();
        drop(ann);
    }
}

#[tokio::test(start_paused = true)]
async fn what_waits_for_the_store_is_bounded_in_bytes() {
    let lab = lab(|limits| limits.stanza_bytes_pending_max = 10_000).await;
    let mut ann = lab.managed(Over::Memory, "ann@a.test/one").await;
    let mut ben = lab.wire_in_memory("ben@a.test/one").await;
    ben.presence("").await;
    lab.memory().hold();
    let body = "x".repeat(4000);
    for id in 0..5 {
        ann.send(format!(
            "<message to='ben@a.test' type='chat' id='{id}'><body>{body}</body></message>"
        ))
        .await;
    }
    // Two are below the bound, with the third it is passed.
    assert_eq!(ben.message_ids(3).await, ids(0..3));
    ben.barrier().await;
    lab.memory().settle(1, true);
    assert_eq!(ben.message_ids(1).await, ["3"]);
    ben.barrier().await;
}

#[tokio::test(start_paused = true)]
async fn a_producer_that_meets_a_soft_queue_pauses_once() {
    for (waiting, items, pauses) in [
        (4, true, false),
        (5, true, true),
        (2, false, false),
        (3, false, true),
    ] {
        let lab = lab(|limits| match items {
            true => (limits.outbox_items_soft, limits.outbox_bytes_soft) = (5, usize::MAX),
            false => limits.outbox_bytes_soft = 300_000,
        })
        .await;
        let mut deaf = lab.wire_in_memory("deaf@a.test/one").await;
        deaf.presence("").await;
        let mut ben = lab.wire_in_memory("ben@a.test/one").await;
        // The pipe takes 64 KiB: the first of these is being written for good.
        let body = "x".repeat(100_000);
        let chat = format!("<message to='deaf@a.test' type='chat'><body>{body}</body></message>");
        for _ in 0..waiting {
            ben.send(&chat).await;
        }
        ben.barrier().await;
        let before = Instant::now();
        ben.chat("deaf@a.test", "last").await;
        ben.barrier().await;
        let pause = if pauses { 5 } else { 0 };
        assert_eq!(before.elapsed().as_millis(), pause, "{waiting} waiting");
    }
}

#[tokio::test(start_paused = true)]
async fn a_write_may_stall_for_so_long() {
    for resumable in [false, true] {
        let lab = lab(|limits| limits.stream.silence_max = 10_000 * SECOND).await;
        let mut deaf = lab.wire_in_memory("deaf@a.test/one").await;
        if resumable {
            deaf.enable("resume='true'").await;
        }
        available(&mut deaf).await;
        let mut ben = lab.wire_in_memory("ben@a.test/two").await;
        let body = "x".repeat(200_000);
        ben.send(format!(
            "<message to='deaf@a.test/one'><body>{body}</body></message>"
        ))
        .await;
        ben.barrier().await;
        let account = lab.account_of("deaf@a.test");
        let state = || {
            account
                .lock()
                .sessions
                .first()
                .map(|entry| entry.hibernating)
        };
        advance(59 * SECOND).await;
        ben.barrier().await;
        assert_eq!(state(), Some(false));
        advance(SECOND + MS).await;
        ben.barrier().await;
        assert_eq!(state(), resumable.then_some(true));
    }
}

#[tokio::test(start_paused = true)]
async fn a_session_that_is_replaced_may_finish_for_so_long() {
    for (settled_after, took) in [(5, 5), (8, 6)] {
        let lab = TestLab::with(["a.test"], |config| {
            config.c2s.conflict = Conflict::KickOld;
            config.limits.ticket_max = 60 * SECOND;
            config.limits.replace_max = 6 * SECOND;
        });
        let lab = lab.await.expect("a server");
        let mut old = lab.wire_in_memory("ann@a.test/one").await;
        let mut fresh = lab.unbound(Over::Memory, "ann@a.test").await;
        let mut by = lab.wire_in_memory("by@a.test/one").await;
        lab.memory().hold();
        old.send(format!(
            "<iq type='set' id='r'><query xmlns='{}'><item jid='x@a.test'/></query></iq>",
            ns::ROSTER
        ))
        .await;
        let began = Instant::now();
        let binding = tokio::spawn(async move {
            assert_eq!(fresh.bind(Some("one")).await, "ann@a.test/one");
            began.elapsed().as_secs()
        });
        for _ in 0..settled_after {
            by.barrier().await;
            advance(SECOND).await;
        }
        lab.memory().release();
        assert_eq!(binding.await.expect("bound"), took);
        let error = old.until_stream_error().await.pop().expect("an error");
        assert!(
            error.child_ns(ns::STREAM_ERRORS, "conflict").is_some(),
            "{error}"
        );
    }
}

#[tokio::test]
async fn removed_contacts_are_remembered_up_to_a_number() {
    let lab = lab(|limits| limits.roster_removed_max = 2).await;
    let mut ann = lab.wire_in_memory("ann@a.test/one").await;
    let mut set = async |item: String| {
        let query = format!("<query xmlns='{}'>{item}</query>", ns::ROSTER);
        ann.iq("set", "ann@a.test", &query).await;
    };
    for number in 0..20 {
        set(format!(
            "<item jid='c{number}@a.test' name='somebody of a long name'/>"
        ))
        .await;
    }
    for (removed, remembered) in [(2, true), (3, false)] {
        let mut two = lab.wire_in_memory("ann@a.test").await;
        let ver = two
            .roster_get()
            .await
            .attr("ver")
            .expect("a version")
            .to_owned();
        for number in 0..removed {
            let jid = format!("c{}@a.test", 5 * removed + number);
            set(format!("<item jid='{jid}' subscription='remove'/>")).await;
        }
        let mut three = lab.wire_in_memory("ann@a.test").await;
        let query = format!("<query xmlns='{}' ver='{ver}'/>", ns::ROSTER);
        three
            .send(format!("<iq type='get' id='r'>{query}</iq>"))
            .await;
        let answer = three.answer("r").await;
        let whole = answer.child_ns(ns::ROSTER, "query").is_some();
        assert_eq!(whole, !remembered, "{removed}: {answer}");
    }
}

#[tokio::test]
async fn payloads_are_bounded_in_bytes() {
    let lab = lab(|limits| {
        limits.presence_bytes_max = 100;
        limits.private_bytes_max = 100;
        limits.vcard_bytes_max = 100;
        limits.roster_bytes_max = 150;
    })
    .await;
    let mut ann = lab.wire_in_memory("ann@a.test/one").await;
    for (what, fits) in [
        ("presence", 60),
        ("private", 30),
        ("vcard", 30),
        ("roster", 60),
    ] {
        for (size, refused) in [(fits, false), (fits + 100, true)] {
            let text = "x".repeat(size);
            let query = |ns: &str, inner: String| {
                format!("<iq type='set' id='i'><query xmlns='{ns}'>{inner}</query></iq>")
            };
            ann.send(match what {
                "presence" => format!("<presence id='i'><status>{text}</status></presence>"),
                "private" => query(ns::PRIVATE, format!("<a xmlns='urn:a'>{text}</a>")),
                "vcard" => format!(
                    "<iq type='set' id='i'><vCard xmlns='{}'><FN>{text}</FN></vCard></iq>",
                    ns::VCARD
                ),
                _ => query(ns::ROSTER, format!("<item jid='b@a.test' name='{text}'/>")),
            })
            .await;
            let answer = ann.next().await;
            assert_eq!(answer.attr("id"), Some("i"), "{answer}");
            assert_eq!(
                answer.attr("type") == Some("error"),
                refused,
                "{what} {size}: {answer}"
            );
        }
    }
}

#[tokio::test]
async fn stanzas_are_bounded_in_bytes() {
    let limits = Limits::default().stream;
    let lab = lab(|_| ()).await;
    let mut ben = lab.wire_in_memory("ben@a.test/one").await;
    for (more, fits) in [(0, true), (1, false)] {
        let mut ann = lab.wire_in_memory("ann@a.test").await;
        let empty = "<message to='ben@a.test/one'><body></body></message>".len();
        let body = "x".repeat(limits.after_auth.stanza_bytes_max - empty + more);
        ann.send(format!(
            "<message to='ben@a.test/one'><body>{body}</body></message>"
        ))
        .await;
        match fits {
            true => assert_eq!(ben.next().await.name(), "message"),
            false => drop(ann.expect_stream_error("policy-violation").await),
        }
        let mut early = lab.raw_in_memory("a.test");
        early.open_secure().await;
        let (begin, end) = (
            format!("<auth xmlns='{}' mechanism='PLAIN'>", ns::SASL),
            "</auth>",
        );
        let size = limits.before_auth.stanza_bytes_max - begin.len() - end.len() + more;
        early
            .send(format!("{begin}{}{end}", "A".repeat(size)))
            .await;
        match fits {
            true => assert_eq!(early.next().await.name(), "failure"),
            false => drop(early.expect_stream_error("policy-violation").await),
        }
    }
}

/// Makes the peer available; its own presence is received and acknowledged.
async fn available(wire: &mut Wire) {
    wire.presence("").await;
    answer(wire).await;
}

/// Acknowledges everything, so that no question of the server's is open.
async fn answer(wire: &mut Wire) {
    // The first answer may be on its way before the last question is here.
    for _ in 0..2 {
        if wire.counts() {
            wire.ack().await;
            wire.ask().await;
        }
    }
}

#[tokio::test(start_paused = true)]
async fn c6120_lm_04_a_session_writes_to_so_many_addresses_a_minute() {
    let lab = TestLab::with(["a.test"], |config| config.limits.recipients_max = 3).await;
    let lab = lab.expect("a server");
    let mut ann = lab.wire_in_memory("ann@a.test/one").await;
    let ping = format!("<ping xmlns='{}'/>", ns::PING);
    for minute in 0..2 {
        for (to, refused) in [
            ("b@a.test", false),
            ("c@a.test", false),
            ("d@a.test", false),
            ("e@a.test", true),
            ("b@a.test/x", false),
            ("d@a.test", false),
            ("f@a.test", true),
            // Neither the server nor the own account is anybody.
            ("a.test", false),
            ("ann@a.test", false),
        ] {
            ann.send(format!("<iq type='get' id='{to}' to='{to}'>{ping}</iq>"))
                .await;
            let got = ann.next().await;
            assert_eq!(got.attr("id"), Some(to), "{got}");
            let error = got.child("error");
            let policy = error.and_then(|e| e.child_ns(ns::STANZAS, "policy-violation"));
            assert_eq!(policy.is_some(), refused, "{minute}: {got}");
        }
        ann.send("<message to='g@a.test' id='m'><body>b</body></message>")
            .await;
        let error = ann.next().await.to_string();
        assert!(error.contains("policy-violation"), "{error}");
        assert!(error.contains("wait"), "{error}");
        advance(SECOND * 60).await;
    }
}
