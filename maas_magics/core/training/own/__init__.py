"""Networks of the user's own: made, traced, and handed on as graphs or source."""
