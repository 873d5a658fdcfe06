//! Accepted TLS against rustls's own client: sizes, splits, ends, new keys, what is kept.

use super::*;
use crate::tls;
use ring::aead;
use rustls::ClientConnection;
use rustls::pki_types::{CertificateDer, ServerName};
use std::sync::atomic::{AtomicUsize, Ordering};
use tokio::io::{AsyncReadExt, AsyncWriteExt, DuplexStream, duplex};
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;

struct Certificate {
    config: Arc<ServerConfig>,
    leaf: CertificateDer<'static>,
    pem: String,
}

impl Certificate {
    fn new() -> Self {
        let key = rcgen::KeyPair::generate().unwrap();
        let made = rcgen::CertificateParams::new(["d.test".to_owned()]).unwrap();
        let pem = made.self_signed(&key).unwrap().pem();
        let (config, leaf) = tls::server_config(&pem, &key.serialize_pem(), false).unwrap();
        Self { config, leaf, pem }
    }
}

impl TlsSource for Certificate {
    fn choose(
        &self,
        sni: Option<&str>,
        _to: Option<&str>,
        _direct: bool,
    ) -> Option<(Arc<ServerConfig>, CertificateDer<'static>)> {
        (sni == Some("d.test")).then(|| (Arc::clone(&self.config), self.leaf.clone()))
    }
}

/// Both ends over a pipe of so many bytes each way, the handshake done.
async fn pair(
    pipe: usize,
    version: &'static rustls::SupportedProtocolVersion,
) -> (ServerTls, TlsInfo, TlsStream<DuplexStream>) {
    let (ours, theirs) = duplex(pipe);
    pair_over(ours, theirs, version).await
}

async fn pair_over(
    ours: impl Transport + 'static,
    theirs: DuplexStream,
    version: &'static rustls::SupportedProtocolVersion,
) -> (ServerTls, TlsInfo, TlsStream<DuplexStream>) {
    let certificate = Certificate::new();
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let config = rustls::ClientConfig::builder_with_provider(provider)
        .with_protocol_versions(&[version])
        .unwrap()
        .with_root_certificates(tls::roots(&certificate.pem).unwrap())
        .with_no_client_auth();
    let name = ServerName::try_from("d.test").unwrap();
    let connector = TlsConnector::from(Arc::new(config));
    let (accepted, connected) = tokio::join!(
        accept(Box::new(ours), &certificate, None, true),
        connector.connect(name, theirs)
    );
    let (server, info) = accepted.unwrap();
    (server, info, connected.unwrap())
}

/// A pipe that counts how often something is written to it.
struct Counted(DuplexStream, Arc<AtomicUsize>);

impl AsyncRead for Counted {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut self.0).poll_read(cx, buffer)
    }
}

impl AsyncWrite for Counted {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        data: &[u8],
    ) -> Poll<io::Result<usize>> {
        self.1.fetch_add(1, Ordering::Relaxed);
        Pin::new(&mut self.0).poll_write(cx, data)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.0).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.0).poll_shutdown(cx)
    }
}

#[tokio::test]
async fn tickets_go_with_the_first_answer_or_before_a_wait() {
    for waits in [false, true] {
        let writes = Arc::new(AtomicUsize::new(0));
        let (ours, theirs) = duplex(1 << 16);
        let ours = Counted(ours, Arc::clone(&writes));
        let version = &rustls::version::TLS13;
        let (mut server, _, mut client) = pair_over(ours, theirs, version).await;
        let handshake = writes.load(Ordering::Relaxed);
        let mut hello = [0; 5];
        if waits {
            let mut read = ReadBuf::new(&mut hello);
            let waited = poll_fn(|cx| {
                Poll::Ready(Pin::new(&mut server).poll_read(cx, &mut read).is_pending())
            });
            assert!(waited.await);
            assert_eq!(writes.load(Ordering::Relaxed), handshake + 1, "the ticket");
        }
        client.write_all(b"hello").await.unwrap();
        client.flush().await.unwrap();
        server.read_exact(&mut hello).await.unwrap();
        server.write_all(b"welcome").await.unwrap();
        server.flush().await.unwrap();
        let more = if waits { 2 } else { 1 };
        assert_eq!(writes.load(Ordering::Relaxed), handshake + more);
        let mut welcome = [0; 7];
        client.read_exact(&mut welcome).await.unwrap();
        assert_eq!(&welcome, b"welcome");
    }
}

fn text(len: usize) -> Vec<u8> {
    (0..len).map(|at| (at % 251) as u8).collect()
}

#[tokio::test]
async fn text_of_any_length_passes_pipes_of_any_width() {
    for version in rustls::ALL_VERSIONS {
        for (pipe, len) in [(1, 300), (70, 20_000), (1 << 20, 100_000), (4096, 1)] {
            let (mut server, _, mut client) = pair(pipe, version).await;
            let sent = text(len);
            let echo = async {
                let mut came = vec![0; len];
                server.read_exact(&mut came).await.unwrap();
                server.write_all(&came).await.unwrap();
                server.flush().await.unwrap();
                server
            };
            let talk = async {
                let (mut read, mut write) = tokio::io::split(&mut client);
                let mut came = vec![0; len];
                let writing = async {
                    write.write_all(&sent).await.unwrap();
                    write.flush().await.unwrap();
                };
                tokio::join!(writing, async { read.read_exact(&mut came).await.unwrap() });
                came
            };
            let (server, came) = tokio::join!(echo, talk);
            assert_eq!(came, sent, "{pipe} {len}");
            let kept = [&server.unread, &server.text, &server.unsent].map(Vec::capacity);
            assert_eq!(
                kept,
                [0, 0, 0],
                "an idle connection keeps no bytes: {pipe} {len}"
            );
        }
    }
}

#[tokio::test]
async fn ats_sc_14_both_ends_export_the_same() {
    let exported = |client: &ClientConnection| {
        client
            .export_keying_material([0; 32], b"EXPORTER-Channel-Binding", Some(b""))
            .unwrap()
    };
    let (_, info, client) = pair(4096, &rustls::version::TLS13).await;
    assert_eq!(info.version, "TLSv1.3");
    assert_eq!(info.exporter, Some(exported(client.get_ref().1)));
    assert_eq!(info.sni.as_deref(), Some("d.test"));
    let (_, info, _) = pair(4096, &rustls::version::TLS12).await;
    assert_eq!((info.version, info.exporter), ("TLSv1.2", None));
}

#[tokio::test]
async fn ends_are_told_apart() {
    // In order, from either side.
    let (mut server, _, mut client) = pair(4096, &rustls::version::TLS13).await;
    client.shutdown().await.unwrap();
    assert_eq!(server.read(&mut [0; 9]).await.unwrap(), 0);
    // Half-closed: the other direction goes on.
    server.write_all(b"late").await.unwrap();
    server.shutdown().await.unwrap();
    let mut came = Vec::new();
    client.read_to_end(&mut came).await.unwrap();
    assert_eq!(came, b"late");
    // Cut.
    let (mut server, _, client) = pair(4096, &rustls::version::TLS13).await;
    drop(client);
    let error = server.read(&mut [0; 9]).await.unwrap_err();
    assert_eq!(error.kind(), io::ErrorKind::UnexpectedEof);
}

#[tokio::test]
async fn a_forged_record_ends_the_connection_with_an_alert() {
    let (mut server, _, mut client) = pair(4096, &rustls::version::TLS13).await;
    let forged = [&[23, 3, 3, 0, 20][..], &[7; 20]].concat();
    client.get_mut().0.write_all(&forged).await.unwrap();
    for _ in 0..2 {
        let error = server.read(&mut [0; 9]).await.unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::InvalidData);
    }
    let error = client.read(&mut [0; 9]).await.unwrap_err().to_string();
    assert!(error.contains("BadRecordMac"), "{error}");
}

#[tokio::test]
async fn new_keys_of_the_peer_are_taken_and_answered() {
    let (mut server, _, mut client) = pair(4096, &rustls::version::TLS13).await;
    for round in 0..3_u8 {
        client.get_mut().1.refresh_traffic_keys().unwrap();
        client.write_all(&[round]).await.unwrap();
        client.flush().await.unwrap();
        assert_eq!(server.read_u8().await.unwrap(), round);
        server.write_all(&[round]).await.unwrap();
        server.flush().await.unwrap();
        assert_eq!(client.read_u8().await.unwrap(), round);
    }
}

#[tokio::test]
async fn a_greeting_that_does_not_end_is_refused() {
    let certificate = Certificate::new();
    let (ours, mut theirs) = duplex(4096);
    // A handshake message of 16 MiB, in records of 4 KiB.
    let flood = async {
        let first = [&[22, 3, 1, 16, 0, 1, 0xff, 0xff, 0xff][..], &[0; 4092]].concat();
        let more = [&[22, 3, 1, 16, 0][..], &[0; 4096]].concat();
        theirs.write_all(&first).await?;
        for _ in 0..1000 {
            theirs.write_all(&more).await?;
        }
        io::Result::Ok(())
    };
    let (accepted, flooded) = tokio::join!(
        async {
            let accepted = accept(Box::new(ours), &certificate, None, true).await;
            accepted.map(|_| ()).map_err(|error| error.kind())
        },
        flood
    );
    assert_eq!(accepted, Err(io::ErrorKind::InvalidData));
    assert!(flooded.is_err(), "nobody reads it to its end");
}

/// A record of the handshake inside of an established connection, encrypted by its keys: no client of
/// rustls would send it.
fn handshake_record(client: TlsStream<DuplexStream>, message: &[u8]) -> (DuplexStream, Vec<u8>) {
    let (stream, connection) = client.into_inner();
    let (number, secrets) = connection.dangerous_extract_secrets().unwrap().tx;
    let rustls::ConnectionTrafficSecrets::Chacha20Poly1305 { key, iv } = secrets else {
        panic!("another cipher suite");
    };
    let key = aead::UnboundKey::new(&aead::CHACHA20_POLY1305, key.as_ref()).unwrap();
    let mut nonce: [u8; 12] = iv.as_ref().try_into().unwrap();
    for (byte, with) in nonce.iter_mut().skip(4).zip(number.to_be_bytes()) {
        *byte ^= with;
    }
    let len = u16::try_from(message.len()).unwrap().to_be_bytes();
    let above = [&number.to_be_bytes()[..], &[22, 3, 3], &len].concat();
    let mut sealed = message.to_vec();
    let nonce = aead::Nonce::assume_unique_for_key(nonce);
    aead::LessSafeKey::new(key)
        .seal_in_place_append_tag(nonce, aead::Aad::from(above), &mut sealed)
        .unwrap();
    let len = u16::try_from(sealed.len()).unwrap().to_be_bytes();
    (stream, [&[22, 3, 3][..], &len, &sealed].concat())
}

/// A ClientHello of TLS 1.2 with one cipher suite and the extension of RFC 5746.
fn client_hello() -> Vec<u8> {
    let body = [
        &[3, 3][..],
        &[7; 32],
        &[0],
        &[0, 2, 0xcc, 0xa9],
        &[1, 0],
        &[0, 5, 0xff, 1, 0, 1, 0],
    ];
    let body = body.concat();
    [&[1, 0, 0, u8::try_from(body.len()).unwrap()][..], &body].concat()
}

#[tokio::test]
async fn c6120_tl_09_who_renegotiates_is_left_without_a_word() {
    // Alone, and behind text that would be good.
    for behind in [&b""[..], b"text"] {
        let mut provider = rustls::crypto::ring::default_provider();
        use rustls::crypto::ring::cipher_suite as suites;
        provider.cipher_suites = vec![suites::TLS_ECDHE_ECDSA_WITH_CHACHA20_POLY1305_SHA256];
        let certificate = Certificate::new();
        let mut config = rustls::ClientConfig::builder_with_provider(Arc::new(provider))
            .with_protocol_versions(&[&rustls::version::TLS12])
            .unwrap()
            .with_root_certificates(tls::roots(&certificate.pem).unwrap())
            .with_no_client_auth();
        config.enable_secret_extraction = true;
        let (ours, theirs) = duplex(4096);
        let name = ServerName::try_from("d.test").unwrap();
        let connector = TlsConnector::from(Arc::new(config));
        let (accepted, connected) = tokio::join!(
            accept(Box::new(ours), &certificate, None, true),
            connector.connect(name, theirs)
        );
        let (mut server, _) = accepted.unwrap();
        let mut client = connected.unwrap();
        client.write_all(behind).await.unwrap();
        client.flush().await.unwrap();
        let (mut stream, record) = handshake_record(client, &client_hello());
        stream.write_all(&record).await.unwrap();
        let bound = std::time::Duration::from_secs(10);
        let mut came = [0; 9];
        let read = tokio::time::timeout(bound, server.read(&mut came)).await;
        let error = read.expect("an end").unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::InvalidData);
        assert_eq!(error.to_string(), "TLS renegotiation");
        // Neither an alert nor close_notify.
        server.shutdown().await.unwrap();
        drop(server);
        let mut said = Vec::new();
        stream.read_to_end(&mut said).await.unwrap();
        assert_eq!(said, b"");
    }
}

#[test]
fn c6120_tl_09_records_are_told_by_their_kind() {
    let record = |kind: u8, len: u8| [vec![kind, 3, 3, 0, len], vec![22; len.into()]].concat();
    let (text, alert, handshake) = (record(23, 22), record(21, 2), record(22, 40));
    for (records, expected) in [
        (vec![], false),
        (text.clone(), false),
        ([text.clone(), alert.clone()].concat(), false),
        (handshake.clone(), true),
        (handshake[..5].to_vec(), true),
        // So little of it that its length is not known.
        (handshake[..4].to_vec(), false),
        ([text.clone(), alert, handshake.clone()].concat(), true),
        ([text[..20].to_vec()].concat(), false),
    ] {
        assert_eq!(renegotiates(&records), expected, "{records:?}");
    }
}
