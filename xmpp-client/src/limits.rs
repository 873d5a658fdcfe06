//! What the server, the people behind it and the program itself may use of a client, each number
//! with its reason.

use std::time::Duration;
use xmpp_stream::limits::XmlLimits;

/// Bounds of one client.
#[derive(Clone, Copy, Debug)]
pub struct Limits {
    /// XML of the server after the login: ten times what servers take from us, for archive pages.
    pub xml: XmlLimits,
    /// Stanzas that wait to be written: a burst, above which senders wait.
    pub waiting_max: usize,
    /// The same in bytes; a single larger one is taken when nothing else waits.
    pub waiting_bytes_max: usize,
    /// Bytes not yet taken by the transport: four TLS records. Above it nothing more is sent, and
    /// nothing read that may have to be answered.
    pub unwritten_bytes_max: usize,
    /// Stanzas that the server has not acknowledged: what servers keep for us. Above it nothing more
    /// is sent; answers owed to others may go to the double.
    pub unacked_max: usize,
    /// The same in bytes.
    pub unacked_bytes_max: usize,
    /// Sent stanzas after which an acknowledgement is asked for, whether somebody waits or not.
    pub ask_every: usize,
    /// Requests that wait for their answers: each costs memory until its time is over.
    pub requests_max: usize,
    /// Requests of others that wait for one handler; above it they are refused as `wait`.
    pub handler_queue_max: usize,
    /// Events that a receiver may be behind: the client stops reading.
    pub events_max: usize,
    /// Bytes that a receiver may be behind, also while a request waits for its answer, which must
    /// still be read: then it is dropped.
    pub events_bytes_max: usize,
    /// Events kept while nobody receives them: from the first stanza to the first receiver.
    pub early_events_max: usize,
    /// The same in bytes.
    pub early_bytes_max: usize,
    /// How long a receiver that is behind may stop the client from reading.
    pub stall_max: Duration,
    /// How long the end may take: what is queued, both closing tags, the end of TLS.
    pub close_max: Duration,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            xml: XmlLimits::client(),
            waiting_max: 256,
            waiting_bytes_max: 1024 * 1024,
            unwritten_bytes_max: 64 * 1024,
            unacked_max: 1000,
            unacked_bytes_max: 2 * 1024 * 1024,
            ask_every: 16,
            requests_max: 1024,
            handler_queue_max: 64,
            events_max: 1024,
            events_bytes_max: 16 * 1024 * 1024,
            early_events_max: 256,
            early_bytes_max: 1024 * 1024,
            stall_max: Duration::from_secs(60),
            close_max: Duration::from_secs(5),
        }
    }
}
