"""From CSI and, where there is one, a coarse position to a position: the one way of requests and calibration."""

from collections import defaultdict
from collections.abc import Sequence
from typing import Literal, NamedTuple

import numpy as np
from numpy.typing import NDArray

from reference_db.cell_version import CellVersion
from reference_db.half_csi import as_complex
from reference_db.index.signal_features import signal_feature
from reference_db.retrieval import first_guess, next_neighbourhood
from service.inference.frame_cache import FrameCache, as_known
from service.inference.session import MateformerSession, as_users
from service.inference.tiles import Neighbourhood, Tiles
from service.telemetry.metrics import Metrics, Stopwatch

# How every first neighbourhood is found; a calibration holds only for the way it was made.
Retrieval = Literal["fused"]
RETRIEVAL: Retrieval = "fused"

# More at once are slower: what they gather no longer fits into the processor's cache.
_FRAMES_A_RUN = 16

_MOST_WARMED = 256  # tiles of a new version; colder ones are encoded when somebody asks

_Floats = NDArray[np.float32]
_Rows = NDArray[np.int64]


class User(NamedTuple):
    """Somebody to be located in a cell: CSI float32 `[antennas, subcarriers, 2]`, finite and not all zero.

    `coarse` float32 `[2]` metres and `accuracy`, its 1-sigma error on each axis in metres; both NaN without one.
    """

    version: CellVersion
    csi: _Floats
    coarse: _Floats
    accuracy: float


class Estimator:
    """Compares users with the fingerprints that are probably near them: those around the tile of a first guess."""

    def __init__(self, network: MateformerSession, most_users: int, frame_bytes: int, metrics: Metrics) -> None:
        self._network = network
        self.manifest = network.manifest
        self._tiles = Tiles(self.manifest.tile_pitch)
        self._frames = FrameCache(network, frame_bytes, most_users, metrics) if network.has_frames else None

    def neighbours(self, fingerprints: int) -> int:
        """How many fingerprints a user is compared with in a cell of so many."""
        return min(self.manifest.neighbourhood_size, fingerprints)

    def locate(self, users: Sequence[User], stopwatch: Stopwatch) -> _Floats:
        """Local positions float32 `[b, 2]` of users of any cells, in metres; NaN where the network knows no answer.

        For the network's owner thread only, and no more than `most_users` at once. Raises `InferenceFailed`.
        """
        csi = np.stack([user.csi for user in users])
        coarse = np.stack([user.coarse for user in users])
        accuracy = np.array([user.accuracy for user in users], np.float32)
        cells: dict[CellVersion, list[int]] = defaultdict(list)
        for row, user in enumerate(users):
            cells[user.version].append(row)
        places = np.empty_like(coarse)
        with stopwatch.stage("retrieve"):
            features = signal_feature(as_complex(csi))
            for version, rows in cells.items():
                places[rows] = first_guess(version.references, features[rows], coarse[rows], accuracy[rows])
        asked = as_users(csi, coarse, accuracy)
        for _ in range(self.manifest.passes):
            near: dict[int, Neighbourhood] = {}
            with stopwatch.stage("retrieve"):
                for version, rows in cells.items():
                    finite = np.nan_to_num(places[rows])
                    found = self._tiles.neighbourhoods(version, finite, self.neighbours(len(version)))
                    near |= zip(rows, found, strict=True)
            lost = ~np.isfinite(places).all(axis=1)
            places = self._compare(near, asked, stopwatch)
            places[lost] = np.nan
        return places

    def positions(
        self, version: CellVersion, csi: _Floats, coarse: _Floats, accuracy: _Floats, left_out: _Rows | None
    ) -> _Floats:
        """As `locate`, for users of one cell who are not compared with a fingerprint each, `left_out` int64 `[b]`.

        `csi` `[b, ...]`, `coarse` `[b, 2]`, `accuracy` `[b]`. Nobody shares a frame: this is the `full` graph's work,
        aside. Raises `InferenceFailed`.
        """
        n = self.neighbours(len(version) - (left_out is not None))
        places = first_guess(version.references, signal_feature(as_complex(csi)), coarse, accuracy, left_out)
        for _ in range(self.manifest.passes):
            lost = ~np.isfinite(places).all(axis=1)
            near = next_neighbourhood(version.references, np.nan_to_num(places), n, left_out, self.manifest.tile_pitch)
            places = self._network.positions(version.csi_of(near), version.positions[near], csi, coarse, accuracy)
            places[lost] = np.nan
        return places

    def prove(self) -> None:
        """Runs every graph. Blocks; not for the owner thread. Raises `InferenceFailed` unless the answers are sound."""
        frames = self._frames
        if frames is None:
            self._network.prove()
            return
        slot = self._network.submit(frames.reserve).result()
        self._network.prove_frame(slot)
        self._network.submit(frames.release, slot).result()

    def in_use(self, version: CellVersion) -> list[_Floats]:
        """The centres `[2]` of the tiles most in use of a cell, metres. Blocks; not for the owner thread."""
        return self._network.submit(self._in_use, version).result()

    def warm(self, version: CellVersion, places: Sequence[_Floats]) -> int:
        """Encodes the frames of the tiles around `places` that are not there, and says how many it did.

        Aside: users are located meanwhile. Blocks; not for the owner thread. Raises `InferenceFailed`.
        """
        return sum(self._encode(version, place) for place in places)

    @property
    def frame_bytes(self) -> int:
        """What the frames that are there take."""
        return 0 if self._frames is None else self._frames.held_bytes

    @property
    def frame_pool_bytes(self) -> int:
        """What is set aside for frames."""
        return 0 if self._frames is None else self._frames.pool_bytes

    def _in_use(self, version: CellVersion) -> list[_Floats]:
        centres = self._tiles.known(version)
        used = self._frames.keys if self._frames else []
        return [centres[key] for key in used if key in centres][:_MOST_WARMED]

    def _encode(self, version: CellVersion, centre: _Floats) -> bool:
        """Whether the frame around a tile's centre had to be encoded."""
        frames = self._frames
        reserved = self._network.submit(self._reserve, version, centre).result()
        if frames is None or reserved is None:
            return False
        near, slot = reserved
        try:
            self._network.run_in_background("frame", as_known([near], [slot]))
        except Exception:  # whatever it is, it is nobody's
            self._network.submit(frames.release, slot).result()
            raise
        self._network.submit(frames.admit, near.key, slot).result()
        return True

    def _reserve(self, version: CellVersion, centre: _Floats) -> tuple[Neighbourhood, int] | None:
        """The neighbourhood of a tile and a slot for its frame; None where none is wanted."""
        (near,) = self._tiles.neighbourhoods(version, centre[np.newaxis], self.neighbours(len(version)))
        if self._frames is None or len(near.rows) < self.manifest.neighbourhood_size or near.key in self._frames:
            return None
        return near, self._frames.reserve()

    def _compare(self, near: dict[int, Neighbourhood], users: dict[str, _Floats], stopwatch: Stopwatch) -> _Floats:
        """Each user, by row, against a neighbourhood: float32 `[b, 2]`.

        Cells too small for a frame of the common size, and networks without frames, are the `full` graph's work.
        """
        places = np.empty((len(near), 2), np.float32)
        whole = self.manifest.neighbourhood_size
        shared = [row for row, one in near.items() if self._frames and len(one.rows) == whole]
        if self._frames and shared:
            with stopwatch.stage("frame"):
                slots = self._frames.slots(near[row] for row in shared)
            with stopwatch.stage("infer"):
                self._query([(row, slots[near[row].key]) for row in shared], users, places)
        alone: dict[int, list[int]] = defaultdict(list)
        for row in sorted(near.keys() - set(shared)):
            alone[len(near[row].rows)].append(row)
        for rows in alone.values():
            csi_known = np.stack([near[row].csi for row in rows])
            known = {"csi_known": csi_known, "positions_known": np.stack([near[row].positions for row in rows])}
            with stopwatch.stage("infer"):
                (answer,) = self._network.run("full", known | {name: part[rows] for name, part in users.items()})
            places[rows] = answer[:, 0]
        return places

    def _query(self, users_in_slots: list[tuple[int, int]], users: dict[str, _Floats], places: _Floats) -> None:
        for rows, slots in grouped(users_in_slots, self._network.wants_few_shapes):
            asked = {name: part[rows, 0] for name, part in users.items()}
            (answer,) = self._network.run("query", asked | {"slots": slots})
            places[rows] = answer


def grouped(users_in_slots: Sequence[tuple[int, int]], few_shapes: bool) -> list[tuple[_Rows, _Rows]]:
    """Users `(row, slot)` as runs of the `query` graph: rows `[frames, users]` and slots `[frames]` each.

    A run is a rectangle: frames with about as many users go together, the last user repeated to fill up, never more
    than half of them. With `few_shapes` both sides are powers of two, the last frame repeated too.
    """
    by_slot: dict[int, list[int]] = defaultdict(list)
    for row, slot in users_in_slots:
        by_slot[slot].append(row)
    by_size: dict[int, list[int]] = defaultdict(list)
    for slot, rows in by_slot.items():
        by_size[(len(rows) - 1).bit_length()].append(slot)
    runs = []
    for size, slots_of_size in by_size.items():
        for first in range(0, len(slots_of_size), _FRAMES_A_RUN):
            slots = slots_of_size[first : first + _FRAMES_A_RUN]
            width = max(len(by_slot[slot]) for slot in slots)
            if few_shapes:
                width, height = 1 << size, 1 << (len(slots) - 1).bit_length()
                slots = slots + slots[-1:] * (height - len(slots))
            filled = [by_slot[slot] + by_slot[slot][-1:] * (width - len(by_slot[slot])) for slot in slots]
            runs.append((np.array(filled, np.int64), np.array(slots, np.int64)))
    return runs
