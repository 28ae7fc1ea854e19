"""Several steps as one compiled graph."""
