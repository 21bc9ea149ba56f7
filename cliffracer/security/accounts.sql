CREATE TABLE IF NOT EXISTS cliffracer_accounts (
    id uuid PRIMARY KEY,
    username text NOT NULL UNIQUE,
    password text NOT NULL,
    roles text[] NOT NULL DEFAULT '{}',
    permissions text[] NOT NULL DEFAULT '{}',
    disabled boolean NOT NULL DEFAULT false,
    created_at timestamp with time zone NOT NULL DEFAULT now()
);
CREATE TABLE IF NOT EXISTS cliffracer_sessions (
    id text PRIMARY KEY,
    account uuid NOT NULL REFERENCES cliffracer_accounts ON DELETE CASCADE,
    refresh text NOT NULL,
    expires_at timestamp with time zone NOT NULL
);
CREATE INDEX IF NOT EXISTS cliffracer_sessions_account ON cliffracer_sessions (account);
CREATE INDEX IF NOT EXISTS cliffracer_sessions_ends ON cliffracer_sessions (expires_at);
CREATE TABLE IF NOT EXISTS cliffracer_attempts (
    key text PRIMARY KEY,
    began_at timestamp with time zone NOT NULL DEFAULT now(),
    tried integer NOT NULL DEFAULT 1
);
CREATE INDEX IF NOT EXISTS cliffracer_attempts_began ON cliffracer_attempts (began_at);
