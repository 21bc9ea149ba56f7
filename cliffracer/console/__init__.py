"""A page in the browser that looks at what runs on one NATS and acts on it: `cliffracer console`."""
