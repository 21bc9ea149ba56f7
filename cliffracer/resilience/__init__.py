"""What keeps a service up when there is too much, too late or too broken."""
