-- The truth: nouns, their audit chains, what is to be relayed, and the queue.
--
-- Conventions. Ids are the 36 characters of a UUID. Moments are milliseconds since the Unix epoch. `body` is the whole
-- noun as JSON and is what the noun is read from; every other column of such a table is derived from it by the same
-- function, for filters, guards and people. Tables without `body` are read from their columns.

CREATE TABLE agents (
    id          TEXT    NOT NULL PRIMARY KEY,
    type        TEXT    NOT NULL,
    -- Hash of the newest token that is not revoked; kept in step with `api_tokens`. Never a token.
    credentials TEXT,
    status      TEXT    NOT NULL,
    last_seen   INTEGER NOT NULL,
    name        TEXT    NOT NULL,
    created_at  INTEGER NOT NULL,
    body        TEXT    NOT NULL
) STRICT;

CREATE TABLE api_tokens (
    id         TEXT    NOT NULL PRIMARY KEY,
    hash       TEXT    NOT NULL UNIQUE,
    -- Whose token; none for an operator's.
    agent_id   TEXT,
    created_at INTEGER NOT NULL,
    revoked_at INTEGER,
    body       TEXT    NOT NULL
) STRICT;
CREATE INDEX api_tokens_of_agent ON api_tokens (agent_id, created_at) WHERE agent_id IS NOT NULL;

CREATE TABLE campaigns (
    id         TEXT    NOT NULL PRIMARY KEY,
    state      TEXT    NOT NULL,
    planner_id TEXT    NOT NULL,
    rev        INTEGER NOT NULL,
    created_at INTEGER NOT NULL,
    updated_at INTEGER NOT NULL,
    body       TEXT    NOT NULL
) STRICT;
CREATE INDEX campaigns_by_age ON campaigns (created_at, id);
CREATE INDEX campaigns_by_state ON campaigns (state, created_at, id);

CREATE TABLE plan_steps (
    id          TEXT    NOT NULL PRIMARY KEY,
    campaign_id TEXT    NOT NULL REFERENCES campaigns (id),
    lineage_id  TEXT    NOT NULL,
    state       TEXT    NOT NULL,
    -- No reference: a step and its task name each other.
    task_id     TEXT,
    position    INTEGER NOT NULL,
    body        TEXT    NOT NULL
) STRICT;
CREATE INDEX plan_steps_of_campaign ON plan_steps (campaign_id, position, id);

CREATE TABLE task_specs (
    id            TEXT NOT NULL PRIMARY KEY,
    skill_name    TEXT NOT NULL,
    skill_version TEXT NOT NULL,
    skill_digest  TEXT NOT NULL,
    body          TEXT NOT NULL
) STRICT;

CREATE TABLE tasks (
    id          TEXT    NOT NULL PRIMARY KEY,
    planner_id  TEXT    NOT NULL,
    worker_id   TEXT,
    spec_id     TEXT    NOT NULL REFERENCES task_specs (id),
    status      TEXT    NOT NULL,
    confidence  REAL,
    created_at  INTEGER NOT NULL,
    updated_at  INTEGER NOT NULL,
    campaign_id TEXT    REFERENCES campaigns (id),
    step_id     TEXT    REFERENCES plan_steps (id),
    lineage_id  TEXT    NOT NULL,
    priority    INTEGER NOT NULL,
    attempt     INTEGER NOT NULL,
    epoch       INTEGER NOT NULL,
    lease_id    TEXT,
    lease_until INTEGER,
    run_after   INTEGER,
    rev         INTEGER NOT NULL,
    body        TEXT    NOT NULL
) STRICT;
CREATE INDEX tasks_by_age ON tasks (created_at, id);
CREATE INDEX tasks_by_status ON tasks (status, created_at, id);
CREATE INDEX tasks_of_campaign ON tasks (campaign_id, created_at, id) WHERE campaign_id IS NOT NULL;
CREATE INDEX tasks_of_step ON tasks (step_id) WHERE step_id IS NOT NULL;
CREATE INDEX tasks_of_spec ON tasks (spec_id);
CREATE INDEX tasks_leased ON tasks (lease_until) WHERE status = 'running';
CREATE INDEX tasks_waiting ON tasks (run_after) WHERE status = 'retry_wait';
-- Whose journals, or whose older ones, are thrown away after a time.
CREATE INDEX tasks_ended ON tasks (updated_at, id) WHERE status IN ('approved', 'rejected', 'failed', 'cancelled');
CREATE INDEX tasks_restarted ON tasks (updated_at, id) WHERE epoch > 0;

-- One hash chain per campaign, and one called `system`. Rows are only ever added.
CREATE TABLE audit_logs (
    task_id       TEXT,
    action        TEXT    NOT NULL,
    agent_id      TEXT    NOT NULL,
    timestamp     INTEGER NOT NULL,
    review_status TEXT    NOT NULL,
    chain         TEXT    NOT NULL,
    seq           INTEGER NOT NULL,
    prev_hash     TEXT    NOT NULL,
    hash          TEXT    NOT NULL,
    detail        TEXT    NOT NULL,
    PRIMARY KEY (chain, seq)
) STRICT;
CREATE INDEX audit_logs_of_task ON audit_logs (task_id, timestamp) WHERE task_id IS NOT NULL;

-- Where each chain ends, written with the events: events that are removed from the end of a chain are missed.
CREATE TABLE audit_heads (
    chain TEXT    NOT NULL PRIMARY KEY,
    seq   INTEGER NOT NULL,
    hash  TEXT    NOT NULL
) STRICT, WITHOUT ROWID;

-- Every MCP call that spends, against its budget. `amount` is in the currency's smallest unit.
CREATE TABLE transactions (
    id        TEXT    NOT NULL PRIMARY KEY,
    type      TEXT    NOT NULL,
    amount    INTEGER NOT NULL,
    currency  TEXT    NOT NULL,
    status    TEXT    NOT NULL,
    timestamp INTEGER NOT NULL
) STRICT;

CREATE TABLE outbox (
    id            TEXT    NOT NULL PRIMARY KEY,
    topic         TEXT    NOT NULL,
    priority      INTEGER NOT NULL,
    available_at  INTEGER NOT NULL,
    created_at    INTEGER NOT NULL,
    -- Not part of the noun: until when the row belongs to whoever claimed it.
    claimed_until INTEGER,
    body          TEXT    NOT NULL
) STRICT;
CREATE INDEX outbox_due ON outbox (topic, priority DESC, created_at, id);

-- Transport only: emptying it loses nothing. `seq` is never used twice, so a receipt names one claim of one row.
CREATE TABLE queue (
    seq        INTEGER PRIMARY KEY AUTOINCREMENT,
    task_id    TEXT    NOT NULL UNIQUE,
    planner_id TEXT    NOT NULL,
    priority   INTEGER NOT NULL,
    visible_at INTEGER NOT NULL,
    claims     INTEGER NOT NULL DEFAULT 0
) STRICT;
CREATE INDEX queue_order ON queue (planner_id, priority DESC, seq);

CREATE TABLE journal (
    task_id TEXT    NOT NULL,
    epoch   INTEGER NOT NULL,
    ordinal INTEGER NOT NULL,
    call    TEXT    NOT NULL,
    request TEXT    NOT NULL,
    answer  TEXT    NOT NULL,
    PRIMARY KEY (task_id, epoch, ordinal)
) STRICT;

CREATE TABLE effects (
    id             TEXT    NOT NULL PRIMARY KEY,
    lineage        TEXT    NOT NULL,
    ordinal        INTEGER NOT NULL,
    tool           TEXT    NOT NULL,
    arguments_hash TEXT    NOT NULL,
    task_id        TEXT    NOT NULL,
    attempt        INTEGER NOT NULL,
    state          TEXT    NOT NULL,
    created_at     INTEGER NOT NULL,
    updated_at     INTEGER NOT NULL,
    body           TEXT    NOT NULL,
    UNIQUE (lineage, ordinal, tool, arguments_hash)
) STRICT;

CREATE TABLE approvals (
    id          TEXT    NOT NULL PRIMARY KEY,
    campaign_id TEXT,
    task_id     TEXT,
    kind        TEXT    NOT NULL,
    state       TEXT    NOT NULL,
    deadline    INTEGER NOT NULL,
    created_at  INTEGER NOT NULL,
    body        TEXT    NOT NULL
) STRICT;
CREATE INDEX approvals_by_age ON approvals (created_at, id);
CREATE INDEX approvals_by_state ON approvals (state, deadline);
CREATE INDEX approvals_of_campaign ON approvals (campaign_id, created_at) WHERE campaign_id IS NOT NULL;

CREATE TABLE grants (
    id         TEXT    NOT NULL PRIMARY KEY,
    skill      TEXT    NOT NULL,
    slot       TEXT    NOT NULL,
    server     TEXT    NOT NULL,
    granted_at INTEGER NOT NULL,
    revoked_at INTEGER,
    body       TEXT    NOT NULL
) STRICT;
CREATE INDEX grants_of_skill ON grants (skill, granted_at, id);

CREATE TABLE skills (
    name       TEXT    NOT NULL PRIMARY KEY,
    created_at INTEGER NOT NULL
) STRICT;

CREATE TABLE skill_versions (
    name         TEXT    NOT NULL REFERENCES skills (name),
    version      TEXT    NOT NULL,
    digest       TEXT    NOT NULL,
    state        TEXT    NOT NULL,
    installed_at INTEGER NOT NULL,
    body         TEXT    NOT NULL,
    PRIMARY KEY (name, version)
) STRICT;

-- Which version of a skill new work gets. What a version on trial has done so far is in `body`; counting it moves no `rev`.
CREATE TABLE skill_routes (
    name       TEXT    NOT NULL PRIMARY KEY REFERENCES skills (name),
    active     TEXT,
    canary     TEXT,
    rev        INTEGER NOT NULL,
    updated_at INTEGER NOT NULL,
    body       TEXT    NOT NULL
) STRICT;

-- The last hour of an agent. `bytes` counts key and value.
CREATE TABLE ephemeral_memory (
    agent_id   TEXT    NOT NULL,
    key        TEXT    NOT NULL,
    expires_at INTEGER NOT NULL,
    bytes      INTEGER NOT NULL,
    value      TEXT    NOT NULL,
    PRIMARY KEY (agent_id, key)
) STRICT;
CREATE INDEX ephemeral_memory_expiry ON ephemeral_memory (expires_at);

CREATE TABLE content_trends (
    id          TEXT    NOT NULL PRIMARY KEY,
    agent_id    TEXT    NOT NULL,
    topic       TEXT    NOT NULL,
    weight      REAL    NOT NULL,
    source      TEXT    NOT NULL,
    observed_at INTEGER NOT NULL
) STRICT;
CREATE INDEX content_trends_window ON content_trends (observed_at, topic, weight);
CREATE INDEX content_trends_of_agent ON content_trends (agent_id, observed_at, id);

-- `bytes` counts text and metadata.
CREATE TABLE agent_memory (
    id         TEXT    NOT NULL PRIMARY KEY,
    agent_id   TEXT    NOT NULL,
    created_at INTEGER NOT NULL,
    bytes      INTEGER NOT NULL,
    body       TEXT    NOT NULL
) STRICT;
CREATE INDEX agent_memory_of_agent ON agent_memory (agent_id, created_at, id);

-- How much each agent keeps of `memory`, `scratch` and `trends`, so that limits are held without counting rows. Written
-- by the triggers below and by nothing else.
CREATE TABLE kept (
    agent_id TEXT    NOT NULL,
    what     TEXT    NOT NULL,
    items    INTEGER NOT NULL,
    bytes    INTEGER NOT NULL,
    PRIMARY KEY (agent_id, what)
) STRICT, WITHOUT ROWID;

CREATE TRIGGER agent_memory_added AFTER INSERT ON agent_memory BEGIN
    INSERT INTO kept (agent_id, what, items, bytes) VALUES (new.agent_id, 'memory', 1, new.bytes)
    ON CONFLICT (agent_id, what) DO UPDATE SET items = items + excluded.items, bytes = bytes + excluded.bytes;
END;
CREATE TRIGGER agent_memory_changed AFTER UPDATE ON agent_memory BEGIN
    UPDATE kept SET items = items - 1, bytes = bytes - old.bytes WHERE agent_id = old.agent_id AND what = 'memory';
    INSERT INTO kept (agent_id, what, items, bytes) VALUES (new.agent_id, 'memory', 1, new.bytes)
    ON CONFLICT (agent_id, what) DO UPDATE SET items = items + excluded.items, bytes = bytes + excluded.bytes;
END;
CREATE TRIGGER agent_memory_removed AFTER DELETE ON agent_memory BEGIN
    UPDATE kept SET items = items - 1, bytes = bytes - old.bytes WHERE agent_id = old.agent_id AND what = 'memory';
END;

CREATE TRIGGER ephemeral_memory_added AFTER INSERT ON ephemeral_memory BEGIN
    INSERT INTO kept (agent_id, what, items, bytes) VALUES (new.agent_id, 'scratch', 1, new.bytes)
    ON CONFLICT (agent_id, what) DO UPDATE SET items = items + excluded.items, bytes = bytes + excluded.bytes;
END;
CREATE TRIGGER ephemeral_memory_changed AFTER UPDATE ON ephemeral_memory BEGIN
    UPDATE kept SET items = items - 1, bytes = bytes - old.bytes WHERE agent_id = old.agent_id AND what = 'scratch';
    INSERT INTO kept (agent_id, what, items, bytes) VALUES (new.agent_id, 'scratch', 1, new.bytes)
    ON CONFLICT (agent_id, what) DO UPDATE SET items = items + excluded.items, bytes = bytes + excluded.bytes;
END;
CREATE TRIGGER ephemeral_memory_removed AFTER DELETE ON ephemeral_memory BEGIN
    UPDATE kept SET items = items - 1, bytes = bytes - old.bytes WHERE agent_id = old.agent_id AND what = 'scratch';
END;

-- An observation is never changed, and its parts are short: only their number counts.
CREATE TRIGGER content_trends_added AFTER INSERT ON content_trends BEGIN
    INSERT INTO kept (agent_id, what, items, bytes) VALUES (new.agent_id, 'trends', 1, 0)
    ON CONFLICT (agent_id, what) DO UPDATE SET items = items + excluded.items;
END;
CREATE TRIGGER content_trends_removed AFTER DELETE ON content_trends BEGIN
    UPDATE kept SET items = items - 1 WHERE agent_id = old.agent_id AND what = 'trends';
END;
