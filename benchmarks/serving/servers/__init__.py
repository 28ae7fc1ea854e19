"""What runs in the peers' own interpreters."""
