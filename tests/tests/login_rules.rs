//! Logins that are not like others: after wrong passwords, of banned accounts, of too many newcomers.

use sasl::client::Mechanism;
use sasl::client::mechanisms::{Plain, Scram};
use sasl::common::ChannelBinding;
use sasl::common::scram::{Sha1, Sha256};
use std::net::IpAddr;
use std::time::Duration;
use tokio::time::Instant;
use xmpp_server::config::Registration;
use xmpp_server::users::Users;
use xmpp_stream::jid::BareJid;
use xmpp_stream::ns;
use xmpp_testkit::{TestLab, Tree, Wire};

const ELSEWHERE: [u8; 4] = [192, 0, 2, 1];
const LOOPBACK: [u8; 4] = [127, 0, 0, 1];
const SECOND: Duration = Duration::from_secs(1);
/// Far more than one attempt takes, far less than a delay.
const SOON: Duration = Duration::from_millis(200);

/// Delays of 1, 2, 4 and again 4 seconds.
async fn lab_with_delays(loopback_exempt: bool) -> TestLab {
    let lab = TestLab::with(["a.test"], |config| {
        config.limits.loopback_exempt = loopback_exempt;
        config.limits.login_delay = SECOND;
        config.limits.login_delay_max = 4 * SECOND;
        config.limits.login_delay_kept = 60 * SECOND;
    });
    let lab = lab.await.expect("a server");
    lab.account("ann@a.test").await;
    lab
}

async fn at_features(lab: &TestLab, from: impl Into<IpAddr>) -> Wire {
    let mut wire = lab.raw_from("a.test", from.into());
    wire.open_secure().await;
    wire
}

fn scram(local: &str, password: &str) -> Scram<Sha256> {
    Scram::new(local, password, ChannelBinding::None).expect("random bytes")
}

/// Tries a wrong password, and says how long the answer took.
async fn wrong(wire: &mut Wire, local: &str) -> Duration {
    let start = Instant::now();
    let failure = wire.authenticate(&mut scram(local, "wrong")).await;
    let failure = failure.expect_err("a wrong password");
    assert!(failure.child("not-authorized").is_some(), "{failure}");
    start.elapsed()
}

#[track_caller]
fn check(took: Duration, seconds: u32) {
    let wanted = seconds * SECOND;
    let fits = wanted.saturating_sub(SOON)..wanted + SOON;
    assert!(fits.contains(&took), "{took:?} for {wanted:?}");
}

#[tokio::test(start_paused = true)]
async fn c6120_lm_07_each_wrong_password_makes_the_next_attempt_wait_longer() {
    // The same for a name that nobody has and one that nobody can have.
    for local in ["ann", "nobody", "no body"] {
        let lab = lab_with_delays(true).await;
        let mut wire = at_features(&lab, ELSEWHERE).await;
        for seconds in [0, 1, 2, 4] {
            check(wrong(&mut wire, local).await, seconds);
        }
        // Another connection waits as well; another account, and another address, do not.
        let mut again = at_features(&lab, ELSEWHERE).await;
        check(wrong(&mut again, local).await, 4);
        check(wrong(&mut again, "ben").await, 0);
        let mut other = at_features(&lab, [192, 0, 2, 2]).await;
        check(wrong(&mut other, local).await, 0);
    }
}

#[tokio::test(start_paused = true)]
async fn c6120_lm_07_the_right_password_waits_too_and_ends_the_delays() {
    let lab = lab_with_delays(true).await;
    let password = lab.account("ann@a.test").await;
    for case in ["scram", "plain"] {
        let mut wire = at_features(&lab, ELSEWHERE).await;
        wrong(&mut wire, "ann").await;
        check(wrong(&mut wire, "ann").await, 1);
        let start = Instant::now();
        let mut plain = Plain::new("ann", password.as_str());
        let mut scram = scram("ann", &password);
        let mechanism: &mut dyn Mechanism = match case {
            "plain" => &mut plain,
            _ => &mut scram,
        };
        wire.authenticate(mechanism).await.expect("signed in");
        check(start.elapsed(), 2);
        let mut wire = at_features(&lab, ELSEWHERE).await;
        check(wrong(&mut wire, "ann").await, 0);
        // For the next case: who types slowly does not wait.
        tokio::time::advance(SECOND).await;
        let start = Instant::now();
        let signed_in = wire.authenticate(&mut self::scram("ann", &password)).await;
        signed_in.expect("signed in");
        check(start.elapsed(), 0);
    }
}

#[tokio::test(start_paused = true)]
async fn c6120_lm_07_loopback_waits_only_where_it_is_not_exempt() {
    for (exempt, seconds) in [(true, 0), (false, 1)] {
        let lab = lab_with_delays(exempt).await;
        let mut wire = at_features(&lab, LOOPBACK).await;
        wrong(&mut wire, "ann").await;
        check(wrong(&mut wire, "ann").await, seconds);
    }
}

#[tokio::test(start_paused = true)]
async fn c6120_lm_07_what_was_said_before_is_written_during_the_delay() {
    let lab = lab_with_delays(true).await;
    let mut wire = at_features(&lab, ELSEWHERE).await;
    let auth = |password: &str| {
        use base64::Engine;
        let data = base64::engine::general_purpose::STANDARD.encode(format!("\0ann\0{password}"));
        let sasl = ns::SASL;
        format!("<auth xmlns='{sasl}' mechanism='PLAIN'>{data}</auth>")
    };
    // Two attempts in one write: the answer to the first does not wait for the second.
    let start = Instant::now();
    wire.send(auth("wrong") + &auth("wrong")).await;
    let failure = format!("<failure xmlns='{}'><not-authorized/></failure>", ns::SASL);
    wire.expect(&failure).await;
    check(start.elapsed(), 0);
    wire.expect(&failure).await;
    check(start.elapsed(), 1);
}

#[tokio::test(start_paused = true)]
async fn a_drain_does_not_wait_for_a_delay() {
    let lab = lab_with_delays(true).await;
    let mut wire = at_features(&lab, ELSEWHERE).await;
    for _ in 0..3 {
        wrong(&mut wire, "ann").await;
    }
    let sasl = ns::SASL;
    wire.send(format!(
        "<auth xmlns='{sasl}' mechanism='PLAIN'>AGFubgB3cm9uZw==</auth>"
    ))
    .await;
    // The attempt has arrived when the delay it meets is counted.
    let delayed = || lab.handle().core().tap.metrics.logins_delayed.sum();
    let before = delayed();
    while delayed() == before {
        tokio::task::yield_now().await;
    }
    let start = Instant::now();
    let down = tokio::spawn(lab.shutdown());
    wire.expect_stream_error("system-shutdown").await;
    check(start.elapsed(), 0);
    drop(wire);
    down.await.expect("the server ends");
}

// XEP-0077.

async fn registered(wire: &mut Wire, local: &str) -> Tree {
    let id = wire.new_id();
    let register = ns::REGISTER;
    wire.send(format!(
        "<iq type='set' id='{id}' to='a.test'><query xmlns='{register}'>\
         <username>{local}</username><password>secret</password></query></iq>"
    ))
    .await;
    wire.next().await
}

#[tokio::test(start_paused = true)]
async fn im_ib_03_so_many_registrations_an_hour_from_one_address() {
    let lab = TestLab::with(["a.test"], |config| {
        config.limits.loopback_exempt = false;
        config.limits.registrations_per_address_max = 3;
        config.domains[0].registration = Registration::Open;
    });
    let lab = lab.await.expect("a server");
    let fine = async |wire: &mut Wire, local: &str| {
        let answer = registered(wire, local).await;
        assert_eq!(answer.attr("type"), Some("result"), "{local}: {answer}");
    };
    let too_many = async |wire: &mut Wire, local: &str| {
        let answer = registered(wire, local).await;
        let error = answer.child("error").expect("an error");
        assert_eq!(error.attr("type"), Some("wait"), "{local}: {answer}");
        let condition = error.child_ns(ns::STANZAS, "not-acceptable");
        assert!(condition.is_some(), "{local}: {answer}");
    };
    for from in [LOOPBACK, ELSEWHERE] {
        let named = |name: &str| format!("{name}{}", from[0]);
        let mut wire = at_features(&lab, from).await;
        fine(&mut wire, &named("one")).await;
        fine(&mut wire, &named("two")).await;
        // A name that is taken costs nobody a place.
        for _ in 0..5 {
            let answer = registered(&mut wire, &named("two")).await.to_string();
            assert!(answer.contains("<conflict"), "{answer}");
        }
        let mut again = at_features(&lab, from).await;
        fine(&mut again, &named("three")).await;
        too_many(&mut again, &named("four")).await;
        too_many(&mut wire, &named("four")).await;
    }
    tokio::time::advance(3590 * SECOND).await;
    let mut wire = at_features(&lab, ELSEWHERE).await;
    too_many(&mut wire, "five").await;
    tokio::time::advance(10 * SECOND).await;
    let mut wire = at_features(&lab, ELSEWHERE).await;
    fine(&mut wire, "five").await;
    let made = lab.accounts().await.len();
    assert_eq!(made, 7);
}

// Bans.

#[tokio::test]
async fn a_banned_account_is_told_so_after_the_right_password_only() {
    let lab = TestLab::new(["a.test"]).await.expect("a server");
    let right = lab.account("ann@a.test").await;
    lab.account("ben@a.test").await;
    let ann = BareJid::parse("ann@a.test").expect("a JID");
    let users = Users::Running(lab.handle().core().clone());
    let mut before = lab.wire("ann@a.test/x").await;
    users.ban(&ann, Some("spam".into())).await.expect("banned");
    before.expect_stream_error("not-authorized").await;
    let attempt = async |local: &str, password: &str, name: &str| {
        let mut wire = lab.raw("a.test").await;
        wire.open_secure().await;
        let none = || ChannelBinding::None;
        let mut sha1 = Scram::<Sha1>::new(local, password, none()).expect("random bytes");
        let mut sha256 = Scram::<Sha256>::new(local, password, none()).expect("random bytes");
        let mut plain = Plain::new(local, password);
        let mechanism: &mut dyn Mechanism = match name {
            "PLAIN" => &mut plain,
            "SCRAM-SHA-1" => &mut sha1,
            _ => &mut sha256,
        };
        let failure = wire.authenticate(mechanism).await;
        failure.map_err(|failure| failure.to_string())
    };
    for name in ["PLAIN", "SCRAM-SHA-1", "SCRAM-SHA-256"] {
        let told = attempt("ann", &right, name).await.expect_err("banned");
        assert!(told.contains("account-disabled"), "{name}: {told}");
        assert!(
            !told.contains("spam"),
            "the reason is the operator's: {told}"
        );
        let wrong = attempt("ann", "wrong", name).await.expect_err("banned");
        let other = attempt("ben", "wrong", name).await.expect_err("wrong");
        assert!(wrong.contains("not-authorized"), "{name}: {wrong}");
        assert_eq!(wrong, other, "{name}");
    }
    users.unban(&ann).await.expect("not banned any more");
    for name in ["PLAIN", "SCRAM-SHA-1", "SCRAM-SHA-256"] {
        attempt("ann", &right, name).await.expect("signs in again");
    }
}
