//! What a peer may use of us, each number with its reason.

use std::time::Duration;

/// Limits on the XML of one stream (DESIGN X2).
#[derive(Clone, Copy, Debug)]
pub struct XmlLimits {
    /// Bytes of one first-level element, counted while they arrive, also of an unfinished one.
    pub stanza_bytes_max: usize,
    /// An oversize stanza up to this size is skipped and refused alone, for streams that many
    /// users share; 0: it ends the stream.
    pub skip_bytes_max: usize,
    /// Nesting below the stream root.
    pub depth_max: usize,
    /// Elements in one stanza.
    pub elements_max: usize,
    /// Attributes of one element.
    pub attributes_max: usize,
    /// Bytes of one element or attribute name.
    pub name_bytes_max: usize,
    /// Bytes of one namespace name.
    pub ns_bytes_max: usize,
    /// Bytes of one attribute value.
    pub attribute_bytes_max: usize,
}

impl XmlLimits {
    /// Before authentication: strangers get 16 KiB.
    #[must_use]
    pub const fn before_auth() -> Self {
        Self {
            stanza_bytes_max: 16 * 1024,
            ..Self::c2s()
        }
    }
    /// An authenticated client.
    #[must_use]
    pub const fn c2s() -> Self {
        Self {
            stanza_bytes_max: 256 * 1024,
            skip_bytes_max: 0,
            depth_max: 64,
            elements_max: 4096,
            attributes_max: 64,
            name_bytes_max: 128,
            ns_bytes_max: 256,
            attribute_bytes_max: 16 * 1024,
        }
    }
    /// A negotiated stream of another server.
    #[must_use]
    pub const fn s2s() -> Self {
        Self {
            stanza_bytes_max: 512 * 1024,
            skip_bytes_max: 4 * 1024 * 1024,
            ..Self::c2s()
        }
    }
    /// Our client, reading from its own server.
    #[must_use]
    pub const fn client() -> Self {
        Self {
            stanza_bytes_max: 10 * 1024 * 1024,
            elements_max: 200_000,
            ..Self::c2s()
        }
    }
}

/// Limits of one stream's negotiation and life.
#[derive(Clone, Copy, Debug)]
pub struct Limits {
    /// XML before authentication.
    pub before_auth: XmlLimits,
    /// XML after authentication.
    pub after_auth: XmlLimits,
    /// From accept to established.
    pub negotiation_max: Duration,
    /// The same once a registration form was asked for: a person fills it in.
    pub registration_max: Duration,
    /// Wrong passwords a connection; the last is answered, then policy-violation.
    pub login_failures_max: u32,
    /// Refusals of form (unknown mechanism or binding type, `y` flag, malformed) a connection.
    pub login_refusals_max: u32,
    /// Bind tries a connection (RFC 6120 section 7.7.3: 5 to 10).
    pub bind_tries_max: u32,
    /// Nothing received for this long: the peer is pinged.
    pub silence_max: Duration,
    /// No answer to that ping for this long: connection-timeout.
    pub silence_answer_max: Duration,
    /// We closed: how long the peer may take to close too (RFC 6120 section 4.4).
    pub close_max: Duration,
    /// Streams between servers.
    pub s2s: ServerLimits,
}

/// Limits of a stream between two servers, beside those of every stream.
#[derive(Clone, Copy, Debug)]
pub struct ServerLimits {
    /// Domain pairs proven on one stream: a server of many domains has as many, and one that asks
    /// for more opens another stream (XEP-0220 section 2.5).
    pub pairs_max: usize,
    /// Dialback keys of one stream that are being verified: each makes us call somebody.
    pub dialback_pending_max: usize,
    /// Refused proofs on one stream, certificate or key; then policy-violation.
    pub refusals_max: u32,
    /// Requests to verify a key that we shall have made, on one stream without a proven pair.
    pub verify_max: u32,
    /// No stanza in either direction for this long: the caller is told that the stream is idle.
    pub idle_max: Duration,
}

impl Default for ServerLimits {
    fn default() -> Self {
        Self {
            pairs_max: 1000,
            dialback_pending_max: 20,
            refusals_max: 5,
            verify_max: 100,
            idle_max: Duration::from_secs(600),
        }
    }
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            before_auth: XmlLimits::before_auth(),
            after_auth: XmlLimits::c2s(),
            negotiation_max: Duration::from_secs(30),
            registration_max: Duration::from_secs(300),
            login_failures_max: 5,
            login_refusals_max: 10,
            bind_tries_max: 5,
            silence_max: Duration::from_secs(300),
            silence_answer_max: Duration::from_secs(60),
            close_max: Duration::from_secs(5),
            s2s: ServerLimits::default(),
        }
    }
}

/// Limits of looking up where a domain's servers are; a domain's owner decides what DNS answers.
#[derive(Clone, Copy, Debug)]
pub struct ResolveLimits {
    /// SRV records tried: more servers than any domain has in use.
    pub records_max: usize,
    /// Addresses taken of a host, of each family: one answer can name hundreds of strangers, each
    /// of whom would be knocked at.
    pub addresses_max: usize,
    /// One query, all its tries: a resolver that is well takes milliseconds.
    pub query_max: Duration,
    /// With addresses of one family at hand, how long to wait for the other's (RFC 8305 section 3
    /// has 50 ms, but goes on with late ones).
    pub resolution_delay: Duration,
}

impl Default for ResolveLimits {
    fn default() -> Self {
        Self {
            records_max: 16,
            addresses_max: 8,
            query_max: Duration::from_secs(5),
            resolution_delay: Duration::from_millis(250),
        }
    }
}
