"""The engine: data, training, export and inference. Knows no notebook and no HTTP."""
