"""Radio data: the sites of cells, the paths between a base station and its users, and the CSI from these paths."""
