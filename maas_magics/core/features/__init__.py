"""What the columns of a model are, fitted on the training rows: the way from raw values to what a network gets."""
