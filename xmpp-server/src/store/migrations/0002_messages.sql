-- Messages and what of them is done. Row ids are 16 bytes, big-endian, so that they sort.

-- Only ever appended to. Rows behind meta's message_indexed have an entry in message_index if they
-- are due, and one in message_sent if their sender may send them again; later rows have neither yet.
CREATE TABLE message (
    seq INTEGER PRIMARY KEY,            -- order of the submits; never repeated
    account TEXT NOT NULL,
    id BLOB NOT NULL,
    sender TEXT,                        -- this and the next two: when it may be sent again
    print INTEGER,                      -- digest by which it is then recognised
    stream BLOB,                        -- on which of the sender's streams it came
    stanza BLOB NOT NULL
);

CREATE TABLE message_index (
    account TEXT NOT NULL,
    id BLOB NOT NULL,
    seq INTEGER NOT NULL,
    PRIMARY KEY (account, id)
) WITHOUT ROWID;

CREATE TABLE message_sent (
    sender TEXT NOT NULL,
    id BLOB NOT NULL,
    print INTEGER NOT NULL,
    stream BLOB NOT NULL,
    PRIMARY KEY (sender, id)
) WITHOUT ROWID;

CREATE TABLE watermark (
    account TEXT NOT NULL PRIMARY KEY,
    upto BLOB NOT NULL,                 -- rows up to this one are done
    kept BLOB NOT NULL                  -- but for these: row ids, one behind the other
) WITHOUT ROWID;

INSERT INTO meta (key, val) VALUES ('message_indexed', 0);
