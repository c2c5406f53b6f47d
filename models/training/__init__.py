"""From path tables to trained weights and a report of what they reach."""
