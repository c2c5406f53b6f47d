"""A page for operators, in files that need no building."""
