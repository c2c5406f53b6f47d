"""The errors and ellipses of several cells' users, pooled: of all users, in and out of line of sight."""

from __future__ import annotations

from collections.abc import Callable
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from models.mateformer.conditions import Condition
from models.mateformer.evaluation import KNN, CellErrors, Ellipses, Errors, Located

BEST_KNN = "best knn"
ALL_LOS_SHARE = 0.99  # cells with at least this share of users in line of sight

Part = Literal["all", "los", "nlos", "all_los"]
PARTS: dict[Part, str] = {
    "los": "LOS users",
    "nlos": "NLOS users",
    "all_los": f"cells with {100 * ALL_LOS_SHARE:g} % LOS",
}

_Floats = NDArray[np.float32]


def best_knn(errors: Errors) -> str | None:
    """The kNN with the smallest mean error. The choice has hindsight, in favour of kNN."""
    rivals = [name for name in errors if name.startswith(KNN)]
    return min(rivals, key=lambda name: errors[name].mean(), default=None)


def pool_errors(cells: list[CellErrors], condition: Condition, method: str, part: Part = "all") -> _Floats | None:
    """The errors in metres of the part's users of all cells, or None if not measured. "best knn" is chosen per cell."""

    def errors_of(located: Located) -> _Floats | None:
        name = best_knn(located.errors) if method == BEST_KNN else method
        return None if name is None else located.errors.get(name)

    return _pool(cells, condition, part, errors_of)


def pool_ellipses(cells: list[CellErrors], condition: Condition, part: Part = "all") -> Ellipses | None:
    """None if not measured, or if the locator predicts none."""
    squared = _pool(cells, condition, part, lambda located: located.ellipses.squared)
    area = _pool(cells, condition, part, lambda located: located.ellipses.area)
    return None if squared is None or area is None or np.isnan(area).any() else Ellipses(squared, area)


def _pool(
    cells: list[CellErrors], condition: Condition, part: Part, values_of: Callable[[Located], _Floats | None]
) -> _Floats | None:
    pooled = []
    for located in select_measured(cells, condition):
        values = values_of(located)
        if values is None:
            return None
        pooled.append(values[_select(located.line_of_sight, part, len(values))])
    return np.concatenate(pooled) if pooled else None


def select_measured(cells: list[CellErrors], condition: Condition) -> list[Located]:
    """The users of the cells that were measured under this condition."""
    return [cell.located[condition] for cell in cells if condition in cell.located]


def _select(line_of_sight: NDArray[np.bool_] | None, part: Part, users: int) -> NDArray[np.bool_]:
    if part == "all":
        return np.ones(users, np.bool_)
    if line_of_sight is None:
        return np.zeros(users, np.bool_)
    match part:
        case "los":
            return line_of_sight
        case "nlos":
            return ~line_of_sight
        case "all_los":
            return np.full(users, line_of_sight.mean() >= ALL_LOS_SHARE)
