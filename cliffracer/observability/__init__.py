"""What a service shows of itself: logs, figures, traces."""
