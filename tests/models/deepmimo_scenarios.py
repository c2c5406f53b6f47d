"""Scenarios in the format of DeepMIMO 4, written from its specification: one base station, a grid, two paths."""

import json
from pathlib import Path

import numpy as np
from scipy.io import savemat

BS = np.array([[10.0, 20.0, 12.0]], np.float32)
CARRIER, SPEED_OF_LIGHT = 3.5e9, 299_792_458.0
PATHS = 4  # columns; the last ones are empty
PER_PATH = ("power", "phase", "delay", "aod_az", "aod_el", "aoa_az", "aoa_el", "inter")
Matrices = dict[str, np.ndarray]


def make_matrices(columns: int = 6, rows: int = 5) -> Matrices:
    """Receivers every 2 m, west of the station. The first has no path, the second only a reflection."""
    x, y = np.meshgrid(-20.0 + 2 * np.arange(columns), 10.0 + 2 * np.arange(rows))
    rx = np.stack([x.ravel(), y.ravel(), np.full(x.size, 1.5)], axis=1)
    away = rx - BS
    length = np.linalg.norm(away, axis=1)
    made = {name: np.full((len(rx), PATHS), np.nan, np.float32) for name in PER_PATH}
    for path, (extra, code) in enumerate([(0.0, 0), (13.0, 21)]):
        made["power"][:, path] = -20 * np.log10(length + extra) - 40 - 6 * path
        made["phase"][:, path] = (rx[:, 0] * 37 + path * 50) % 360 - 180
        made["delay"][:, path] = (length + extra) / SPEED_OF_LIGHT
        made["aod_az"][:, path] = np.degrees(np.arctan2(away[:, 1], away[:, 0])) % 360 + 5 * path
        made["aod_el"][:, path] = np.degrees(np.arccos(away[:, 2] / length)) - 3 * path
        made["aoa_az"][:, path] = made["aod_az"][:, path] - 180
        made["aoa_el"][:, path] = 180 - made["aod_el"][:, path]
        made["inter"][:, path] = code
    for name in PER_PATH:
        made[name][0] = np.nan
        made[name][1, 0], made[name][1, 1] = made[name][1, 1], np.nan
    return made | {"rx_pos": rx.astype(np.float32), "tx_pos": BS}


def write_scenario(folder: Path, matrices: Matrices, suffix: str = ".npz", code: str = "t001_tx000_r000") -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "params.json").write_text(json.dumps({"version": "4.0.5", "rt_params": {"frequency": CARRIER}}))
    for name, matrix in matrices.items():
        path = folder / f"{name}_{code}{suffix}"
        if suffix == ".npz":
            np.savez_compressed(path, **{name: matrix})
        else:
            savemat(path, {name: matrix})
    return folder
