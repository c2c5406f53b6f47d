import tempfile
from collections.abc import Callable
from typing import get_args

import numpy as np
import pytest
from safetensors.numpy import load

from reference_db import Cell, Contents, Fingerprints, Origin, append_fingerprints, delete_fingerprints, replace_cell
from reference_db.cell_description import read_description
from reference_db.exporting import FileFormat, export_fingerprints
from reference_db.fingerprint_file import FingerprintFile


@pytest.fixture
def contents(cell: Cell, make_fingerprints: Callable[..., Fingerprints], origin: Origin) -> Contents:
    """Two segments; one fingerprint of the first is deleted."""
    first = replace_cell(None, cell, make_fingerprints(), origin).contents
    second = append_fingerprints(first, make_fingerprints(seed=1), origin).contents
    return delete_fingerprints(second, np.arange(len(second)) == 3, origin).contents


@pytest.mark.parametrize("file_format", get_args(FileFormat))
def test_importing_an_export_gives_the_same_ids(contents: Contents, origin: Origin, file_format: FileFormat) -> None:
    with tempfile.TemporaryFile() as file:
        export_fingerprints(contents, file, file_format)
        read = FingerprintFile.read(file)
    assert read.cell == contents.manifest.cell
    again = replace_cell(None, read.cell, read.fingerprints(read.cell), origin).contents
    np.testing.assert_array_equal(again.ids, contents.ids)


def test_the_official_readers_can_read_the_files(contents: Contents) -> None:
    with tempfile.TemporaryFile() as file:
        export_fingerprints(contents, file, "safetensors")
        file.seek(0)
        arrays = load(file.read())
    with tempfile.TemporaryFile() as file:
        export_fingerprints(contents, file, "npz")
        file.seek(0)
        with np.load(file, allow_pickle=False) as packed:
            assert read_description(str(packed["cell"])) == contents.manifest.cell
            assert set(packed) == {*arrays, "cell"}
            for name, array in arrays.items():
                np.testing.assert_array_equal(packed[name], array)
    np.testing.assert_array_equal(arrays["positions"], contents.positions)
