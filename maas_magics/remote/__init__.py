"""A backend on another process or machine, spoken to over HTTP."""
