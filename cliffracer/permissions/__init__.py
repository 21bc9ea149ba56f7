"""What a service may do, from what it declares: on NATS, in PostgreSQL, on the network; and what has to be there before it starts."""
