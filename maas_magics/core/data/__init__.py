"""From whatever a notebook holds to tensors, and from outputs back to answers."""
