-- Accounts, rosters and the key spaces of modules. Owners are named by their bare JID.

CREATE TABLE meta (
    key TEXT PRIMARY KEY,
    val BLOB NOT NULL
);

CREATE TABLE account (
    jid TEXT NOT NULL UNIQUE,
    domain TEXT NOT NULL,
    created INTEGER NOT NULL,           -- seconds since 1970
    banned INTEGER NOT NULL DEFAULT 0,
    ban_reason TEXT
);
CREATE INDEX account_domain ON account (domain, jid);

CREATE TABLE account_key (
    account TEXT NOT NULL,
    hash INTEGER NOT NULL,              -- 1: SHA-1, 256: SHA-256, 512: SHA-512
    iterations INTEGER NOT NULL,
    salt BLOB NOT NULL,
    stored_key BLOB NOT NULL,
    server_key BLOB NOT NULL,
    UNIQUE (account, hash)
);

CREATE TABLE roster_version (
    account TEXT NOT NULL UNIQUE,
    ver INTEGER NOT NULL
);

CREATE TABLE roster (
    account TEXT NOT NULL,
    jid TEXT NOT NULL,
    ver INTEGER NOT NULL,               -- of the roster when this item last changed
    name TEXT,
    groups TEXT NOT NULL,               -- JSON array
    subscription INTEGER NOT NULL,      -- 0: none, 1: to, 2: from, 3: both
    ask INTEGER NOT NULL,
    pending_in BLOB,
    approved INTEGER NOT NULL,
    UNIQUE (account, jid)
);

CREATE TABLE kv (
    owner TEXT NOT NULL,
    space TEXT NOT NULL,
    key TEXT NOT NULL,
    ver INTEGER NOT NULL,               -- never repeated, also not after a deletion
    val BLOB NOT NULL,
    UNIQUE (owner, space, key)
);
