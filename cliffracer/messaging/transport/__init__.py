"""The way to NATS: one interface (`Bus`), two implementations of it, `fast` and `stock`."""
