import pytest
import torch
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils.flop_counter import FlopCounterMode

from benchmarks.serving.floor import Machine, floors, frame_work, full_work, query_work
from models.mateformer.network import Coarse, Mateformer, MateformerConfig

CONFIGS = [
    MateformerConfig(antennas=8, subcarriers=12, width=32, depth=3, hidden=48),
    MateformerConfig(
        antennas=8,
        subcarriers=12,
        width=32,
        depth=3,
        hidden=48,
        raw=False,
        angle_delay=1.5,
        delay_compensated=True,
        coarse=True,
    ),
]
NEIGHBOURS = 20


def counted(config: MateformerConfig) -> dict[str, int]:
    """Multiply-adds counted by torch."""
    torch.manual_seed(0)
    model = Mateformer(config).eval()
    known, csi = torch.randn(1, NEIGHBOURS, 8, 12, 2), torch.randn(1, 1, 8, 12, 2)
    places, coarse = torch.randn(1, NEIGHBOURS, 2), Coarse(torch.zeros(1, 1, 2), torch.ones(1, 1))
    counts = {}
    with torch.inference_mode():
        frame = model.frame(known, places)
        for name, work in (
            ("frame", lambda: model.frame(known, places)),
            ("query", lambda: model.query(csi, coarse, frame)),
            ("full", lambda: model(known, places, csi, *coarse)),
        ):
            # Unfused attention: torch's counter does not count the fused operator of a CPU.
            with sdpa_kernel(SDPBackend.MATH), FlopCounterMode(display=False) as counter:
                work()
            counts[name] = counter.get_total_flops() // 2
    return counts


@pytest.mark.parametrize("config", CONFIGS)
def test_multiply_adds_are_those_that_torch_counts(config: MateformerConfig) -> None:
    found = counted(config)
    assert query_work(config, NEIGHBOURS).multiply_adds == pytest.approx(found["query"], rel=0.01)
    assert frame_work(config, NEIGHBOURS).multiply_adds == pytest.approx(found["frame"], rel=0.01)
    assert full_work(config, NEIGHBOURS).multiply_adds == pytest.approx(found["full"], rel=0.01)


def test_a_query_reads_its_whole_frame() -> None:
    config = CONFIGS[1]
    with torch.inference_mode():
        frame = Mateformer(config).frame(torch.randn(1, NEIGHBOURS, 8, 12, 2), torch.randn(1, NEIGHBOURS, 2))
    kept = [part.half() for offered in frame.keys_values for part in offered]
    assert query_work(config, NEIGHBOURS).bytes == sum(part.nbytes for part in kept)


def test_the_floor_is_the_slower_of_computing_and_reading() -> None:
    quick_to_read, slow_to_read = Machine(multiply_adds=1e9, bytes=1e15), Machine(multiply_adds=1e15, bytes=1e9)
    work = query_work(CONFIGS[1], NEIGHBOURS)
    computing = {floor.kind: floor.seconds for floor in floors(CONFIGS[1], NEIGHBOURS, quick_to_read)}
    reading = {floor.kind: floor.seconds for floor in floors(CONFIGS[1], NEIGHBOURS, slow_to_read)}
    assert computing["warm-unique"] == computing["shared"] == work.multiply_adds / 1e9
    assert reading["warm-unique"] == work.bytes / 1e9
    assert computing["cold"] > 10 * computing["warm-unique"]
    assert reading["shared"] < reading["warm-unique"] / 100
