"""Who calls and what they may do: tokens, rules on handlers, and the one place that enforces them."""
