"""Files of rows: where they lie, how their text is written, and one reader for each format."""
