"""What a model reaches on cells that it never saw, under every condition that it is meant for, beside its rivals."""
