"""Ways to train that are tried on real steps, and undone to the bit."""
