"""What every model family shares: learner, recipe, experiment, tables."""
