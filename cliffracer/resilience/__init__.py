"""Resilience: limits, deadlines, retries, circuit breakers, fallbacks."""
