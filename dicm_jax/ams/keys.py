"""Keys that stand for something else than a row, and the name of the first feature table."""

NO_ROW = -1
"""A key without a row: its place is filled by the vector that the model learns for that case."""
PADDING = -2
"""No key at all: its place is filled with zeros."""

IMAGE = "image"
"""Name of the table of images; other content has names of its own."""
