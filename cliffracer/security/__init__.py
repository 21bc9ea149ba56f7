"""Authentication and authorization: tokens, rules on handlers, and the one place that enforces them."""
