//! Which candidates a fake zone gives, and what is not asked or waited for.

use super::*;
use std::sync::Mutex;
use std::time::Duration;
use tokio::time::Instant;

/// A zone: what each name has; what is not here does not exist.
#[derive(Default)]
struct Zone {
    srv: BTreeMap<&'static str, Result<Vec<Srv>, DnsError>>,
    v4: BTreeMap<&'static str, (u64, Result<Vec<Ipv4Addr>, DnsError>)>,
    v6: BTreeMap<&'static str, (u64, Result<Vec<Ipv6Addr>, DnsError>)>,
    asked: Mutex<Vec<String>>,
}

const SLOW: u64 = 1_000_000;

impl Dns for Zone {
    fn srv<'a>(&'a self, name: &'a str) -> Answer<'a, Srv> {
        self.asked.lock().unwrap().push(name.into());
        let answer = self.srv.get(name).cloned().unwrap_or(Ok(Vec::new()));
        Box::pin(std::future::ready(answer))
    }
    fn ipv4<'a>(&'a self, name: &'a str) -> Answer<'a, Ipv4Addr> {
        let (delay, answer) = self.v4.get(name).cloned().unwrap_or((0, Ok(Vec::new())));
        Box::pin(async move {
            after(delay).await;
            answer
        })
    }
    fn ipv6<'a>(&'a self, name: &'a str) -> Answer<'a, Ipv6Addr> {
        let (delay, answer) = self.v6.get(name).cloned().unwrap_or((0, Ok(Vec::new())));
        Box::pin(async move {
            after(delay).await;
            answer
        })
    }
}

/// Paused time goes on by this.
async fn after(millis: u64) {
    let never = std::future::pending::<()>();
    let _ = timeout(Duration::from_millis(millis), never).await;
}

fn srv(priority: u16, port: u16, target: &str) -> Srv {
    let target = target.into();
    let weight = 0;
    Srv {
        priority,
        weight,
        port,
        target,
    }
}

async fn find(zone: Zone, domain: &str, service: Service, way: Way) -> (String, Vec<String>) {
    let zone = Arc::new(zone);
    let resolver = Resolver::new(Arc::clone(&zone) as Arc<dyn Dns>);
    let mut random = |bytes: &mut [u8]| bytes.fill(0);
    let text = match resolver.find(domain, service, way, &mut random).await {
        Ok(found) => {
            let all: Vec<String> = found.candidates.iter().map(ToString::to_string).collect();
            all.join(", ")
        }
        Err(error) => format!("{error:?}"),
    };
    let asked = zone.asked.lock().unwrap().clone();
    (text, asked)
}

async fn check(records: &[(&'static str, Result<Vec<Srv>, DnsError>)], way: Way, expected: &str) {
    let zone = Zone {
        srv: records.iter().cloned().collect(),
        ..Zone::default()
    };
    let (found, _) = find(zone, "a.test", Service::Client, way).await;
    assert_eq!(found, expected, "{records:?}");
}

const DIRECT: &str = "_xmpps-client._tcp.a.test";
const STARTTLS: &str = "_xmpp-client._tcp.a.test";

#[tokio::test]
async fn ats_tu_06_both_sets_are_merged_by_priority() {
    let direct = (
        DIRECT,
        Ok(vec![srv(5, 443, "x.test"), srv(20, 443, "y.test")]),
    );
    let starttls = (STARTTLS, Ok(vec![srv(10, 5222, "x.test")]));
    let both = [direct, starttls];
    let all = "x.test:443 by direct TLS, x.test:5222 by STARTTLS, y.test:443 by direct TLS";
    check(&both, Way::Any, all).await;
    check(&both, Way::StartTls, "x.test:5222 by STARTTLS").await;
    let direct = "x.test:443 by direct TLS, y.test:443 by direct TLS";
    check(&both, Way::DirectTls, direct).await;
}

#[tokio::test]
async fn c6120_dn_01_the_domain_is_asked_for_by_its_a_labels() {
    let (_, asked) = find(Zone::default(), "müller.example", Service::Client, Way::Any).await;
    let name = "xn--mller-kva.example";
    let expected = [
        format!("_xmpps-client._tcp.{name}"),
        format!("_xmpp-client._tcp.{name}"),
    ];
    assert_eq!(asked, expected);
    let (found, asked) = find(Zone::default(), "a.test", Service::Server, Way::Any).await;
    assert_eq!(
        asked,
        ["_xmpps-server._tcp.a.test", "_xmpp-server._tcp.a.test"]
    );
    assert_eq!(found, "a.test:5269 by STARTTLS");
}

#[tokio::test]
async fn c6120_dn_02_ats_tu_10_a_dot_says_that_there_is_no_service() {
    let dot = || Ok(vec![srv(0, 0, "")]);
    let some = || Ok(vec![srv(0, 1, "x.test")]);
    check(&[(STARTTLS, dot())], Way::Any, "Absent").await;
    check(&[(DIRECT, dot()), (STARTTLS, dot())], Way::Any, "Absent").await;
    // No fallback to addresses either: the domain knows SRV.
    check(&[(DIRECT, dot())], Way::Any, "Absent").await;
    let starttls = "x.test:1 by STARTTLS";
    check(&[(DIRECT, dot()), (STARTTLS, some())], Way::Any, starttls).await;
    let direct = "x.test:1 by direct TLS";
    check(&[(DIRECT, some()), (STARTTLS, dot())], Way::Any, direct).await;
    let mixed = Ok(vec![srv(0, 0, ""), srv(1, 1, "x.test")]);
    check(&[(STARTTLS, mixed)], Way::Any, starttls).await;
}

#[tokio::test]
async fn c6120_dn_05_without_srv_records_the_domain_itself_is_tried() {
    check(&[], Way::Any, "a.test:5222 by STARTTLS").await;
    check(&[], Way::DirectTls, "a.test:5223 by direct TLS").await;
    let failed = || Err(DnsError::Code(2));
    check(
        &[(DIRECT, failed()), (STARTTLS, failed())],
        Way::Any,
        "a.test:5222 by STARTTLS",
    )
    .await;
    // With records of the other service there is no fallback.
    let some = Ok(vec![srv(0, 1, "x.test")]);
    check(
        &[(DIRECT, failed()), (STARTTLS, some)],
        Way::Any,
        "x.test:1 by STARTTLS",
    )
    .await;
}

#[tokio::test]
async fn addresses_and_localhost_need_no_records() {
    for (domain, expected) in [
        ("localhost", "localhost:5222 by STARTTLS"),
        ("chat.localhost", "chat.localhost:5222 by STARTTLS"),
        ("127.0.0.1", "127.0.0.1:5222 by STARTTLS"),
        ("[::1]", "[::1]:5222 by STARTTLS"),
        ("a b", "Name"),
    ] {
        let (found, asked) = find(Zone::default(), domain, Service::Client, Way::Any).await;
        assert_eq!(found, expected);
        assert!(asked.is_empty(), "{domain}");
    }
}

#[tokio::test]
async fn overrides_come_before_dns() {
    let zone = Arc::new(Zone::default());
    let place = Candidate {
        host: Host::parse("127.0.0.2").unwrap(),
        port: 5270,
        direct_tls: true,
    };
    let resolver = Resolver::new(Arc::clone(&zone) as Arc<dyn Dns>)
        .with_override("Bücher.test", place.clone())
        .with_override("192.0.2.1", place.clone());
    for domain in ["bücher.test", "xn--bcher-kva.test", "192.0.2.1"] {
        let mut random = |_: &mut [u8]| ();
        let found = resolver.find(domain, Service::Server, Way::Any, &mut random);
        let found = found.await.unwrap();
        assert_eq!(found.candidates[0], place, "{domain}");
    }
    assert!(zone.asked.lock().unwrap().is_empty());
}

#[tokio::test(start_paused = true)]
async fn c6120_dn_05_a_name_server_that_says_nothing_is_waited_for_once() {
    struct Silent;
    impl Dns for Silent {
        fn srv<'a>(&'a self, _: &'a str) -> Answer<'a, Srv> {
            Box::pin(std::future::pending())
        }
        fn ipv4<'a>(&'a self, _: &'a str) -> Answer<'a, Ipv4Addr> {
            Box::pin(std::future::pending())
        }
        fn ipv6<'a>(&'a self, _: &'a str) -> Answer<'a, Ipv6Addr> {
            Box::pin(std::future::pending())
        }
    }
    let resolver = Resolver::new(Arc::new(Silent));
    let before = Instant::now();
    let mut random = |_: &mut [u8]| ();
    let found = resolver.find("a.test", Service::Client, Way::Any, &mut random);
    let found = found.await.unwrap();
    assert_eq!(before.elapsed(), ResolveLimits::default().query_max);
    assert_eq!(found.candidates.len(), 1);
    assert_eq!(found.unanswered.len(), 2);
    let addresses = resolver.addresses(&found.candidates[0].host).await;
    assert_eq!(addresses, Err(DnsError::Timeout));
}

#[tokio::test(start_paused = true)]
async fn addresses_are_by_turns_and_one_family_does_not_wait_for_the_other() {
    async fn check(
        v4: (u64, Result<Vec<Ipv4Addr>, DnsError>),
        v6: (u64, Result<Vec<Ipv6Addr>, DnsError>),
        expected: Result<&str, DnsError>,
        millis: u64,
    ) {
        let zone = Zone {
            v4: [("x.test", v4)].into(),
            v6: [("x.test", v6)].into(),
            ..Zone::default()
        };
        let before = Instant::now();
        let resolver = Resolver::new(Arc::new(zone));
        let found = resolver.addresses(&Host::parse("x.test").unwrap()).await;
        let found = found.map(|found| {
            let all: Vec<String> = found.iter().map(ToString::to_string).collect();
            all.join(" ")
        });
        assert_eq!(found.as_deref(), expected.as_deref());
        assert_eq!(before.elapsed().as_millis(), u128::from(millis));
    }
    let v4 = |n: u8| Ipv4Addr::new(192, 0, 2, n);
    let v6 = |n: u16| Ipv6Addr::new(0x2001, 0xdb8, 0, 0, 0, 0, 0, n);
    let four = || Ok(vec![v4(1), v4(1), v4(2)]);
    let six = || Ok(vec![v6(1)]);
    let both = "2001:db8::1 192.0.2.1 192.0.2.2";
    check((0, four()), (0, six()), Ok(both), 0).await;
    check((100, four()), (0, six()), Ok(both), 100).await;
    check((0, four()), (249, six()), Ok(both), 249).await;
    check((0, four()), (SLOW, six()), Ok("192.0.2.1 192.0.2.2"), 250).await;
    check((SLOW, four()), (7, six()), Ok("2001:db8::1"), 257).await;
    check(
        (3000, four()),
        (0, Ok(vec![])),
        Ok("192.0.2.1 192.0.2.2"),
        3000,
    )
    .await;
    check(
        (0, Ok(vec![])),
        (0, Err(DnsError::Code(2))),
        Err(DnsError::Code(2)),
        0,
    )
    .await;
    check((0, Ok(vec![])), (0, Ok(vec![])), Ok(""), 0).await;
    let many = || Ok((0..200).map(v4).collect());
    check(
        (0, many()),
        (SLOW, six()),
        Ok(&(0..8)
            .map(|n| v4(n).to_string())
            .collect::<Vec<_>>()
            .join(" ")),
        250,
    )
    .await;
}
