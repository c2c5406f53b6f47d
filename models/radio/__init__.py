"""Radio data: where cells stand, the paths between a base station and its users, and the CSI that they make."""
