"""Loads artifacts whose graphs are damaged though their hashes are right. Prints what became of each.

In a process of its own: what is damaged is read by native code.
"""

import json
import random
import sys
import tempfile
from collections import Counter
from pathlib import Path

from models.artifact import ArtifactError, load_artifact
from service.inference.mateformer_session import MateformerSession
from service.inference.session import ModelUnusable
from tests.service.bad_artifacts import replace_graph
from tests.service.tiny_artifact import write_tiny_artifact


def main(count: int) -> None:
    rng, outcomes = random.Random(1), Counter[str]()
    with tempfile.TemporaryDirectory() as folder:
        directory = Path(folder)
        write_tiny_artifact(directory)
        graph = (directory / "full.onnx").read_bytes()
        for _ in range(count):
            damaged = bytearray(graph)
            match rng.randrange(3):
                case 0:
                    for _ in range(rng.randrange(1, 4)):
                        damaged[rng.randrange(len(damaged))] ^= 1 << rng.randrange(8)
                case 1:
                    del damaged[rng.randrange(len(damaged)) :]
                case _:
                    at = rng.randrange(len(damaged))
                    damaged[at:at] = rng.randbytes(rng.randrange(1, 20))
            replace_graph(directory, "full", bytes(damaged))
            outcomes[outcome(directory)] += 1
    print(json.dumps(outcomes))


def outcome(directory: Path) -> str:
    try:
        session = MateformerSession(load_artifact(directory), 1, ["CPUExecutionProvider"])
    except (ArtifactError, ModelUnusable):
        return "refused"
    except Exception as error:
        return f"{type(error).__name__}: {error}"
    session.close()
    return "loaded"


if __name__ == "__main__":
    main(int(sys.argv[1]))
