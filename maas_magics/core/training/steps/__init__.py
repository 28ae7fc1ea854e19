"""A step, and the rules that steps go by."""
