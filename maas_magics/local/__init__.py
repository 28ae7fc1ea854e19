"""Runs the core in this process."""
