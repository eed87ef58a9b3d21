-- One dialect for SQLite and PostgreSQL: TEXT, BIGINT, BLOB (BYTEA there), times in milliseconds since the Unix epoch.
-- Digests are 32 bytes; a certificate's key is a byte for its kind, and 32 bytes (Ed25519) or 65 (P-256). Numbers of
-- rounds and attempts count from 1, `seq` counts from 0.

CREATE TABLE principals (
    id                TEXT   NOT NULL PRIMARY KEY,
    role              TEXT   NOT NULL,
    verifying_key     BLOB   NOT NULL UNIQUE CHECK (length(verifying_key) IN (33, 66)),
    certificate_chain BLOB   NOT NULL,
    fingerprint       BLOB   NOT NULL UNIQUE CHECK (length(fingerprint) = 32),
    not_after         BIGINT NOT NULL,
    enrolled_at       BIGINT NOT NULL,
    last_seen         BIGINT
);

-- The token itself is nowhere: whoever steals this table cannot join with it.
CREATE TABLE join_tokens (
    hash       BLOB   NOT NULL PRIMARY KEY CHECK (length(hash) = 32),
    principal  TEXT   NOT NULL,
    role       TEXT   NOT NULL,
    expires_at BIGINT NOT NULL,
    created_by TEXT   NOT NULL,
    created_at BIGINT NOT NULL,
    used_at    BIGINT
);

-- No reference to `tasks`: one model may start many tasks, and is recorded before the first of them.
CREATE TABLE models (
    digest     BLOB   NOT NULL PRIMARY KEY CHECK (length(digest) = 32),
    task       TEXT,
    bytes      BIGINT NOT NULL CHECK (bytes >= 0),
    created_at BIGINT NOT NULL
);

CREATE TABLE tasks (
    id            TEXT   NOT NULL PRIMARY KEY,
    name          TEXT   NOT NULL,
    policy_json   TEXT   NOT NULL,
    policy_digest BLOB   NOT NULL CHECK (length(policy_digest) = 32),
    model         BLOB   NOT NULL CHECK (length(model) = 32),
    model_len     BIGINT NOT NULL CHECK (model_len >= 0),
    next_round    BIGINT NOT NULL CHECK (next_round >= 1),
    state         TEXT   NOT NULL CHECK (state IN ('active', 'complete', 'halted')),
    reason        TEXT,
    created_at    BIGINT NOT NULL,
    updated_at    BIGINT NOT NULL
);
CREATE INDEX tasks_by_state ON tasks (state, id);

CREATE TABLE rounds (
    task         TEXT   NOT NULL REFERENCES tasks (id),
    number       BIGINT NOT NULL CHECK (number >= 1),
    state        TEXT   NOT NULL CHECK (state IN ('waiting', 'collecting', 'aggregating', 'complete', 'failed')),
    attempt      BIGINT NOT NULL CHECK (attempt >= 0),
    model        BLOB   NOT NULL CHECK (length(model) = 32),
    release_json TEXT,
    new_model    BLOB   CHECK (length(new_model) = 32),
    reason       TEXT,
    started_at   BIGINT NOT NULL,
    ended_at     BIGINT,
    PRIMARY KEY (task, number)
);
CREATE INDEX rounds_by_state ON rounds (state, task, number);

CREATE TABLE attempts (
    task        TEXT   NOT NULL,
    round       BIGINT NOT NULL,
    attempt     BIGINT NOT NULL CHECK (attempt >= 1),
    state       TEXT   NOT NULL CHECK (state IN ('open', 'complete', 'abandoned')),
    model       BLOB   NOT NULL CHECK (length(model) = 32),
    cohort_json TEXT   NOT NULL,
    reason      TEXT,
    -- 1 from the moment on at which shares may have been revealed.
    reveals     BIGINT NOT NULL DEFAULT 0 CHECK (reveals IN (0, 1)),
    started_at  BIGINT NOT NULL,
    ended_at    BIGINT,
    PRIMARY KEY (task, round, attempt),
    FOREIGN KEY (task, round) REFERENCES rounds (task, number)
);
CREATE INDEX attempts_by_model ON attempts (task, model, reveals);

-- The journal: what an attempt was told, in order. Replaying it gives the state of the attempt back.
CREATE TABLE events (
    task    TEXT   NOT NULL,
    round   BIGINT NOT NULL,
    attempt BIGINT NOT NULL,
    seq     BIGINT NOT NULL CHECK (seq >= 0),
    kind    BIGINT NOT NULL,
    sender  TEXT,
    body    BLOB   NOT NULL,
    at      BIGINT NOT NULL,
    PRIMARY KEY (task, round, attempt, seq),
    FOREIGN KEY (task, round, attempt) REFERENCES attempts (task, round, attempt)
);

-- A holder said, in that attempt first, that the shares of a dealer do not open: one of the two is corrupt.
CREATE TABLE disputes (
    task    TEXT   NOT NULL,
    dealer  TEXT   NOT NULL,
    holder  TEXT   NOT NULL,
    round   BIGINT NOT NULL,
    attempt BIGINT NOT NULL,
    PRIMARY KEY (task, dealer, holder),
    FOREIGN KEY (task, round, attempt) REFERENCES attempts (task, round, attempt)
);

-- Found to be corrupt, in that attempt first: in no more cohorts of the task.
CREATE TABLE culprits (
    task    TEXT   NOT NULL,
    id      TEXT   NOT NULL,
    round   BIGINT NOT NULL,
    attempt BIGINT NOT NULL,
    reason  TEXT   NOT NULL,
    PRIMARY KEY (task, id),
    FOREIGN KEY (task, round, attempt) REFERENCES attempts (task, round, attempt)
);

-- Whether the commitments of a group's survivors open to what the group's sum came to. Names are one per line, in order.
CREATE TABLE checks (
    task         TEXT   NOT NULL,
    round        BIGINT NOT NULL,
    attempt      BIGINT NOT NULL,
    group_number BIGINT NOT NULL CHECK (group_number >= 0),
    passed       BIGINT NOT NULL CHECK (passed IN (0, 1)),
    members      TEXT   NOT NULL,
    PRIMARY KEY (task, round, attempt, group_number),
    FOREIGN KEY (task, round, attempt) REFERENCES attempts (task, round, attempt)
);

-- Whose input was refused in an attempt, because its proof shows nothing.
CREATE TABLE refusals (
    task    TEXT   NOT NULL,
    round   BIGINT NOT NULL,
    attempt BIGINT NOT NULL,
    id      TEXT   NOT NULL,
    reason  TEXT   NOT NULL,
    PRIMARY KEY (task, round, attempt, id),
    FOREIGN KEY (task, round, attempt) REFERENCES attempts (task, round, attempt)
);

-- What the registrar has signed, where it lives beside the coordinator: of each attempt, by the digest of its context, one
-- roster, and one survivor list of it. Nothing here is ever changed or deleted.
CREATE TABLE registrar_signed (
    context   BLOB NOT NULL PRIMARY KEY CHECK (length(context) = 32),
    roster    BLOB NOT NULL,
    survivors BLOB
);

-- `status` and `body` are absent while the request is being executed.
CREATE TABLE idempotency_keys (
    principal      TEXT   NOT NULL,
    key            TEXT   NOT NULL,
    request_digest BLOB   NOT NULL CHECK (length(request_digest) = 32),
    status         BIGINT,
    body           BLOB,
    created_at     BIGINT NOT NULL,
    PRIMARY KEY (principal, key)
);
CREATE INDEX idempotency_keys_by_age ON idempotency_keys (created_at);
