-- A grant permits a slot of a server, or a call of another skill; and it may end by itself.
--
-- SQLite cannot make a column nullable, so the table is made anew. Nothing refers to it.

CREATE TABLE grants_of_both_kinds (
    id         TEXT    NOT NULL PRIMARY KEY,
    skill      TEXT    NOT NULL,
    -- Of a grant of a slot.
    slot       TEXT,
    server     TEXT,
    -- Of a grant of a call: the skill that is called, and which of its versions.
    callee     TEXT,
    version    TEXT,
    granted_at INTEGER NOT NULL,
    expires_at INTEGER,
    revoked_at INTEGER,
    body       TEXT    NOT NULL,
    CHECK ((slot IS NULL) = (server IS NULL) AND (callee IS NULL) = (version IS NULL)),
    CHECK ((slot IS NULL) <> (callee IS NULL))
) STRICT;
INSERT INTO grants_of_both_kinds (id, skill, slot, server, granted_at, revoked_at, body)
SELECT id, skill, slot, server, granted_at, revoked_at, body FROM grants;
DROP TABLE grants;
ALTER TABLE grants_of_both_kinds RENAME TO grants;
CREATE INDEX grants_of_skill ON grants (skill, granted_at, id);
