"""The resources that a city needs: ``python -m benchmarks.sizing --cells 10000 --locations 100000``.

Every input is an option. Defaults are measurements in ``benchmarks/results`` (`replica_cost`, `serving`), or choices
that the first line of the output names. Use the figures of your own machines.
"""

from __future__ import annotations

import argparse
from dataclasses import fields, replace

from benchmarks.sizing.city import COLUMNS, Inputs, assumptions, needs_of


def main() -> None:
    parser = argparse.ArgumentParser(description="Computes the resources of a city from measurements.")
    for field in fields(Inputs):
        kind = int if field.type == "int" else float
        parser.add_argument(f"--{field.name.replace('_', '-')}", type=kind, default=argparse.SUPPRESS)
    said = vars(parser.parse_args())
    columns = [(name, replace(Inputs.measured(*way), **said)) for name, way in COLUMNS.items()]
    print(f"{assumptions(columns[0][1])}.\n\n{needs_of(columns)}")


if __name__ == "__main__":
    main()
