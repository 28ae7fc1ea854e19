"""The model service: any backend over HTTP."""
