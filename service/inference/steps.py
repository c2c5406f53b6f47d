"""Work in steps: a generator that yields before anything that takes long, and returns the result at its end.

The event loop's thread does the first step itself, and leaves the rest to another thread.
"""

from collections.abc import Callable, Generator
from typing import ParamSpec, TypeAlias, TypeVar

P = ParamSpec("P")
R = TypeVar("R")

Steps: TypeAlias = Generator[None, None, R]


def run_to_end(steps: Steps[R]) -> R:
    """What the steps return."""
    while True:
        try:
            next(steps)
        except StopIteration as end:
            result: R = end.value
            return result


def in_one_long_step(work: Callable[P, R]) -> Callable[P, Steps[R]]:
    """`work` in steps, all of it taking long."""

    def steps(*args: P.args, **kwargs: P.kwargs) -> Steps[R]:
        yield
        return work(*args, **kwargs)

    return steps
