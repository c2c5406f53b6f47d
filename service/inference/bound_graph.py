"""A graph of a model in an ONNX Runtime session, with buffers that stay bound from run to run."""

import re
from collections.abc import Collection, Mapping, Sequence

import numpy as np
import onnxruntime as ort
from numpy.typing import NDArray

from models.artifact import Graph, ServedArtifact, written

_NO_MEMORY = re.compile("Failed to allocate memory|bad_alloc|out of memory")


class BoundGraph:
    """Binds pools of frames once, on the device where the graph runs; binds all other tensors at each run.

    Where the graph writes a pool, its output is bound to the memory of its input: the graph changes only the slots
    that it is asked to write.
    """

    def __init__(self, session: ort.InferenceSession, graph: Graph, pools: Mapping[str, ort.OrtValue]) -> None:
        self._session, self._graph = session, graph
        self._binding = session.io_binding()
        taken = {spec.name: pools[spec.name] for spec in graph.pools if pools}
        for name, pool in taken.items():
            self._binding.bind_ortvalue_input(name, pool)
        self._fed: dict[str, NDArray[np.generic] | None] = dict.fromkeys(
            spec.name for spec in graph.inputs if spec.name not in taken
        )  # the array that is bound to each
        into = {written(name): pool for name, pool in taken.items()}
        self._names = [spec.name for spec in graph.outputs]
        self._returned = [name not in into for name in self._names]
        for name in into.keys() & set(self._names):
            self._binding.bind_ortvalue_output(name, into[name])

    def rebound(self, pools: Mapping[str, ort.OrtValue]) -> "BoundGraph":
        """Returns the same session bound to other pools."""
        return BoundGraph(self._session, self._graph, pools)

    def run(self, feeds: Mapping[str, NDArray[np.generic]]) -> dict[str, NDArray[np.float32]]:
        """Returns the outputs that are not pools, by name. `feeds` may hold extra names.

        Raises `MemoryError`, and any error of ONNX Runtime.
        """
        for name, bound in self._fed.items():
            if feeds[name] is not bound:  # the constants of a cell stay bound from user to user
                self._fed[name] = fed = np.ascontiguousarray(feeds[name])
                self._binding.bind_cpu_input(name, fed)
        for name, returned in zip(self._names, self._returned, strict=True):
            if returned:
                self._binding.bind_output(name)  # at each run: the shape may differ from the last run's
        try:
            self._session.run_with_iobinding(self._binding)
        except Exception as error:
            if _NO_MEMORY.search(str(error)):  # ONNX Runtime has no error type for missing memory
                raise MemoryError(str(error)) from error
            raise
        outputs = zip(self._names, self._binding.get_outputs(), self._returned, strict=True)
        return {name: np.array(output.numpy()) for name, output, returned in outputs if returned}


def load_graphs(
    artifact: ServedArtifact,
    threads: int,
    providers: Sequence[str],
    pools: Mapping[str, ort.OrtValue],
    left_out: Collection[str] = (),
) -> dict[str, BoundGraph]:
    """Loads the graphs of an artifact, but those `left_out`, each into a session of its own.

    Raises any error of ONNX Runtime.
    """
    options = ort.SessionOptions()
    options.intra_op_num_threads = threads  # by default ONNX Runtime counts the host's cores, not the container's
    options.inter_op_num_threads = 1
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    described = {str(name): graph for name, graph in artifact.manifest.graphs.items()}
    return {
        name: BoundGraph(ort.InferenceSession(content, options, providers=list(providers)), described[name], pools)
        for name, content in artifact.graphs.items()
        if name not in left_out
    }
