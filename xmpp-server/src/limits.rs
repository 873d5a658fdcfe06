//! What peers and accounts may use of this server, each number with its reason (DESIGN 9).
//!
//! One table: field, kind, default. The configuration file reads the same names under `[limits]`;
//! the bounds of a single stream (`stream`) come from xmpp-stream and have keys there too.

use crate::config::Slot;
use std::time::Duration;
use xmpp_stream::limits::Limits as StreamLimits;

/// How many.
pub type Count = usize;
/// How many bytes.
pub type Bytes = usize;
/// How long.
pub type Time = Duration;

const KIB: usize = 1024;
const MIB: usize = 1024 * KIB;

macro_rules! limits {
    ($($(#[doc = $doc:literal])+ $name:ident: $kind:ident = $value:expr,)+) => {
        /// Every bound of the server; `Default` gives the documented numbers.
        #[derive(Clone, Copy, Debug)]
        pub struct Limits {
            /// Peers on the loopback interface are not counted by address (connections, login
            /// delay, registrations): local tools and proxies share one address.
            pub loopback_exempt: bool,
            /// Bounds of one stream.
            pub stream: StreamLimits,
            $($(#[doc = $doc])+ pub $name: $kind,)+
        }

        impl Default for Limits {
            fn default() -> Self {
                Self {
                    loopback_exempt: true,
                    stream: StreamLimits::default(),
                    $($name: $value,)+
                }
            }
        }

        impl Limits {
            /// Takes from a newer configuration what concerns connections; names the keys of
            /// other bounds that differ there.
            pub(crate) fn reloaded(&self, new: &Self) -> (Self, Vec<&'static str>) {
                let mut merged = Self {
                    loopback_exempt: new.loopback_exempt,
                    stream: new.stream,
                    ..*self
                };
                let mut kept = Vec::new();
                $(if RELOADED.contains(&stringify!($name)) {
                    merged.$name = new.$name;
                } else if self.$name != new.$name {
                    kept.push(stringify!($name));
                })+
                (merged, kept)
            }

            /// The keys of `[limits]` and where each value goes.
            pub(crate) fn slots(&mut self) -> Vec<(&'static str, Slot<'_>)> {
                let mut slots = vec![("loopback_exempt", Slot::Flag(&mut self.loopback_exempt))];
                $(slots.push((stringify!($name), Slot::$kind(&mut self.$name)));)+
                slots.extend(stream_slots(&mut self.stream));
                slots
            }
        }
    };
}

limits! {
    // Connections and logins.

    /// Connections not yet signed in, per IPv4 address or IPv6 /64 (what one line of a provider
    /// has): a household with many devices stays far below.
    unauthenticated_per_address_max: Count = 64,
    /// The same from everywhere: 4,096 handshakes in flight keep one core busy for a second.
    unauthenticated_max: Count = 4096,
    /// First delay of a login after a wrong password for the same account from the same address;
    /// it doubles with each further one: a person does not notice, a guesser does.
    login_delay: Time = Duration::from_millis(500),
    /// Where the doubling ends: below the 30 s that a stream has to sign in.
    login_delay_max: Time = Duration::from_secs(16),
    /// (account, address) pairs remembered: 10,000 are about 1 MiB.
    login_delay_entries_max: Count = 10_000,
    /// How long a pair is remembered after its last wrong password.
    login_delay_kept: Time = Duration::from_secs(15 * 60),
    /// In-band registrations an hour, per IPv4 address or IPv6 /64: a family, not a farm.
    registrations_per_address_max: Count = 10,
    /// Addresses whose registrations are remembered for that hour: more is a farm of its own, and
    /// the oldest are forgotten.
    registration_entries_max: Count = 10_000,

    // Sessions.

    /// Bound resources of one account: people have a handful, a bot farm should use accounts.
    resources_per_account_max: Count = 32,
    /// Sessions in all: 16 kB each make 1.6 GB.
    sessions_max: Count = 100_000,
    /// Addresses that a session told of its presence directly, beside its roster: rooms and
    /// strangers; presence to a further one is refused with resource-constraint, since its end could
    /// not be told.
    directed_max: Count = 1000,
    /// Effects of one stanza, those of its effects included: presence to a full roster at 32
    /// sessions is far below; two handlers that feed each other end here.
    effects_max: Count = 100_000,
    /// Bytes that a connection is read a second on the average; a second's worth may come at once:
    /// far above what a person sends, and an eighth of what one core decrypts.
    read_bytes_per_second_max: Bytes = 64 * MIB,
    /// Addresses that one session writes to in a minute, its own account and answers apart: nobody
    /// has so many contacts to greet, and a spammer has.
    recipients_max: Count = 2000,
    /// Presences to all contacts that one session sends in a minute: two a second are no person's
    /// mood, and each goes to every device of every contact.
    broadcasts_max: Count = 120,
    /// Subscription requests that one session sends in a minute: who moves a roster sends all of them
    /// at once, and clients do not ask again; a spammer has more.
    subscribes_max: Count = 500,
    /// Bytes read from one socket before its task yields: four TLS records.
    turn_bytes_max: Bytes = 64 * KIB,
    /// Received stanzas of a session whose writes are pending; then its socket is not read.
    stanzas_pending_max: Count = 256,
    /// The same in bytes: four of the largest stanzas.
    stanza_bytes_pending_max: Bytes = MIB,
    /// Items in an outbox from which producers pause (coalescing presence is not built yet).
    outbox_items_soft: Count = 512,
    /// The same in bytes.
    outbox_bytes_soft: Bytes = 256 * KIB,
    /// How long a producer that met a soft queue pauses once: a slow reader may not stop others.
    outbox_pause_max: Time = Duration::from_millis(5),
    /// Items pushed by others at which the socket is cut: what a login to large rooms brings at
    /// once fits eight times.
    outbox_items_hard: Count = 8192,
    /// The same in bytes, beside four of the largest stanzas (`outbox_bytes_hard_total`).
    outbox_bytes_hard: Bytes = MIB,
    /// A write that makes no progress for this long cuts the socket: TCP has retried by then.
    write_stall_max: Time = Duration::from_secs(60),
    /// How long a session that is replaced may take over the stanza in hand: what waits for the
    /// store waits no longer.
    replace_max: Time = Duration::from_secs(10),
    /// From the signal to the end of the process.
    drain_max: Time = Duration::from_secs(10),

    // Stream management.

    /// Stanzas sent and not acknowledged: ten minutes of a busy room.
    sm_unacked_max: Count = 1000,
    /// The same in bytes.
    sm_unacked_bytes_max: Bytes = 2 * MIB,
    /// How long `<enable/>` waits for what its sender sent before to be looked up; then the stream is
    /// counted, but cannot be resumed: a store that hangs does not hold up a login.
    sm_enable_max: Time = Duration::from_secs(2),
    /// How long a session waits for its client to come back: a tunnel, a change of network.
    sm_resume: Time = Duration::from_secs(300),
    /// The longest that a client may ask for.
    sm_resume_max: Time = Duration::from_secs(3600),
    /// Streams that ended and whose count is still told: 100 bytes each.
    sm_ended_max: Count = 10_000,
    /// How long it is told: a weekend in a drawer.
    sm_ended_kept: Time = Duration::from_secs(48 * 3600),
    /// How long an acknowledgement that was asked for waits for commits: a few of them.
    sm_ack_wait: Time = Duration::from_millis(50),

    // Store.

    /// Operations waiting for the group writer: sixteen full groups.
    writer_ops_max: Count = 8192,
    /// The same in bytes.
    writer_bytes_max: Bytes = 32 * MIB,
    /// Operations of one commit.
    writer_group_ops_max: Count = 512,
    /// The same in bytes.
    writer_group_bytes_max: Bytes = MIB,
    /// How long a commit may take until its stanza is answered internal-server-error.
    ticket_max: Time = Duration::from_secs(10),
    /// Accounts kept in memory: those of a busy hour.
    accounts_cached_max: Count = 10_000,
    /// How long it is remembered that an account does not exist.
    account_miss_kept: Time = Duration::from_secs(60),

    // Accounts.

    /// Contacts of one roster: clients load it whole, at about 100 bytes each.
    roster_items_max: Count = 2000,
    /// Removed contacts of one roster that are remembered for clients with an older version
    /// (RFC 6121 section 2.6); one that is further behind gets the whole roster.
    roster_removed_max: Count = 256,
    /// Groups of one contact.
    roster_groups_max: Count = 32,
    /// Bytes of a contact's name: what a resource may have (RFC 7622).
    roster_name_bytes_max: Bytes = 1023,
    /// Bytes of a group's name: the same.
    roster_group_bytes_max: Bytes = 1023,
    /// Subscription requests kept for an account that does not answer them: more than a person
    /// would read.
    pending_requests_max: Count = 200,
    /// Bytes of one of them: a nick and a sentence.
    pending_request_bytes_max: Bytes = 4 * KIB,
    /// Sets of abilities of clients (XEP-0115) that are remembered: versions and settings of a few
    /// dozen clients; with the next number 16 MiB at most.
    caps_kept_max: Count = 1000,
    /// Bytes of one of them as the client says it: ten times what clients have.
    caps_bytes_max: Bytes = 16 * KIB,
    /// Sessions that were asked for their abilities and have not said them; then the oldest
    /// question is forgotten.
    caps_asked_max: Count = 256,
    /// Bytes of a presence: caps, a nick, a hash and a long status; each contact of each contact
    /// gets it at login.
    presence_bytes_max: Bytes = 16 * KIB,
    /// Bytes of names and groups of one roster: 2,000 contacts at 256 bytes.
    roster_bytes_max: Bytes = 512 * KIB,
    /// Bytes of one element of private XML storage: a few hundred bookmarks.
    private_bytes_max: Bytes = 64 * KIB,
    /// Bytes of a vCard: a photo of 100 kB in base64 and some text.
    vcard_bytes_max: Bytes = 160 * KIB,
    /// Due messages of one account; then service-unavailable to the sender (RFC 6121 section 8.5.2.2.1).
    offline_messages_max: Count = 2000,
    /// Elements of private XML storage (XEP-0049) an account: one per client feature.
    private_elements_max: Count = 128,
    /// Messages of one archive page (XEP-0313 asks for a limit; clients ask for 20 to 100).
    archive_page_max: Count = 250,
    /// Rooms of one service: 10 kB each when idle.
    rooms_max: Count = 10_000,
    /// Nodes of one account or service.
    nodes_max: Count = 1000,

    // Links to other servers.

    /// Stanzas waiting for a link to one domain.
    s2s_pending_max: Count = 256,
    /// The same in bytes.
    s2s_pending_bytes_max: Bytes = MIB,
    /// The same for all domains.
    s2s_pending_bytes_total_max: Bytes = 64 * MIB,
    /// Domain pairs with a link, or of which a failure is remembered: 1 kB each.
    s2s_links_max: Count = 10_000,
    /// How long stanzas wait for a link that was up a moment ago: a restart.
    s2s_wait_max: Time = Duration::from_secs(60),
    /// From the first question to DNS to an established stream, all addresses tried.
    s2s_connect_max: Time = Duration::from_secs(60),
    /// Streams of other servers whose connection was lost and whose count is kept for `sm_resume`.
    s2s_resumable_max: Count = 1000,
    /// The same failure of a link is logged again after so long.
    s2s_log_again: Time = Duration::from_secs(3600),
    /// Causes and peers of which is known when they were last logged: 100 bytes each.
    s2s_log_kept_max: Count = 1000,

    // Components.

    /// Stanzas waiting to be written to one component: a gateway's busy second.
    component_pending_max: Count = 4096,
    /// The same in bytes.
    component_pending_bytes_max: Bytes = 8 * MIB,

    // Operators.

    /// Connections to the control socket: operators and a monitor.
    admin_connections_max: Count = 16,
    /// Bytes of one request there: an address and a password, or the keys of twenty accounts.
    admin_line_bytes_max: Bytes = 16 * KIB,
    /// Stanzas that wait to be shown by one `session watch`: a few seconds of a busy session.
    watch_stanzas_max: Count = 1000,
    /// The same in bytes.
    watch_bytes_max: Bytes = MIB,
}

impl Limits {
    /// Bytes pushed by others at which an outbox is cut: the hard bound and four of the largest
    /// stanzas, so that a few large ones never cut a session that reads.
    #[must_use]
    pub const fn outbox_bytes_hard_total(&self) -> usize {
        let largest = self.stream.after_auth.stanza_bytes_max;
        self.outbox_bytes_hard
            .saturating_add(largest.saturating_mul(4))
    }
}

/// Bounds whose new value counts at once after a reload, for connections and sessions that begin
/// then; so do all of a stream's. What is sized at the start, and what two sides have to agree on
/// while a stanza is under way, stays.
const RELOADED: &[&str] = &[
    "drain_max",
    "read_bytes_per_second_max",
    "resources_per_account_max",
    "sessions_max",
    "unauthenticated_max",
    "unauthenticated_per_address_max",
    "write_stall_max",
];

/// Keys that have no effect until their feature is built.
pub(crate) const LATER: &[&str] = &["archive_page_max", "nodes_max", "rooms_max"];

fn stream_slots(stream: &mut StreamLimits) -> [(&'static str, Slot<'_>); 15] {
    [
        (
            "stanza_bytes_before_auth_max",
            Slot::StanzaBytes(&mut stream.before_auth.stanza_bytes_max),
        ),
        (
            "stanza_bytes_max",
            Slot::StanzaBytes(&mut stream.after_auth.stanza_bytes_max),
        ),
        ("negotiation_max", Slot::Time(&mut stream.negotiation_max)),
        ("registration_max", Slot::Time(&mut stream.registration_max)),
        (
            "login_failures_max",
            Slot::Count32(&mut stream.login_failures_max, 1..=100),
        ),
        (
            "login_refusals_max",
            Slot::Count32(&mut stream.login_refusals_max, 1..=100),
        ),
        // RFC 6120 section 7.7.3: at least 5 and at most 10 tries.
        (
            "bind_tries_max",
            Slot::Count32(&mut stream.bind_tries_max, 5..=10),
        ),
        ("silence_max", Slot::Time(&mut stream.silence_max)),
        (
            "silence_answer_max",
            Slot::Time(&mut stream.silence_answer_max),
        ),
        ("close_max", Slot::Time(&mut stream.close_max)),
        ("s2s_pairs_max", Slot::Count(&mut stream.s2s.pairs_max)),
        (
            "s2s_keys_max",
            Slot::Count(&mut stream.s2s.dialback_pending_max),
        ),
        (
            "s2s_refusals_max",
            Slot::Count32(&mut stream.s2s.refusals_max, 1..=1000),
        ),
        (
            "s2s_verify_max",
            Slot::Count32(&mut stream.s2s.verify_max, 1..=100_000),
        ),
        ("s2s_idle_max", Slot::Time(&mut stream.s2s.idle_max)),
    ]
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeSet;

    #[test]
    fn keys_are_unique_and_later_ones_exist() {
        let mut limits = Limits::default();
        let slots = limits.slots();
        let keys: BTreeSet<_> = slots.iter().map(|(key, _)| *key).collect();
        assert_eq!(keys.len(), slots.len());
        for key in LATER {
            assert!(keys.contains(key), "{key}");
        }
    }

    #[test]
    fn a_reload_takes_the_bounds_of_connections() {
        let mut limits = Limits::default();
        let keys: BTreeSet<_> = limits.slots().iter().map(|(key, _)| *key).collect();
        assert!(RELOADED.iter().all(|key| keys.contains(key)));
        let mut new = Limits {
            loopback_exempt: false,
            sessions_max: 7,
            effects_max: 8,
            roster_items_max: 9,
            ..limits
        };
        new.stream.login_failures_max = 6;
        let (merged, kept) = limits.reloaded(&new);
        assert_eq!(kept, ["effects_max", "roster_items_max"]);
        assert!(!merged.loopback_exempt);
        assert_eq!(
            (merged.sessions_max, merged.stream.login_failures_max),
            (7, 6)
        );
        assert_eq!(merged.effects_max, limits.effects_max);
    }

    #[test]
    fn the_page_for_operators_lists_every_key() {
        let page = concat!(env!("CARGO_MANIFEST_DIR"), "/../docs/OPERATING.md");
        let page = std::fs::read_to_string(page).unwrap();
        let section = page.split("### `[limits]`").nth(1).unwrap();
        let section = section.split("\n## ").next().unwrap();
        let rows = section
            .lines()
            .filter_map(|line| line.strip_prefix("| `")?.split_once('`'));
        let rows: Vec<(&str, bool)> = rows
            .map(|(key, rest)| (key, rest.contains("*later*")))
            .collect();
        let mut limits = Limits::default();
        let keys: BTreeSet<_> = limits.slots().iter().map(|(key, _)| *key).collect();
        assert_eq!(
            rows.iter().map(|(key, _)| *key).collect::<BTreeSet<_>>(),
            keys
        );
        let later = rows.iter().filter(|(_, later)| *later).map(|(key, _)| *key);
        assert_eq!(
            later.collect::<BTreeSet<_>>(),
            LATER.iter().copied().collect()
        );
    }

    #[test]
    fn defaults_are_those_of_the_design() {
        let limits = Limits::default();
        assert!(limits.loopback_exempt);
        assert_eq!(limits.unauthenticated_per_address_max, 64);
        assert_eq!(limits.unauthenticated_max, 4096);
        assert_eq!(limits.stream.negotiation_max, Duration::from_secs(30));
        assert_eq!(limits.stream.registration_max, Duration::from_secs(300));
        assert_eq!(limits.stream.login_failures_max, 5);
        assert_eq!(limits.stream.login_refusals_max, 10);
        assert_eq!(limits.resources_per_account_max, 32);
        assert_eq!(limits.sessions_max, 100_000);
        assert_eq!(limits.stream.silence_max, Duration::from_secs(300));
        assert_eq!(limits.stream.silence_answer_max, Duration::from_secs(60));
        assert_eq!(
            (limits.stanzas_pending_max, limits.stanza_bytes_pending_max),
            (256, MIB)
        );
        assert_eq!(
            (limits.outbox_items_soft, limits.outbox_bytes_soft),
            (512, 256 * KIB)
        );
        assert_eq!(limits.outbox_pause_max, Duration::from_millis(5));
        assert_eq!(limits.outbox_items_hard, 8192);
        assert_eq!(limits.outbox_bytes_hard_total(), 2 * MIB);
        assert_eq!(limits.write_stall_max, Duration::from_secs(60));
        assert_eq!(
            (limits.sm_unacked_max, limits.sm_unacked_bytes_max),
            (1000, 2 * MIB)
        );
        assert_eq!(limits.sm_resume, Duration::from_secs(300));
        assert_eq!(limits.sm_resume_max, Duration::from_secs(3600));
        assert_eq!(
            (limits.writer_ops_max, limits.writer_bytes_max),
            (8192, 32 * MIB)
        );
        assert_eq!(limits.ticket_max, Duration::from_secs(10));
        assert_eq!(
            (limits.s2s_pending_max, limits.s2s_pending_bytes_max),
            (256, MIB)
        );
        assert_eq!(limits.s2s_pending_bytes_total_max, 64 * MIB);
        assert_eq!(limits.drain_max, Duration::from_secs(10));
    }
}
