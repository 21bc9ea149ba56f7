"""Real servers and bad networks for the tests."""
