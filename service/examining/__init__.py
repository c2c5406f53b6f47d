"""A process of its own that indexes versions of cells and measures how well users are located in them."""
