"""The IPython extension: a cell that is a run, and cards of what it came to."""
