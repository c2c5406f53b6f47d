import platform
import subprocess
import sys

import pytest

# Large arrays come and go between small ones that stay, as a cell's do. Prints the MiB that stay with them.
_PROGRAM = """
import numpy as np, psutil
from service.inference.allocator import give_back_large_arrays

if {given_back}:
    give_back_large_arrays()
resident = lambda: psutil.Process().memory_info().rss / 2**20
np.ones(2**24, np.uint8)  # freed at once, a hint to keep such
before = resident()
large, small = zip(*((np.ones(2**23, np.uint8), np.ones(2**16, np.uint8)) for _ in range(16)))
del large
print(resident() - before)
"""


def _left(given_back: bool) -> float:
    program = _PROGRAM.format(given_back=given_back)
    return float(subprocess.run([sys.executable, "-c", program], check=True, capture_output=True, text=True).stdout)


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="only glibc keeps them")
def test_large_arrays_go_back_to_the_system() -> None:
    assert _left(given_back=False) > 64  # of 128: else this would tell nothing
    assert _left(given_back=True) < 16
