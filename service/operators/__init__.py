"""What operators do to cells while they serve."""
