"""Where versions of cells are kept: a directory or Redis."""
