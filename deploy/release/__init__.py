"""``make release``: builds the files of a release, twice and byte for byte the same, and tries them as users do."""
