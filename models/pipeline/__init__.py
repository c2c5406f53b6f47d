"""What every model family shares: recipe, learner, experiment, export, card, tables."""
