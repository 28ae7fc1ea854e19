"""A network as data: captured by torch, written, checked against a list of operators, and rebuilt. No training."""
