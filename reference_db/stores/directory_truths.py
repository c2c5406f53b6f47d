"""The file in which a directory keeps the counts of a cell's truths.

{"counts": {<group>: {<name>: <amount>}}, "remembered": [<name of a truth>, ...]}
"""

import json
from collections import defaultdict
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from reference_db.durable_file import write_durably
from reference_db.errors import CorruptTruths
from reference_db.truths import MOST_GROUPS, MOST_REMEMBERED, ScoredTruth, TruthCounts, TruthGroup


def add_truths(path: Path, truths: Sequence[ScoredTruth]) -> list[bool]:
    """Counts truths in the file, which is replaced as a whole; whether each was counted. Call with the cell's lock.

    Raises `CorruptTruths` or `OSError`.
    """
    kept, remembered = _read(path)
    counts = defaultdict(TruthCounts, kept)
    known = set(remembered)
    counted = []
    for one in truths:
        counted.append(one.name not in known)
        if counted[-1]:
            counts[one.group] += TruthCounts.of(one)
            known.add(one.name)
            remembered.append(one.name)
    if any(counted):
        newest = sorted(counts, key=str)[-MOST_GROUPS:]
        stored = {
            "counts": {str(group): counts[group].amounts() for group in newest},
            "remembered": remembered[-MOST_REMEMBERED:],
        }
        write_durably(path, json.dumps(stored).encode())
    return counted


def read_truths(path: Path) -> dict[TruthGroup, TruthCounts]:
    """Raises `CorruptTruths` or `OSError`."""
    return _read(path)[0]


def _read(path: Path) -> tuple[dict[TruthGroup, TruthCounts], list[str]]:
    try:
        stored: Any = json.loads(path.read_bytes())
        counts = {
            TruthGroup.from_name(name): TruthCounts.from_amounts(amounts) for name, amounts in stored["counts"].items()
        }
        return counts, list(stored["remembered"])
    except FileNotFoundError:
        return {}, []
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise CorruptTruths(f"the truths of cell {path.parent.name!r} cannot be read") from error
