"""Answers in several passes: many of them stepped at once."""
