"""Ways to train that are tried on real steps, and taken back to the bit."""
