"""What the client says of the server without importing it, and how answers of later servers are read."""

from typing import get_args

from fingerpost import wire, wire_cells, wire_fingerprints
from reference_db import cell_id, fingerprint_arrays, manifest


def test_the_client_knows_the_limits_and_names_of_the_reference_database() -> None:
    assert wire.CELL_ID_PATTERN == cell_id.CELL_ID_PATTERN
    assert wire_fingerprints.DEFAULT_SIGMA == fingerprint_arrays.DEFAULT_SIGMA
    assert get_args(wire_cells.ModelPolicy) == get_args(manifest.ModelPolicy)
