-- Removed contacts, for clients that come with an older version of the roster.

CREATE TABLE roster_removed (
    account TEXT NOT NULL,
    jid TEXT NOT NULL,
    ver INTEGER NOT NULL,               -- of the roster when the item went
    UNIQUE (account, jid)
);

-- Removals up to this version may be missing in roster_removed.
ALTER TABLE roster_version ADD COLUMN forgotten INTEGER NOT NULL DEFAULT 0;
UPDATE roster_version SET forgotten = ver;
