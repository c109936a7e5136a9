-- The truth on PostgreSQL: the nouns, their audit chains, and what is to be relayed.
--
-- Conventions. Moments are milliseconds since the Unix epoch. `body` is the whole noun as JSON and is what the noun is read
-- from; every other column of such a table is derived from it by the same function, for filters, guards and people. Tables
-- without `body` are read from their columns. Text that may hold the character NUL, which PostgreSQL cannot store, is
-- escaped by the program.
--
-- Rows that change often have room beside them on their page (`fillfactor`), and the columns that change most often are in no
-- index, so that a change touches no index where that is possible.

CREATE TABLE agents (
    id          UUID   NOT NULL PRIMARY KEY,
    type        TEXT   NOT NULL,
    -- Hash of the newest token that is not revoked; kept in step with `api_tokens`. Never a token.
    credentials TEXT,
    status      TEXT   NOT NULL,
    last_seen   BIGINT NOT NULL,
    name        TEXT   NOT NULL,
    created_at  BIGINT NOT NULL,
    body        TEXT   NOT NULL
) WITH (fillfactor = 70);

CREATE TABLE api_tokens (
    id         UUID   NOT NULL PRIMARY KEY,
    hash       TEXT   NOT NULL UNIQUE,
    -- Whose token; none for an operator's.
    agent_id   UUID,
    created_at BIGINT NOT NULL,
    revoked_at BIGINT,
    body       TEXT   NOT NULL
);
CREATE INDEX api_tokens_of_agent ON api_tokens (agent_id, created_at) WHERE agent_id IS NOT NULL;

CREATE TABLE campaigns (
    id         UUID   NOT NULL PRIMARY KEY,
    state      TEXT   NOT NULL,
    planner_id TEXT   NOT NULL,
    rev        BIGINT NOT NULL,
    created_at BIGINT NOT NULL,
    updated_at BIGINT NOT NULL,
    body       TEXT   NOT NULL
) WITH (fillfactor = 70);
CREATE INDEX campaigns_by_age ON campaigns (created_at, id);
CREATE INDEX campaigns_by_state ON campaigns (state, created_at, id);

CREATE TABLE plan_steps (
    id          UUID   NOT NULL PRIMARY KEY,
    campaign_id UUID   NOT NULL REFERENCES campaigns (id),
    lineage_id  UUID   NOT NULL,
    state       TEXT   NOT NULL,
    -- No reference: a step and its task name each other.
    task_id     UUID,
    position    BIGINT NOT NULL,
    body        TEXT   NOT NULL
) WITH (fillfactor = 70);
CREATE INDEX plan_steps_of_campaign ON plan_steps (campaign_id, position, id);

CREATE TABLE task_specs (
    id            UUID NOT NULL PRIMARY KEY,
    skill_name    TEXT NOT NULL,
    skill_version TEXT NOT NULL,
    skill_digest  TEXT NOT NULL,
    body          TEXT NOT NULL
);

CREATE TABLE tasks (
    id          UUID             NOT NULL PRIMARY KEY,
    planner_id  TEXT             NOT NULL,
    worker_id   UUID,
    spec_id     UUID             NOT NULL REFERENCES task_specs (id),
    status      TEXT             NOT NULL,
    confidence  DOUBLE PRECISION,
    created_at  BIGINT           NOT NULL,
    updated_at  BIGINT           NOT NULL,
    campaign_id UUID             REFERENCES campaigns (id),
    step_id     UUID             REFERENCES plan_steps (id),
    lineage_id  UUID             NOT NULL,
    priority    SMALLINT         NOT NULL,
    attempt     BIGINT           NOT NULL,
    epoch       BIGINT           NOT NULL,
    lease_id    UUID,
    lease_until BIGINT,
    run_after   BIGINT,
    rev         BIGINT           NOT NULL,
    body        TEXT             NOT NULL
) WITH (fillfactor = 70);
CREATE INDEX tasks_by_age ON tasks (created_at, id);
-- Of the tasks that ended well there are most, and nobody looks for them but by age.
CREATE INDEX tasks_on_their_way ON tasks (status, created_at, id)
    WHERE status IN ('pending', 'queued', 'running', 'judging', 'retry_wait', 'awaiting_approval');
CREATE INDEX tasks_ended_badly ON tasks (status, created_at, id) WHERE status IN ('rejected', 'failed', 'cancelled');
CREATE INDEX tasks_of_campaign ON tasks (campaign_id, created_at, id) WHERE campaign_id IS NOT NULL;
CREATE INDEX tasks_waiting ON tasks (run_after) WHERE status = 'retry_wait';

-- One hash chain per campaign, and one called `system`. Rows are only ever added.
CREATE TABLE audit_logs (
    task_id       UUID,
    action        TEXT   NOT NULL,
    agent_id      TEXT   NOT NULL,
    timestamp     BIGINT NOT NULL,
    review_status TEXT   NOT NULL,
    chain         TEXT   NOT NULL,
    seq           BIGINT NOT NULL,
    prev_hash     TEXT   NOT NULL,
    hash          TEXT   NOT NULL,
    detail        TEXT   NOT NULL,
    PRIMARY KEY (chain, seq)
);
CREATE INDEX audit_logs_of_task ON audit_logs (task_id, seq) WHERE task_id IS NOT NULL;

-- Where each chain ends, written with the events: events that are removed from the end of a chain are missed. Whoever
-- appends to a chain holds its row.
CREATE TABLE audit_heads (
    chain TEXT   NOT NULL PRIMARY KEY,
    seq   BIGINT NOT NULL,
    hash  TEXT   NOT NULL
) WITH (fillfactor = 50);

-- Every MCP call that spends, against its budget. `amount` is in the currency's smallest unit.
CREATE TABLE transactions (
    id        UUID   NOT NULL PRIMARY KEY,
    type      TEXT   NOT NULL,
    amount    BIGINT NOT NULL,
    currency  TEXT   NOT NULL,
    status    TEXT   NOT NULL,
    timestamp BIGINT NOT NULL
);

CREATE TABLE outbox (
    id            UUID     NOT NULL PRIMARY KEY,
    topic         TEXT     NOT NULL,
    priority      SMALLINT NOT NULL,
    available_at  BIGINT   NOT NULL,
    created_at    BIGINT   NOT NULL,
    -- Not part of the noun, and in no index: until when the row belongs to whoever claimed it.
    claimed_until BIGINT,
    body          TEXT     NOT NULL
) WITH (fillfactor = 50, autovacuum_vacuum_scale_factor = 0, autovacuum_vacuum_threshold = 10000);
CREATE INDEX outbox_due ON outbox (topic, priority DESC, created_at, id);

-- Transport of ready tasks where no Redis is: it may be emptied at any time, and is filled again from `tasks`. `number` is
-- drawn anew whenever a task is put on it, and `claims` counts up, so that a receipt names one claim. Neither `claims` nor
-- `visible_at` is in an index.
CREATE TABLE task_queue (
    planner_id TEXT     NOT NULL,
    task_id    UUID     NOT NULL,
    priority   SMALLINT NOT NULL,
    number     BIGINT   NOT NULL GENERATED ALWAYS AS IDENTITY,
    claims     BIGINT   NOT NULL DEFAULT 0,
    -- When it may be claimed again; none if nobody has claimed it.
    visible_at BIGINT,
    PRIMARY KEY (planner_id, task_id)
) WITH (fillfactor = 50, autovacuum_vacuum_scale_factor = 0, autovacuum_vacuum_threshold = 10000);
CREATE INDEX task_queue_order ON task_queue (planner_id, priority DESC, number);

CREATE TABLE journal (
    task_id UUID   NOT NULL,
    epoch   BIGINT NOT NULL,
    ordinal BIGINT NOT NULL,
    call    TEXT   NOT NULL,
    request TEXT   NOT NULL,
    answer  TEXT   NOT NULL,
    PRIMARY KEY (task_id, epoch, ordinal)
) PARTITION BY RANGE (task_id);
-- Ids that are drawn in time order, as the program draws them, are kept by the week, in partitions that the program makes
-- and drops whole (`history`). Whatever else an id is, it is here.
CREATE TABLE journal_others PARTITION OF journal DEFAULT;

CREATE TABLE effects (
    id             UUID   NOT NULL PRIMARY KEY,
    lineage        UUID   NOT NULL,
    ordinal        BIGINT NOT NULL,
    tool           TEXT   NOT NULL,
    arguments_hash TEXT   NOT NULL,
    task_id        UUID   NOT NULL,
    attempt        BIGINT NOT NULL,
    state          TEXT   NOT NULL,
    created_at     BIGINT NOT NULL,
    updated_at     BIGINT NOT NULL,
    body           TEXT   NOT NULL,
    UNIQUE (lineage, ordinal, tool, arguments_hash)
) WITH (fillfactor = 70);

CREATE TABLE approvals (
    id          UUID   NOT NULL PRIMARY KEY,
    campaign_id UUID,
    task_id     UUID,
    kind        TEXT   NOT NULL,
    state       TEXT   NOT NULL,
    deadline    BIGINT NOT NULL,
    created_at  BIGINT NOT NULL,
    body        TEXT   NOT NULL
);
CREATE INDEX approvals_by_age ON approvals (created_at, id);
CREATE INDEX approvals_by_state ON approvals (state, deadline);
CREATE INDEX approvals_of_campaign ON approvals (campaign_id, created_at) WHERE campaign_id IS NOT NULL;

-- A grant permits a slot of a server, or a call of another skill; and it may end by itself.
CREATE TABLE grants (
    id         UUID   NOT NULL PRIMARY KEY,
    skill      TEXT   NOT NULL,
    -- Of a grant of a slot.
    slot       TEXT,
    server     TEXT,
    -- Of a grant of a call: the skill that is called, and which of its versions.
    callee     TEXT,
    version    TEXT,
    granted_at BIGINT NOT NULL,
    expires_at BIGINT,
    revoked_at BIGINT,
    body       TEXT   NOT NULL,
    CHECK ((slot IS NULL) = (server IS NULL) AND (callee IS NULL) = (version IS NULL)),
    CHECK ((slot IS NULL) <> (callee IS NULL))
);
CREATE INDEX grants_of_skill ON grants (skill, granted_at, id);

CREATE TABLE skills (
    name       TEXT   NOT NULL PRIMARY KEY,
    created_at BIGINT NOT NULL
);

CREATE TABLE skill_versions (
    name         TEXT   NOT NULL REFERENCES skills (name),
    version      TEXT   NOT NULL,
    digest       TEXT   NOT NULL,
    state        TEXT   NOT NULL,
    installed_at BIGINT NOT NULL,
    body         TEXT   NOT NULL,
    PRIMARY KEY (name, version)
);

-- The bytes of components, by their digest.
CREATE TABLE blobs (
    digest     TEXT   NOT NULL PRIMARY KEY,
    created_at BIGINT NOT NULL,
    bytes      BYTEA  NOT NULL
);
-- They are compressed by nobody: it would cost time at every read, and components hardly get smaller.
ALTER TABLE blobs ALTER COLUMN bytes SET STORAGE EXTERNAL;

-- Which version of a skill new work gets. What a version on trial has done so far is in columns of its own, which count up in
-- any order and move no `rev`; they take the place of what `body` says of it.
CREATE TABLE skill_routes (
    name            TEXT   NOT NULL PRIMARY KEY REFERENCES skills (name),
    active          TEXT,
    canary          TEXT,
    canary_runs     BIGINT,
    canary_failures BIGINT,
    rev             BIGINT NOT NULL,
    updated_at      BIGINT NOT NULL,
    body            TEXT   NOT NULL
) WITH (fillfactor = 50);

-- The last hour of an agent. `bytes` counts key and value.
CREATE TABLE ephemeral_memory (
    agent_id   UUID   NOT NULL,
    key        TEXT   NOT NULL,
    expires_at BIGINT NOT NULL,
    bytes      BIGINT NOT NULL,
    value      TEXT   NOT NULL,
    PRIMARY KEY (agent_id, key)
);
CREATE INDEX ephemeral_memory_expiry ON ephemeral_memory (expires_at);

CREATE TABLE content_trends (
    id          UUID             NOT NULL PRIMARY KEY,
    agent_id    UUID             NOT NULL,
    topic       TEXT             NOT NULL,
    weight      DOUBLE PRECISION NOT NULL,
    source      TEXT             NOT NULL,
    observed_at BIGINT           NOT NULL
);
CREATE INDEX content_trends_window ON content_trends (observed_at, topic, weight);
CREATE INDEX content_trends_of_agent ON content_trends (agent_id, observed_at, id);

-- `bytes` counts text and metadata.
CREATE TABLE agent_memory (
    id         UUID   NOT NULL PRIMARY KEY,
    agent_id   UUID   NOT NULL,
    created_at BIGINT NOT NULL,
    bytes      BIGINT NOT NULL,
    body       TEXT   NOT NULL
);
CREATE INDEX agent_memory_of_agent ON agent_memory (agent_id, created_at, id);

-- How much each agent keeps of `memory`, `scratch` and `trends`, so that limits are held without counting rows. Written
-- by the triggers below and by nothing else.
CREATE TABLE kept (
    agent_id UUID   NOT NULL,
    what     TEXT   NOT NULL,
    items    BIGINT NOT NULL,
    bytes    BIGINT NOT NULL,
    PRIMARY KEY (agent_id, what)
) WITH (fillfactor = 50);

-- Its argument is what is counted.
CREATE FUNCTION count_kept() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    IF TG_OP <> 'INSERT' THEN
        UPDATE kept SET items = kept.items - 1, bytes = kept.bytes - OLD.bytes
        WHERE agent_id = OLD.agent_id AND what = TG_ARGV[0];
    END IF;
    IF TG_OP <> 'DELETE' THEN
        INSERT INTO kept AS k (agent_id, what, items, bytes) VALUES (NEW.agent_id, TG_ARGV[0], 1, NEW.bytes)
        ON CONFLICT (agent_id, what) DO UPDATE SET items = k.items + 1, bytes = k.bytes + excluded.bytes;
    END IF;
    RETURN NULL;
END $$;
CREATE TRIGGER agent_memory_kept AFTER INSERT OR UPDATE OR DELETE ON agent_memory
    FOR EACH ROW EXECUTE FUNCTION count_kept('memory');
CREATE TRIGGER ephemeral_memory_kept AFTER INSERT OR UPDATE OR DELETE ON ephemeral_memory
    FOR EACH ROW EXECUTE FUNCTION count_kept('scratch');

-- An observation is never changed, and its parts are short: only their number counts.
CREATE FUNCTION count_trends() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    IF TG_OP = 'INSERT' THEN
        INSERT INTO kept AS k (agent_id, what, items, bytes) VALUES (NEW.agent_id, 'trends', 1, 0)
        ON CONFLICT (agent_id, what) DO UPDATE SET items = k.items + 1;
    ELSE
        UPDATE kept SET items = kept.items - 1 WHERE agent_id = OLD.agent_id AND what = 'trends';
    END IF;
    RETURN NULL;
END $$;
CREATE TRIGGER content_trends_kept AFTER INSERT OR DELETE ON content_trends
    FOR EACH ROW EXECUTE FUNCTION count_trends();

-- Every process keeps the few rows that say which skills there are: it is told when they change. What a version on trial
-- has done is not among them. The program says what the text means (`hints`).
CREATE FUNCTION tell_of_skill() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    PERFORM pg_notify('chimera', '- skill:' || coalesce(NEW.name, OLD.name) || ' ' || TG_TABLE_SCHEMA);
    RETURN NULL;
END $$;
CREATE TRIGGER skill_versions_told AFTER INSERT OR UPDATE OR DELETE ON skill_versions
    FOR EACH ROW EXECUTE FUNCTION tell_of_skill();
CREATE TRIGGER skill_routes_told AFTER INSERT OR UPDATE OF body OR DELETE ON skill_routes
    FOR EACH ROW EXECUTE FUNCTION tell_of_skill();
