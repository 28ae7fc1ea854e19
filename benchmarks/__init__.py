"""What the package costs and what it saves, measured beside others; see README.md."""
