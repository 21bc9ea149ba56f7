"""Load from outside: raw sockets, no client library, so that what is measured is the contestant."""
