"""An artifact's folder, made unfit to serve in many ways."""

import json
import math
from collections.abc import Callable
from hashlib import sha256
from pathlib import Path
from typing import Any

import onnx
from onnx import TensorProto, helper


def flipped(folder: Path) -> None:
    data = bytearray((folder / "query.onnx").read_bytes())
    data[len(data) // 2] ^= 1
    (folder / "query.onnx").write_bytes(data)


def of_another_schema(folder: Path) -> None:
    change_manifest(folder, schema_version=3)


def without_a_graph(folder: Path) -> None:
    (folder / "frame.onnx").unlink()


def is_no_onnx(folder: Path) -> None:
    replace_graph(folder, "full", b"\xff\xff")


def reads_other_files(folder: Path) -> None:
    def change(model: onnx.ModelProto) -> None:
        tensor = model.graph.initializer.add()
        tensor.name, tensor.data_type, tensor.data_location = "far", TensorProto.FLOAT, TensorProto.EXTERNAL
        tensor.external_data.add(key="location", value="/etc/hostname")

    _change_graph(folder, "full", change)


def names_another_input(folder: Path) -> None:
    def change(model: onnx.ModelProto) -> None:
        model.graph.input[0].name = "other"

    _change_graph(folder, "full", change)


def answers_nan(folder: Path) -> None:
    _change_graph(folder, "full", lambda model: _shift(model, math.nan))


def answers_otherwise_by_frames(folder: Path) -> None:
    _change_graph(folder, "query", lambda model: _shift(model, 1.0))


def change_manifest(folder: Path, **changes: Any) -> None:
    manifest = json.loads((folder / "artifact.json").read_text())
    (folder / "artifact.json").write_text(json.dumps(manifest | changes))


def replace_graph(folder: Path, name: str, content: bytes) -> None:
    """Whatever it holds, its hash is right."""
    (folder / f"{name}.onnx").write_bytes(content)
    manifest = json.loads((folder / "artifact.json").read_text())
    manifest["graphs"][name]["sha256"] = sha256(content).hexdigest()
    (folder / "artifact.json").write_text(json.dumps(manifest))


def _change_graph(folder: Path, name: str, change: Callable[[onnx.ModelProto], None]) -> None:
    model = onnx.load(folder / f"{name}.onnx")
    change(model)
    replace_graph(folder, name, model.SerializeToString())


def _shift(model: onnx.ModelProto, value: float) -> None:
    (beside,) = (one for one in model.graph.initializer if one.name == "beside")
    beside.CopyFrom(helper.make_tensor("beside", TensorProto.FLOAT, [], [value]))
