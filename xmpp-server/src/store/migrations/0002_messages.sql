-- Messages and what of them is done. Row ids are 16 bytes, big-endian, so that they sort.

CREATE TABLE message (
    account TEXT NOT NULL,
    id BLOB NOT NULL,
    sender TEXT,                        -- this and the next two: when it may be sent again
    print INTEGER,                      -- digest by which it is then recognised
    stream BLOB,                        -- on which of the sender's streams it came
    stanza BLOB NOT NULL,
    UNIQUE (account, id)
);
CREATE INDEX message_sent ON message (sender, id) WHERE sender IS NOT NULL;

CREATE TABLE watermark (
    account TEXT NOT NULL PRIMARY KEY,
    upto BLOB NOT NULL,                 -- rows up to this one are done
    kept BLOB NOT NULL                  -- but for these: row ids, one behind the other
) WITHOUT ROWID;
