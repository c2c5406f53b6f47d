"""A graph of the network, and the memory that stays where it is from run to run."""

import re
from collections.abc import Mapping, Sequence

import numpy as np
import onnxruntime as ort
from numpy.typing import NDArray

from models.artifact import Artifact, Graph, TrajectoryArtifact, written

_NO_MEMORY = re.compile("Failed to allocate memory|bad_alloc|out of memory")


class BoundGraph:
    """Pools of frames are bound once, on the device where the graph runs; the rest comes and goes with each run.

    Where the graph writes a pool, the output is the input's own memory: only the slots asked for are touched.
    """

    def __init__(self, session: ort.InferenceSession, graph: Graph, pools: Mapping[str, ort.OrtValue]) -> None:
        self._session, self._graph = session, graph
        self._binding = session.io_binding()
        taken = {spec.name: pools[spec.name] for spec in graph.pools if pools}
        for name, pool in taken.items():
            self._binding.bind_ortvalue_input(name, pool)
        self._fed = [spec.name for spec in graph.inputs if spec.name not in taken]
        into = {written(name): pool for name, pool in taken.items()}
        self._given = [spec.name not in into for spec in graph.outputs]
        self._names = [spec.name for spec in graph.outputs]
        for name in into.keys() & set(self._names):
            self._binding.bind_ortvalue_output(name, into[name])

    def rebound(self, pools: Mapping[str, ort.OrtValue]) -> "BoundGraph":
        """The same session with other pools."""
        return BoundGraph(self._session, self._graph, pools)

    def run(self, feeds: Mapping[str, NDArray[np.generic]]) -> list[NDArray[np.float32]]:
        """The outputs that are no pools; `feeds` may hold more than the graph takes.

        Raises `MemoryError`, and whatever else ONNX Runtime raises.
        """
        for name in self._fed:
            self._binding.bind_cpu_input(name, np.ascontiguousarray(feeds[name]))
        for name, given in zip(self._names, self._given, strict=True):
            if given:
                self._binding.bind_output(name)  # anew: the last run's memory is of the last run's shape
        try:
            self._session.run_with_iobinding(self._binding)
        except Exception as error:
            if _NO_MEMORY.search(str(error)):  # that is all that tells it from other failures
                raise MemoryError(str(error)) from error
            raise
        outputs = zip(self._binding.get_outputs(), self._given, strict=True)
        return [np.array(output.numpy()) for output, given in outputs if given]


def load_graphs(
    artifact: Artifact | TrajectoryArtifact, threads: int, providers: Sequence[str], pools: Mapping[str, ort.OrtValue]
) -> dict[str, BoundGraph]:
    """Every graph of an artifact in a session of its own. ONNX Runtime raises many kinds of errors."""
    options = ort.SessionOptions()
    options.intra_op_num_threads = threads  # ONNX Runtime would count the host's cores, not the container's
    options.inter_op_num_threads = 1
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    described = {str(name): graph for name, graph in artifact.manifest.graphs.items()}
    return {
        name: BoundGraph(ort.InferenceSession(content, options, providers=list(providers)), described[name], pools)
        for name, content in artifact.graphs.items()
    }
