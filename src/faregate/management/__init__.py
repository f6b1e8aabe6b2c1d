"""The HTTP API: every operation once, for each framework's adapter to mount."""
