CREATE TABLE IF NOT EXISTS cliffracer_api_keys (
    id text PRIMARY KEY,
    name text NOT NULL,
    subject text NOT NULL,
    roles text[] NOT NULL DEFAULT '{}',
    permissions text[] NOT NULL DEFAULT '{}',
    hash text NOT NULL,
    previous text,
    previous_until timestamp with time zone,
    created_at timestamp with time zone NOT NULL DEFAULT now(),
    expires_at timestamp with time zone,
    last_used_at timestamp with time zone,
    revoked_at timestamp with time zone
)
