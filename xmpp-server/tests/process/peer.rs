//! A client of a few lines that blocks: TCP, TLS, PLAIN, bind. It knows XML only as text.

use crate::kit::BOUND;
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use rustls::{ClientConnection, StreamOwned};
use std::io::{ErrorKind, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::path::Path;
use std::sync::Arc;
use xmpp_stream::tls;

/// A client connection over TLS.
pub(crate) struct Peer {
    stream: StreamOwned<ClientConnection, TcpStream>,
    seen: String,
}

/// A connection in clear whose reads are bounded.
pub(crate) fn connect(address: SocketAddr) -> TcpStream {
    let stream = TcpStream::connect_timeout(&address, BOUND).unwrap();
    stream.set_read_timeout(Some(BOUND)).unwrap();
    stream
}

pub(crate) fn header(domain: &str) -> String {
    format!(
        "<stream:stream xmlns='jabber:client' to='{domain}' version='1.0' \
         xmlns:stream='http://etherx.jabber.org/streams'>"
    )
}

impl Peer {
    /// Direct TLS; the certificate must be good for `domain` under this CA.
    pub(crate) fn direct(address: SocketAddr, domain: &str, ca: &Path) -> Result<Self, String> {
        Self::secure(connect(address), domain, ca, true)
    }

    /// STARTTLS, then the same.
    pub(crate) fn starttls(address: SocketAddr, domain: &str, ca: &Path) -> Result<Self, String> {
        let mut stream = connect(address);
        let mut seen = String::new();
        stream.write_all(header(domain).as_bytes()).unwrap();
        read_until(&mut stream, &mut seen, "</stream:features>");
        stream
            .write_all(b"<starttls xmlns='urn:ietf:params:xml:ns:xmpp-tls'/>")
            .unwrap();
        read_until(
            &mut stream,
            &mut seen,
            "<proceed xmlns='urn:ietf:params:xml:ns:xmpp-tls'/>",
        );
        Self::secure(stream, domain, ca, false)
    }

    fn secure(stream: TcpStream, domain: &str, ca: &Path, direct: bool) -> Result<Self, String> {
        let roots = tls::roots(&std::fs::read_to_string(ca).unwrap()).unwrap();
        let config = tls::client_config(roots, direct).unwrap();
        let name = tls::server_name(domain).unwrap();
        let connection = ClientConnection::new(Arc::clone(&config), name).unwrap();
        let mut stream = StreamOwned::new(connection, stream);
        while stream.conn.is_handshaking() {
            let done = stream.conn.complete_io(&mut stream.sock);
            done.map_err(|error| error.to_string())?;
        }
        Ok(Self {
            stream,
            seen: String::new(),
        })
    }

    /// Signs in over STARTTLS and binds; the error is the server's `<failure/>`.
    pub(crate) fn sign_in(
        address: SocketAddr,
        ca: &Path,
        jid: &str,
        password: &str,
    ) -> Result<Self, String> {
        let (user, domain) = jid.split_once('@').unwrap();
        let mut peer = Self::starttls(address, domain, ca)?;
        peer.send(&header(domain));
        peer.until("</stream:features>");
        let response = STANDARD.encode(format!("\0{user}\0{password}"));
        peer.send(&format!(
            "<auth xmlns='urn:ietf:params:xml:ns:xmpp-sasl' mechanism='PLAIN'>{response}</auth>"
        ));
        let answer = peer.until("urn:ietf:params:xml:ns:xmpp-sasl");
        if answer.contains("<failure") {
            return Err(answer + &peer.until("</failure>"));
        }
        peer.until(">");
        peer.send(&header(domain));
        peer.until("</stream:features>");
        peer.send("<iq type='set' id='b'><bind xmlns='urn:ietf:params:xml:ns:xmpp-bind'/></iq>");
        peer.until("</iq>");
        Ok(peer)
    }

    pub(crate) fn send(&mut self, text: &str) {
        self.stream.write_all(text.as_bytes()).unwrap();
    }

    /// What comes, up to and with `mark`.
    pub(crate) fn until(&mut self, mark: &str) -> String {
        read_until(&mut self.stream, &mut self.seen, mark)
    }

    /// What comes until the server ends the connection.
    pub(crate) fn rest(&mut self) -> String {
        let mut bytes = std::mem::take(&mut self.seen).into_bytes();
        let mut buffer = [0; 4096];
        loop {
            match self.stream.read(&mut buffer) {
                Ok(0) => break,
                Ok(n) => bytes.extend_from_slice(&buffer[..n]),
                Err(e) if e.kind() == ErrorKind::WouldBlock => panic!("the connection stays open"),
                // A killed server says nothing more.
                Err(_) => break,
            }
        }
        String::from_utf8(bytes).unwrap()
    }

    /// The certificate that the server showed, DER.
    pub(crate) fn leaf(&self) -> Vec<u8> {
        self.stream.conn.peer_certificates().unwrap()[0].to_vec()
    }
}

fn read_until(stream: &mut impl Read, seen: &mut String, mark: &str) -> String {
    let mut buffer = [0; 4096];
    loop {
        if let Some(at) = seen.find(mark) {
            let rest = seen.split_off(at + mark.len());
            return std::mem::replace(seen, rest);
        }
        let n = stream
            .read(&mut buffer)
            .unwrap_or_else(|error| panic!("{error} after {seen}"));
        assert!(n > 0, "the connection ended after {seen}");
        seen.push_str(std::str::from_utf8(&buffer[..n]).unwrap());
    }
}
