"""Files of fingerprints in foreign formats: their variables by name."""
