"""Modules of the user's own: built, asked, and understood where they fail; layers of ours."""
