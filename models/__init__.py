"""Networks, the radio data they learn from, and the artifacts they become. `models.artifact` alone is torch-free."""
