"""What a city needs, by arithmetic: ``python -m benchmarks.sizing --cells 10000 --locations 100000``.

Any input may be said by its name. What is not said was measured and lies in ``benchmarks/results`` (`replica_cost`,
`serving`), or is a choice that the first line names. Put in what your own machines measured.
"""

from __future__ import annotations

import argparse
from dataclasses import fields, replace

from benchmarks.sizing.city import COLUMNS, Inputs, assumptions, needs_of


def main() -> None:
    parser = argparse.ArgumentParser(description="What a city needs, from what was measured.")
    for field in fields(Inputs):
        kind = int if field.type == "int" else float
        parser.add_argument(f"--{field.name.replace('_', '-')}", type=kind, default=argparse.SUPPRESS)
    said = vars(parser.parse_args())
    columns = [(name, replace(Inputs.measured(*way), **said)) for name, way in COLUMNS.items()]
    print(f"{assumptions(columns[0][1])}.\n\n{needs_of(columns)}")


if __name__ == "__main__":
    main()
