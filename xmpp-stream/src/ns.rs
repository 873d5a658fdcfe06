//! Every namespace of the project, and the small ids that stand for those met on the hot path.
//!
//! The only file that spells a namespace (tests/tests/tidy.rs checks it). `NsId` and `NameId` index
//! tables fixed at compile time: a peer cannot grow them; whatever is not listed is `OTHER`.

macro_rules! namespaces {
    ($($(#[doc = $doc:literal])* $name:ident = $uri:literal;)*) => {
        $($(#[doc = $doc])* pub const $name: &str = $uri;)*

        #[repr(u16)]
        #[allow(non_camel_case_types, clippy::upper_case_acronyms)]
        enum NsIndex { OTHER, $($name,)* }

        /// The same namespaces as small ids, for matching without comparing strings.
        pub mod id {
            use super::{NsId, NsIndex};
            $($(#[doc = $doc])* pub const $name: NsId = NsId(NsIndex::$name as u16);)*
        }

        impl NsId {
            /// The id of a namespace; `OTHER` when it is not one of ours.
            #[must_use]
            pub fn of(uri: &str) -> Self {
                match uri {
                    $($uri => id::$name,)*
                    _ => Self::OTHER,
                }
            }

            /// The namespace name; `None` for `OTHER`.
            #[must_use]
            pub fn as_str(self) -> Option<&'static str> {
                const ALL: &[&str] = &[$($uri,)*];
                ALL.get(usize::from(self.0).checked_sub(1)?).copied()
            }
        }
    };
}

macro_rules! names {
    ($($name:ident = $text:literal;)*) => {
        #[repr(u16)]
        #[allow(non_camel_case_types, clippy::upper_case_acronyms)]
        enum NameIndex { OTHER, $($name,)* }

        /// Element names that handlers ask for.
        #[allow(missing_docs, reason = "each constant says its own element name")]
        pub mod name {
            use super::{NameId, NameIndex};
            $(pub const $name: NameId = NameId(NameIndex::$name as u16);)*
        }

        impl NameId {
            /// The id of an element name; `OTHER` when it is not listed.
            #[must_use]
            pub fn of(text: &str) -> Self {
                match text {
                    $($text => name::$name,)*
                    _ => Self::OTHER,
                }
            }
        }
    };
}

/// A namespace as a small number.
#[derive(Clone, Copy, Debug, Eq, Hash, PartialEq)]
pub struct NsId(u16);

/// A local element name as a small number.
#[derive(Clone, Copy, Debug, Eq, Hash, PartialEq)]
pub struct NameId(u16);

impl NsId {
    /// A namespace that is not in the table.
    pub const OTHER: Self = Self(NsIndex::OTHER as u16);
}

impl NameId {
    /// A name that is not in the table.
    pub const OTHER: Self = Self(NameIndex::OTHER as u16);
}

namespaces! {
    /// Stream feature: subscriptions can be approved in advance (RFC 6121 section 3.4).
    FEATURE_PRE_APPROVAL = "urn:xmpp:features:pre-approval";
    /// Stream feature: the roster has versions (RFC 6121 section 2.6.1).
    FEATURE_ROSTER_VERSION = "urn:xmpp:features:rosterver";
    /// Legacy in-band registration stream feature (XEP-0077 section 8).
    FEATURE_REGISTER = "http://jabber.org/features/iq-register";
    /// Entity capabilities (XEP-0115).
    CAPS = "http://jabber.org/protocol/caps";
    /// Names this program in its own entity capabilities (XEP-0115 section 4).
    CAPS_NODE = "urn:uuid:d89ab390-6880-45d8-ab23-d90674c9dfa8";
    /// Chat states (XEP-0085).
    CHAT_STATES = "http://jabber.org/protocol/chatstates";
    /// Ad-hoc commands (XEP-0050).
    COMMANDS = "http://jabber.org/protocol/commands";
    /// Service discovery, information (XEP-0030).
    DISCO_INFO = "http://jabber.org/protocol/disco#info";
    /// Service discovery, items (XEP-0030).
    DISCO_ITEMS = "http://jabber.org/protocol/disco#items";
    /// Type of the form with a server's contact addresses (XEP-0157).
    SERVER_INFO = "http://jabber.org/network/serverinfo";
    /// Joining a room (XEP-0045).
    MUC = "http://jabber.org/protocol/muc";
    /// Affiliations and roles in a room (XEP-0045).
    MUC_ADMIN = "http://jabber.org/protocol/muc#admin";
    /// Configuration of a room (XEP-0045).
    MUC_OWNER = "http://jabber.org/protocol/muc#owner";
    /// Type of the form with a room's configuration (XEP-0045).
    MUC_ROOM_CONFIG = "http://jabber.org/protocol/muc#roomconfig";
    /// Room user information (XEP-0045).
    MUC_USER = "http://jabber.org/protocol/muc#user";
    /// Publish-subscribe (XEP-0060).
    PUBSUB = "http://jabber.org/protocol/pubsub";
    /// Conditions of publish-subscribe beside those of stanzas (XEP-0060).
    PUBSUB_ERRORS = "http://jabber.org/protocol/pubsub#errors";
    /// Notifications of publish-subscribe (XEP-0060).
    PUBSUB_EVENT = "http://jabber.org/protocol/pubsub#event";
    /// Type of the form with a node's configuration (XEP-0060).
    PUBSUB_NODE_CONFIG = "http://jabber.org/protocol/pubsub#node_config";
    /// What only a node's owner may ask (XEP-0060).
    PUBSUB_OWNER = "http://jabber.org/protocol/pubsub#owner";
    /// Type of the form with what a publisher wants of a node (XEP-0060).
    PUBSUB_PUBLISH_OPTIONS = "http://jabber.org/protocol/pubsub#publish-options";
    /// Result set management (XEP-0059).
    RSM = "http://jabber.org/protocol/rsm";
    /// Stream root element (RFC 6120 section 4.8.1).
    STREAMS = "http://etherx.jabber.org/streams";
    /// Content namespace of client streams (RFC 6120 section 4.8.2).
    CLIENT = "jabber:client";
    /// Content namespace of external components (XEP-0114).
    COMPONENT = "jabber:component:accept";
    /// Last activity (XEP-0012).
    LAST = "jabber:iq:last";
    /// Private XML storage (XEP-0049).
    PRIVATE = "jabber:iq:private";
    /// In-band registration (XEP-0077).
    REGISTER = "jabber:iq:register";
    /// Roster management (RFC 6121 section 2).
    ROSTER = "jabber:iq:roster";
    /// User search (XEP-0055).
    SEARCH = "jabber:iq:search";
    /// Software version (XEP-0092).
    VERSION = "jabber:iq:version";
    /// Content namespace of server streams (RFC 6120 section 4.8.2).
    SERVER = "jabber:server";
    /// Server dialback (XEP-0220).
    DIALBACK = "jabber:server:dialback";
    /// Stream feature: dialback (XEP-0220 section 2.4.2).
    FEATURE_DIALBACK = "urn:xmpp:features:dialback";
    /// Bidirectional streams between servers (XEP-0288).
    BIDI = "urn:xmpp:bidi";
    /// Stream feature: bidirectional streams (XEP-0288).
    FEATURE_BIDI = "urn:xmpp:features:bidi";
    /// Description of a project (XEP-0453).
    DOAP = "http://usefulinc.com/ns/doap#";
    /// What a project supports of XMPP (XEP-0453 section 4.2).
    DOAP_XMPP = "https://linkmauve.fr/ns/xmpp-doap#";
    /// RDF/XML, the form of both.
    RDF = "http://www.w3.org/1999/02/22-rdf-syntax-ns#";
    /// Direct invitations to rooms (XEP-0249).
    CONFERENCE = "jabber:x:conference";
    /// Data forms (XEP-0004).
    DATA_FORMS = "jabber:x:data";
    /// Out-of-band data (XEP-0066).
    OOB = "jabber:x:oob";
    /// Roster group delimiter kept in private storage (XEP-0083).
    ROSTER_DELIMITER = "roster:delimiter";
    /// Resource binding (RFC 6120 section 7).
    BIND = "urn:ietf:params:xml:ns:xmpp-bind";
    /// SASL (RFC 6120 section 6).
    SASL = "urn:ietf:params:xml:ns:xmpp-sasl";
    /// Legacy session establishment (RFC 3921; RFC 6121 section 1.4).
    SESSION = "urn:ietf:params:xml:ns:xmpp-session";
    /// Stanza error conditions (RFC 6120 section 8.3).
    STANZAS = "urn:ietf:params:xml:ns:xmpp-stanzas";
    /// Stream error conditions (RFC 6120 section 4.9).
    STREAM_ERRORS = "urn:ietf:params:xml:ns:xmpp-streams";
    /// STARTTLS (RFC 6120 section 5).
    TLS = "urn:ietf:params:xml:ns:xmpp-tls";
    /// Blocking command (XEP-0191).
    BLOCKING = "urn:xmpp:blocking";
    /// Application condition: the recipient is blocked by the sender (XEP-0191 section 3.5).
    BLOCKING_ERRORS = "urn:xmpp:blocking:errors";
    /// Bookmarks of rooms (XEP-0402).
    BOOKMARKS = "urn:xmpp:bookmarks:1";
    /// Message carbons (XEP-0280).
    CARBONS = "urn:xmpp:carbons:2";
    /// Chat markers (XEP-0333).
    CHAT_MARKERS = "urn:xmpp:chat-markers:0";
    /// Client state indication (XEP-0352).
    CSI = "urn:xmpp:csi:0";
    /// Delayed delivery (XEP-0203).
    DELAY = "urn:xmpp:delay";
    /// Application conditions of resource limits (XEP-0205).
    ERRORS = "urn:xmpp:errors";
    /// Stanza forwarding (XEP-0297).
    FORWARD = "urn:xmpp:forward:0";
    /// Message processing hints (XEP-0334).
    HINTS = "urn:xmpp:hints";
    /// HTTP file upload (XEP-0363).
    HTTP_UPLOAD = "urn:xmpp:http:upload:0";
    /// Message archives (XEP-0313).
    MAM = "urn:xmpp:mam:2";
    /// Feature: archives with ids in queries (XEP-0313 section 4.1).
    MAM_EXTENDED = "urn:xmpp:mam:2#extended";
    /// Last message correction (XEP-0308).
    CORRECT = "urn:xmpp:message-correct:0";
    /// Displayed synchronisation (XEP-0490).
    MDS_DISPLAYED = "urn:xmpp:mds:displayed:0";
    /// Ping (XEP-0199).
    PING = "urn:xmpp:ping";
    /// Message receipts (XEP-0184).
    RECEIPTS = "urn:xmpp:receipts";
    /// Channel-binding types announced (XEP-0440).
    SASL_CB = "urn:xmpp:sasl-cb:0";
    /// Unique and stable stanza ids (XEP-0359).
    STANZA_ID = "urn:xmpp:sid:0";
    /// Stream management (XEP-0198).
    SM = "urn:xmpp:sm:3";
    /// Stream limits (XEP-0478).
    STREAM_LIMITS = "urn:xmpp:stream-limits:0";
    /// Entity time (XEP-0202).
    TIME = "urn:xmpp:time";
    /// vCard (XEP-0054).
    VCARD = "vcard-temp";
    /// Avatar hash in presence (XEP-0153).
    VCARD_UPDATE = "vcard-temp:x:update";
    /// The `xml:` prefix (XML Namespaces section 3).
    XML = "http://www.w3.org/XML/1998/namespace";
    /// The `xmlns` prefix; never a namespace of an element (XML Namespaces section 3).
    XMLNS = "http://www.w3.org/2000/xmlns/";
}

names! {
    ACTIVE = "active";
    BIND = "bind";
    BODY = "body";
    C = "c";
    COMPOSING = "composing";
    DELAY = "delay";
    DISPLAYED = "displayed";
    ERROR = "error";
    FORWARDED = "forwarded";
    GONE = "gone";
    INACTIVE = "inactive";
    ITEM = "item";
    NO_COPY = "no-copy";
    NO_PERMANENT_STORE = "no-permanent-store";
    NO_STORE = "no-store";
    NICK = "nick";
    ORIGIN_ID = "origin-id";
    PAUSED = "paused";
    PING = "ping";
    PRIORITY = "priority";
    PRIVATE = "private";
    QUERY = "query";
    RECEIVED = "received";
    REQUEST = "request";
    SENT = "sent";
    SESSION = "session";
    SHOW = "show";
    STANZA_ID = "stanza-id";
    STATUS = "status";
    STORE = "store";
    SUBJECT = "subject";
    THREAD = "thread";
    VCARD = "vCard";
    X = "x";
}
