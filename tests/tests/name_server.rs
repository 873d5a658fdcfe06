//! `NameServers` against a real name server on loopback: records, names without any, one that is gone.

use hickory_server::Server;
use hickory_server::net::runtime::TokioRuntimeProvider;
use hickory_server::proto::rr::rdata::{A, AAAA, SOA, SRV};
use hickory_server::proto::rr::{LowerName, Name, RData, Record};
use hickory_server::store::in_memory::InMemoryZoneHandler;
use hickory_server::zone_handler::{AxfrPolicy, Catalog, ZoneType};
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;
use tokio::net::{TcpListener, UdpSocket};
use xmpp_client::XmppClient;
use xmpp_stream::resolve::{Dns, DnsError, NameServers, Resolver, Service, Srv, Way};
use xmpp_testkit::TestLab;

type Zone = InMemoryZoneHandler<TokioRuntimeProvider>;

fn name(text: &str) -> Name {
    Name::from_ascii(text).expect("a name")
}

/// A name server of the zone `test` with these records; the same port for UDP and TCP.
async fn serve(records: Vec<(&str, RData)>) -> (Server<Catalog>, SocketAddr) {
    let origin = name("test.");
    let mut zone = Zone::empty(origin.clone(), ZoneType::Primary, AxfrPolicy::Deny);
    let soa = SOA::new(name("ns.test."), name("root.test."), 1, 1, 1, 1, 1);
    let soa = ("test.", RData::SOA(soa));
    for (owner, data) in records.into_iter().chain([soa]) {
        zone.upsert_mut(Record::from_rdata(name(owner), 60, data), 1);
    }
    let mut catalog = Catalog::new();
    catalog.upsert(LowerName::new(&origin), vec![Arc::new(zone)]);
    let mut server = Server::new(catalog);
    let tcp = TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let address = tcp.local_addr().expect("an address");
    let udp = UdpSocket::bind(address).await.expect("the same port");
    server.register_socket(udp);
    server.register_listener(tcp, Duration::from_secs(5), 1024);
    (server, address)
}

fn srv(priority: u16, port: u16, target: &str) -> RData {
    RData::SRV(SRV::new(priority, 0, port, name(target)))
}

#[tokio::test]
async fn c6120_dn_01_a_real_name_server_is_understood() {
    let v6 = Ipv6Addr::LOCALHOST;
    let (_server, address) = serve(vec![
        ("_xmpp-client._tcp.a.test.", srv(5, 5222, "x.test.")),
        ("_xmpp-client._tcp.gone.test.", srv(0, 0, ".")),
        ("x.test.", RData::A(A(Ipv4Addr::LOCALHOST))),
        ("x.test.", RData::AAAA(AAAA(v6))),
    ])
    .await;
    let dns = NameServers::new(&[address]);
    let expected = Srv {
        priority: 5,
        weight: 0,
        port: 5222,
        target: "x.test".into(),
    };
    assert_eq!(
        dns.srv("_xmpp-client._tcp.a.test").await,
        Ok(vec![expected])
    );
    assert_eq!(dns.ipv4("x.test").await, Ok(vec![Ipv4Addr::LOCALHOST]));
    assert_eq!(dns.ipv6("x.test").await, Ok(vec![v6]));
    // A name without such records, and none at all.
    assert_eq!(dns.srv("x.test").await, Ok(vec![]));
    assert_eq!(dns.ipv4("nobody.test").await, Ok(vec![]));
    let gone = dns
        .srv("_xmpp-client._tcp.gone.test")
        .await
        .expect("records");
    assert_eq!(
        gone.iter().map(|srv| &*srv.target).collect::<Vec<_>>(),
        [""]
    );
    let resolver = Resolver::new(Arc::new(dns));
    let mut random = |bytes: &mut [u8]| bytes.fill(0);
    let found = resolver.find("a.test", Service::Client, Way::Any, &mut random);
    let found = found.await.expect("a place");
    assert_eq!(found.candidates[0].to_string(), "x.test:5222 by STARTTLS");
    assert!(found.unanswered.is_empty());
}

#[tokio::test]
async fn co_01_a_client_finds_its_server_by_a_name_server() {
    let lab = TestLab::new(["a.test"]).await.expect("a server");
    let port = lab.place("a.test").address.port();
    let (_server, address) = serve(vec![
        ("_xmpp-client._tcp.a.test.", srv(5, port, "x.test.")),
        ("x.test.", RData::A(A(Ipv4Addr::LOCALHOST))),
    ])
    .await;
    let client = XmppClient::builder("ann@a.test/x")
        .password(&lab.account("ann@a.test").await)
        .ca_pem(lab.ca_pem())
        .name_servers(&[address])
        .connect()
        .await
        .expect("a client");
    client.disconnect().await.expect("an end in order");
}

#[tokio::test]
async fn a_name_server_that_is_gone_is_no_answer() {
    let udp = UdpSocket::bind("127.0.0.1:0").await.expect("a port");
    let address = udp.local_addr().expect("an address");
    drop(udp);
    let answer = NameServers::new(&[address]).ipv4("x.test").await;
    assert!(
        matches!(
            answer,
            Err(DnsError::Io(_) | DnsError::NoNameServers | DnsError::Timeout)
        ),
        "{answer:?}"
    );
}
