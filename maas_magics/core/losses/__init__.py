"""What the loss of a module wants: its target, the outputs it is least at, and what they are taken for."""
