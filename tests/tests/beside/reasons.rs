//! Why a script of ours does not pass on another server. A reason for one that passes is a failure of
//! the test, as is a difference without a reason.

/// Scripts by the beginning of their names, server, reason.
const REASONS: &[(&str, &str, &str)] = &[
    (
        "heritage/msgcommunicator/guest-limits",
        "Prosody",
        "answers stanzas before login by stanza errors; RFC 6120 4.9.3.12 has a stream error for it",
    ),
    (
        "heritage/xml-im-server/nothing-before-login",
        "Prosody",
        "answers stanzas before login by stanza errors (RFC 6120 4.9.3.12)",
    ),
    (
        "heritage/xml-im-server/nothing-before-login",
        "ejabberd",
        "ends the stream by policy-violation, as STARTTLS comes first; RFC 6120 4.9.3.12 has \
         not-authorized",
    ),
    (
        "recorded/gajim-1.7",
        "ejabberd",
        "asks a client for its features from the account's full JID, and not from its bare one",
    ),
    (
        "rfc6120/bad-header.scs#unsupported-version",
        "Prosody",
        "goes on with version 0.9 (RFC 6120 4.7.5 has unsupported-version)",
    ),
    (
        "rfc6120/bad-header.scs#unsupported-version",
        "ejabberd",
        "goes on with version 0.9 without features, as before RFC 3920",
    ),
    (
        "rfc6120/nothing-before-login",
        "Prosody",
        "answers stanzas before login by stanza errors (RFC 6120 4.9.3.12)",
    ),
    (
        "rfc6120/nothing-before-login",
        "ejabberd",
        "ends the stream by policy-violation, as STARTTLS comes first; RFC 6120 4.9.3.12 has \
         not-authorized",
    ),
    (
        "rfc6120/resource-generated",
        "Prosody",
        "ends the older session instead, which RFC 6120 7.7.2.2 allows too",
    ),
    (
        "rfc6120/resource-generated",
        "ejabberd",
        "ends the older session instead, which RFC 6120 7.7.2.2 allows too",
    ),
    (
        "rfc6120/stream-errors.scs#restricted-xml",
        "Prosody",
        "says not-well-formed of comments, instructions and entities (RFC 6120 11.1 has \
         restricted-xml)",
    ),
    (
        "rfc6120/stream-errors.scs#restricted-xml 4",
        "ejabberd",
        "says not-well-formed of an entity (RFC 6120 4.9.3.18 has restricted-xml)",
    ),
    (
        "rfc6120/stream-errors.scs#restricted-xml",
        "ejabberd",
        "takes comments and instructions (RFC 6120 11.1: the stream has to be closed)",
    ),
    (
        "rfc6121/pre-approval",
        "ejabberd",
        "has no pre-approval (RFC 6121 3.4 is optional) and does not announce it",
    ),
    (
        "rfc6121/presence.scs",
        "ejabberd",
        "rewrites `to` to the full JID (RFC 6121 8.5.2.1.2 forbids it)",
    ),
    (
        "rfc6121/roster-errors.scs#no item",
        "ejabberd",
        "says service-unavailable; RFC 6121 2.3.3 names no condition for a set of nothing",
    ),
    (
        "rfc6121/roster-errors.scs#same group twice",
        "Prosody",
        "takes the group once (RFC 6121 2.3.3 has bad-request)",
    ),
    (
        "rfc6121/roster-errors.scs#unknown removed",
        "ejabberd",
        "removes what is not there, with a push (RFC 6121 2.5.3 has item-not-found)",
    ),
    (
        "rfc6121/roster-of-another",
        "Prosody",
        "says service-unavailable (RFC 6121 2.3.3 has forbidden)",
    ),
    (
        "xep-0012/last-activity",
        "ejabberd",
        "says subscription-required (XEP-0012 section 4 has forbidden)",
    ),
    (
        "xep-0030/account",
        "ejabberd",
        "says subscription-required (XEP-0030 section 8 has service-unavailable)",
    ),
    (
        "xep-0054/vcard",
        "ejabberd",
        "answers with a result (XEP-0054 3.2: a set for another has to be an error)",
    ),
    (
        "xep-0077/removed.scs",
        "ejabberd",
        "ends the subscriptions before the sessions, so that the contact is not told that the \
         resource goes",
    ),
    (
        "xep-0359/forged",
        "Prosody",
        "leaves an id that claims to be from the recipient's account when it adds its own \
         (XEP-0359 section 3 has it removed)",
    ),
    ("xep-0440/", "Prosody", "0.12 has no XEP-0440"),
    ("xep-0440/", "ejabberd", "23.01 has no XEP-0440"),
    ("xep-0474/", "Prosody", "0.12 has no XEP-0474"),
    ("xep-0474/", "ejabberd", "23.01 has no XEP-0474"),
    ("xep-0478/", "Prosody", "0.12 has no XEP-0478"),
    ("xep-0478/", "ejabberd", "23.01 has no XEP-0478"),
];

/// The reason, where there is one.
pub(crate) fn of(script: &str, peer: &str) -> Option<&'static str> {
    let is_it = |row: &&(&str, &str, &str)| script.starts_with(row.0) && row.1 == peer;
    REASONS.iter().find(is_it).map(|row| row.2)
}

/// Scripts of others by the beginning of their names, and what keeps ours or Prosody 0.12 from passing.
const SCANSION: &[(&str, &str)] = &[
    (
        "basic_message",
        "Prosody: has no time on what its archive keeps for later",
    ),
    ("blocking", "ours: blocking (XEP-0191) is not built"),
    (
        "bookmarks2",
        "ours: personal events are not built. Prosody: 0.12 names the publisher",
    ),
    (
        "disco_self",
        "Prosody: has a module more than the script knows",
    ),
    (
        "empty_bookmarks",
        "ours: personal events (XEP-0163) are not built",
    ),
    (
        "extdisco",
        "ours: XEP-0215 is not built. Prosody: not configured here",
    ),
    (
        "http_upload",
        "ours: upload (XEP-0363) is not built. Prosody: configured with another size",
    ),
    (
        "issue1121",
        "ours: the script wants Prosody's word that a subscription request has arrived, which RFC \
         6121 does not have",
    ),
    ("issue", "ours: rooms (XEP-0045) are not built"),
    (
        "lastactivity",
        "ours: the status of the last unavailable presence is not told, which is optional (XEP-0012 \
         section 3)",
    ),
    ("mam_", "ours: the archive (XEP-0313) is not built"),
    (
        "muc_outcast",
        "ours: rooms are not built. Prosody: newer than 0.12",
    ),
    (
        "muc_whois",
        "ours: rooms are not built. Prosody: newer than 0.12",
    ),
    ("muc_", "ours: rooms (XEP-0045) are not built"),
    (
        "pep_nickname",
        "ours: personal events are not built. Prosody: 0.12 names the publisher",
    ),
    (
        "pep_publish",
        "ours: personal events are not built. Prosody: 0.12 names the publisher",
    ),
    ("pep_", "ours: personal events (XEP-0163) are not built"),
    (
        "presence_preapproval",
        "ours: the script wants the roster's version to be 1, and a version is any text (RFC 6121 \
         2.1.1)",
    ),
    (
        "pubsub_config",
        "ours: XEP-0060 is not built. Prosody: newer than 0.12",
    ),
    (
        "pubsub_m",
        "ours: XEP-0060 is not built. Prosody: newer than 0.12",
    ),
    (
        "pubsub_precond",
        "ours: XEP-0060 is not built. Prosody: newer than 0.12",
    ),
    ("pubsub_", "ours: XEP-0060 is not built"),
    (
        "server_contact",
        "ours: needs the addresses of its configuration",
    ),
    (
        "tombstones",
        "ours: who asks for the removal of the account and closes at once is kept waiting for 5 s. \
         Prosody: newer than 0.12",
    ),
    ("version", "ours: the script wants the name Prosody"),
];

/// The reason, where there is one.
pub(crate) fn of_scansion(script: &str) -> Option<&'static str> {
    let row = SCANSION.iter().find(|row| script.starts_with(row.0));
    row.map(|row| row.1)
}
