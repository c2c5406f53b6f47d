"""A city of Sionna RT: its streets, and the ray-traced paths between a base station and its users."""

from __future__ import annotations

import ctypes.util
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from models.errors import TrainerError
from models.radio.path_table import PathTable
from models.radio.siting import Site
from models.radio.street_changes import Box

CITIES = ("munich", "etoile", "florence", "san_francisco")
GROUND_OBJECTS = {"munich": "ground", "etoile": "Plane", "florence": "ground", "san_francisco": "Terrain"}
MAX_DEPTH = 5
SAMPLES_PER_SOURCE = 100_000
# Sizes a hash table that all receivers share. A table that is too small drops paths silently.
CANDIDATES_PER_SOURCE = 10_000_000
# Deterministic tracing keeps depth x samples x users candidates in memory: 250 users need 5 GB.
USERS_AT_ONCE = 250


class TracingUnavailable(TrainerError):
    """Sionna RT, or the LLVM that it compiles with, is missing."""


class CarrierNotModelled(TrainerError):
    """A material of the city has no properties at this carrier frequency."""


def _point_drjit_at_llvm() -> None:
    """Debian's default LLVM (14, 15) aborts inside Dr.Jit, which finds a newer one only by its full path."""
    if "DRJIT_LIBLLVM_PATH" in os.environ:
        return
    for version in range(22, 15, -1):
        for name in (f"libLLVM.so.{version}.1", f"libLLVM-{version}.so.1", f"libLLVM-{version}.so"):
            for folder in (
                "/usr/lib/x86_64-linux-gnu",
                "/usr/lib/aarch64-linux-gnu",
                "/usr/lib64",
                "/usr/lib",
            ):
                if (Path(folder) / name).exists():
                    os.environ["DRJIT_LIBLLVM_PATH"] = str(Path(folder) / name)
                    return
    if ctypes.util.find_library("LLVM") is None:
        raise TracingUnavailable("ray tracing on the CPU needs LLVM 16 or newer: apt-get install libllvm19")


class City:
    """One of Sionna RT's city scenes, in its own metres (x east, y north, z up).

    Raises `TracingUnavailable` if Sionna RT or LLVM is missing, and `ValueError` for an unknown name.
    """

    def __init__(self, name: str, threads: int | None = None) -> None:
        if name not in CITIES:
            raise ValueError(f"unknown city {name!r}: one of {', '.join(CITIES)}")
        _point_drjit_at_llvm()
        try:
            import drjit
            import mitsuba
            from sionna import rt
        except ImportError as error:
            raise TracingUnavailable(f"ray tracing needs the extra 'train': {error}") from error
        self._dr, self._mi, self._rt = drjit, mitsuba, rt
        if threads is not None:
            drjit.set_thread_count(threads)
        self.name = name
        self._scene = rt.load_scene(getattr(rt.scene, name), merge_shapes=True)
        self._ground = self._scene.objects[GROUND_OBJECTS[name]].mi_mesh
        # The BS has a vertical and a horizontal antenna in one place, the user a vertical one.
        self._scene.tx_array = rt.PlanarArray(num_rows=1, num_cols=1, pattern="iso", polarization="VH")
        self._scene.rx_array = rt.PlanarArray(num_rows=1, num_cols=1, pattern="iso", polarization="V")
        self._solver = rt.PathSolver(deterministic=True)
        self._metal = rt.ITURadioMaterial(name="bare-metal", itu_type="metal", thickness=0.01)
        self._boxes: list[Any] = []  # sionna.rt.SceneObject, imported late

    def bounds(self) -> NDArray[np.float64]:
        """float64 [2, 2]: the lowest and the highest x, y of the ground."""
        box = self._ground.bbox()
        return np.array([[box.min.x, box.min.y], [box.max.x, box.max.y]], np.float64)

    def ground(self, xy: NDArray[np.float64]) -> tuple[NDArray[np.float64], NDArray[np.bool_]]:
        """Height float64 [n] of the highest surface at ``xy`` [n, 2], and bool [n]: this surface is the ground."""
        mi, dr = self._mi, self._dr
        above = np.full(len(xy), self._scene.mi_scene.bbox().max.z + 10.0)
        rays = mi.Ray3f(self._points(np.column_stack([xy, above])), mi.Vector3f(0, 0, -1))
        hit = self._scene.mi_scene.ray_intersect(rays)
        is_ground = hit.is_valid() & (hit.shape == dr.full(mi.ShapePtr, self._ground, len(xy)))
        return hit.p.z.numpy().astype(np.float64), is_ground.numpy()

    def visible(self, origin: NDArray[np.float64], points: NDArray[np.float64]) -> NDArray[np.bool_]:
        """bool [n]: the line from ``origin`` [3] to each of ``points`` [n, 3] is free."""
        from sionna.rt.utils import spawn_ray_to

        rays = spawn_ray_to(self._points(np.broadcast_to(origin, points.shape)), self._points(points))
        return ~self._scene.mi_scene.ray_test(rays).numpy()

    def walls(
        self, origins: NDArray[np.float64], directions: NDArray[np.float64]
    ) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """Distance float64 [n] from ``origins`` [n, 3] along ``directions`` [n, 3] to the first surface, infinite where
        there is none, and this surface's normal float64 [n, 3]."""
        rays = self._mi.Ray3f(self._points(origins), self._mi.Vector3f(self._points(directions)))
        hit = self._scene.mi_scene.ray_intersect(rays)
        return hit.t.numpy().astype(np.float64), hit.n.numpy().T.astype(np.float64)

    def furnish(self, boxes: Sequence[Box]) -> None:
        """Puts boxes of metal into the scene, in place of earlier ones. Without boxes the city is bare again."""
        mi, rt = self._mi, self._rt
        earlier, self._boxes = self._boxes, []
        for box in boxes:
            x, y, z = box.centre
            length, width, height = box.size
            pose = mi.ScalarTransform4f().translate([x, y, z]).rotate([0, 0, 1], np.rad2deg(box.yaw))
            mesh = mi.load_dict({"type": "cube", "to_world": pose.scale([length / 2, width / 2, height / 2])})
            self._boxes.append(rt.SceneObject(mi_mesh=mesh, name=box.name, radio_material=self._metal))
        if earlier or boxes:
            self._scene.edit(add=self._boxes, remove=earlier)

    def trace(self, site: Site, users: NDArray[np.float64]) -> PathTable:
        """Traces all paths from the site's BS to ``users`` (float64 [n <= 250, 3], scene metres). Repeatable.

        Up to five specular reflections and refractions. No diffraction: its paths do not converge with the number of
        samples. The antennas are isotropic, vertical or horizontal, so a path table is valid for any yaw of the array.
        """
        padded = np.concatenate([users, np.repeat(users[-1:], USERS_AT_ONCE - len(users), axis=0)])
        paths = self._solve(site, padded)
        gain, delay = paths.cir(normalize_delays=False, out_type="numpy")
        return _pack(
            site,
            users,
            valid=paths.valid.numpy()[: len(users), 0],
            gain=gain[: len(users), 0, 0, 0, :, 0],
            horizontal_gain=gain[: len(users), 0, 0, 1, :, 0],
            delay=delay[: len(users), 0],
            angles=[
                angle.numpy()[: len(users), 0] for angle in (paths.theta_t, paths.phi_t, paths.theta_r, paths.phi_r)
            ],
            interactions=np.moveaxis(paths.interactions.numpy()[:, : len(users), 0], 0, -1),
        )

    def _solve(self, site: Site, users: NDArray[np.float64]) -> Any:  # sionna.rt.Paths, imported late
        mi, dr, rt, scene = self._mi, self._dr, self._rt, self._scene
        try:
            scene.frequency = single_at_most(site.carrier_frequency)
        except ValueError as error:
            raise CarrierNotModelled(f"{site.carrier_frequency / 1e9:g} GHz cannot be traced here: {error}") from error
        if scene.get("bs") is None:
            scene.add(rt.Transmitter("bs", position=list(site.bs)))
            for number in range(USERS_AT_ONCE):
                scene.add(rt.Receiver(f"user-{number}", position=[0.0, 0.0, 0.0]))
        scene.get("bs").position = mi.Point3f(*site.bs)
        targets, zero = self._points(users), dr.zeros(mi.Point3f, len(users))
        still = dr.zeros(mi.Vector3f, len(users))

        # The stock `targets` visits the receivers one by one and compiles a kernel for each. An array is 10x faster.
        def all_targets(synthetic_array: bool, return_velocities: bool) -> Any:
            return targets, zero, zero if synthetic_array else None, still if return_velocities else None

        scene.targets = all_targets
        return self._solver(
            scene,
            max_depth=MAX_DEPTH,
            samples_per_src=SAMPLES_PER_SOURCE,
            max_num_paths_per_src=CANDIDATES_PER_SOURCE,
        )

    def _points(self, xyz: NDArray[np.float64]) -> Any:
        x, y, z = np.ascontiguousarray(xyz.T, np.float32)
        return self._mi.Point3f(self._mi.Float(x), self._mi.Float(y), self._mi.Float(z))


def single_at_most(value: float) -> float:
    """The largest single-precision number up to `value`. Sionna RT rounds to the nearest: 60 GHz would be above 60 GHz,
    where the properties of some materials end."""
    rounded = np.float32(value)
    return float(rounded if float(rounded) <= value else np.nextafter(rounded, np.float32(-np.inf)))


def _pack(
    site: Site,
    users: NDArray[np.float64],
    valid: NDArray[np.bool_],  # [users, slots]
    gain: NDArray[np.complex64],  # [users, slots]
    horizontal_gain: NDArray[np.complex64],  # [users, slots]
    delay: NDArray[np.float32],  # [users, slots]
    angles: list[NDArray[np.float32]],  # 4 x [users, slots]
    interactions: NDArray[np.uint32],  # [users, slots, depth]
) -> PathTable:
    # The solver assigns slots in the order in which threads arrive. Sorting makes the table repeatable.
    order = np.lexsort([*angles, delay, ~valid], axis=-1)
    valid, gain, horizontal_gain, delay, *angles = (
        np.take_along_axis(column, order, axis=1) for column in (valid, gain, horizontal_gain, delay, *angles)
    )
    interactions = np.take_along_axis(interactions, order[..., None], axis=1)
    return PathTable(
        site=site,
        users=(users - np.array(site.bs)).astype(np.float32),
        offsets=np.concatenate([[0], np.cumsum(valid.sum(axis=1))]).astype(np.int64),
        gain=gain[valid].astype(np.complex64),
        delay=delay[valid].astype(np.float32),
        departure=np.stack(angles[:2], axis=-1)[valid].astype(np.float32),
        arrival=np.stack(angles[2:], axis=-1)[valid].astype(np.float32),
        interactions=interactions[valid].astype(np.uint8),
        horizontal_gain=horizontal_gain[valid].astype(np.complex64),
    )
