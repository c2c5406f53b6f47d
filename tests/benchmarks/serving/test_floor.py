import numpy as np
import pytest
import torch
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils.flop_counter import FlopCounterMode

from benchmarks.serving.floor import Machine, Shape, describe_work, floors, frame_work, full_work, query_work
from models.artifact.channel_transform import ChannelTransform
from models.layers.channel_features import FEATURES, describe_channel
from models.mateformer.network import Coarse, Mateformer, MateformerConfig
from reference_db import AntennaArray

CONFIG = MateformerConfig(width=32, depth=3, hidden=48)
RADIO = Shape(lines=4, columns=8, subcarriers=12)
NEIGHBOURS = 20


def counted() -> dict[str, int]:
    """Multiply-adds counted by torch."""
    torch.manual_seed(0)
    model = Mateformer(CONFIG).eval()
    known, user = torch.randn(1, NEIGHBOURS, FEATURES), torch.randn(1, 1, FEATURES)
    places, sigmas = torch.randn(1, NEIGHBOURS, 2), torch.zeros(1, NEIGHBOURS)
    coarse = Coarse(torch.zeros(1, 1, 2), torch.ones(1, 1))
    counts = {}
    with torch.inference_mode():
        frame = model.frame(known, places, sigmas)
        for name, work in (
            ("frame", lambda: model.frame(known, places, sigmas)),
            ("query", lambda: model.query(user, coarse, frame)),
            ("full", lambda: model(known, places, sigmas, user, *coarse)),
        ):
            # Unfused attention: torch's counter does not count the fused operator of a CPU.
            with sdpa_kernel(SDPBackend.MATH), FlopCounterMode(display=False) as counter:
                work()
            counts[name] = counter.get_total_flops() // 2
    return counts


def test_multiply_adds_are_those_that_torch_counts() -> None:
    found = counted()
    assert query_work(CONFIG, NEIGHBOURS).multiply_adds == pytest.approx(found["query"], rel=0.01)
    assert frame_work(CONFIG, NEIGHBOURS).multiply_adds == pytest.approx(found["frame"], rel=0.01)
    assert full_work(CONFIG, NEIGHBOURS).multiply_adds == pytest.approx(found["full"], rel=0.01)


def test_a_snapshot_is_described_by_as_many_multiply_adds_as_torch_counts() -> None:
    array = AntennaArray(rows=2, columns=RADIO.columns, polarisations=2)
    csi = np.random.default_rng(0).standard_normal((1, array.antennas, RADIO.subcarriers, 2)).astype(np.float32)
    channel = ChannelTransform.of(array, RADIO.subcarriers, 40e6, 3.5e9, None, None, csi.view(np.complex64)[..., 0])
    with torch.inference_mode(), FlopCounterMode(display=False) as counter:
        describe_channel(*(torch.from_numpy(one) for one in channel.feeds(csi).values()))
    assert describe_work(RADIO).multiply_adds == pytest.approx(counter.get_total_flops() // 2, rel=0.01)


def test_a_query_reads_its_whole_frame() -> None:
    with torch.inference_mode():
        frame = Mateformer(CONFIG).frame(
            torch.randn(1, NEIGHBOURS, FEATURES), torch.randn(1, NEIGHBOURS, 2), torch.zeros(1, NEIGHBOURS)
        )
    kept = [part.half() for offered in frame.keys_values for part in offered]
    assert query_work(CONFIG, NEIGHBOURS).bytes == sum(part.nbytes for part in kept)


def test_the_floor_is_the_slower_of_computing_and_reading() -> None:
    quick_to_read, slow_to_read = Machine(multiply_adds=1e9, bytes=1e15), Machine(multiply_adds=1e15, bytes=1e9)
    query, user = query_work(CONFIG, NEIGHBOURS), describe_work(RADIO)
    computing = {floor.kind: floor.seconds for floor in floors(CONFIG, NEIGHBOURS, RADIO, quick_to_read)}
    reading = {floor.kind: floor.seconds for floor in floors(CONFIG, NEIGHBOURS, RADIO, slow_to_read)}
    assert computing["warm-unique"] == computing["shared"] == (query.multiply_adds + user.multiply_adds) / 1e9
    assert reading["warm-unique"] == (query.bytes + user.bytes) / 1e9
    assert computing["cold"] > 10 * computing["warm-unique"]
    assert reading["shared"] == user.bytes / 1e9
