"""Fitting: what a step does, when it stops, and what is kept."""
