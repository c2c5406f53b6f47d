"""The experiments of the ALLoc paper: every rival on the same streets, users and splits."""
