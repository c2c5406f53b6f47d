"""Towns whose geometry a test knows."""

import numpy as np
from numpy.typing import NDArray


class Avenue:
    """A hillside town of one east-west avenue, ``width`` metres wide, between endless buildings."""

    def __init__(self, width: float, fog: float = np.inf) -> None:
        self.width, self.fog = width, fog

    def bounds(self) -> NDArray[np.float64]:
        return np.array([[-500.0, -300.0], [500.0, 300.0]])

    def ground(self, xy: NDArray[np.float64]) -> tuple[NDArray[np.float64], NDArray[np.bool_]]:
        street = np.abs(xy[:, 1]) < self.width / 2
        return np.where(street, 0.05 * xy[:, 0], 20.0), street

    def visible(self, origin: NDArray[np.float64], points: NDArray[np.float64]) -> NDArray[np.bool_]:
        return np.linalg.norm(points - origin, axis=1) < self.fog
