"""What every route shares: problems, media types, body limits, health, the docs page."""
