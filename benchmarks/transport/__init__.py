"""The transport alone against plain nats-py: ``python -m benchmarks.transport``."""
