"""One training on several processes, each of which takes its share of the rows of every step."""
