"""Everything that speaks NATS."""
