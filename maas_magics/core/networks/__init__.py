"""Modules of the user's own: built, run, and explained where they fail; layers of ours."""
