from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from reference_db import CorruptSegment, Fingerprints, Segment
from reference_db import segment as segments
from reference_db.segment import digest_of, join_segments

_HEADERS = [
    b"",
    b"not a segment",
    (2**40).to_bytes(8, "little") + b"{}",
    *(
        len(header).to_bytes(8, "little") + header
        for header in (
            b"7",
            b'"csi"',
            b"[]",
            b"{}",
            b'{"csi":{}}',
            b'{"csi":7}',
            b'{"csi":{"dtype":"F16","shape":[1000000000000000000000],"data_offsets":[0,0]}}',
            b'{"csi":{"dtype":"F16","shape":[2],"data_offsets":[0,4]}}',
            b'{"csi":{"dtype":"F8","shape":[0],"data_offsets":[0,0]}}',
        )
    ),
]  # safetensors: the length of a JSON header, the header, the arrays


def test_a_segment_is_read_back_from_its_bytes(make_fingerprints: Callable[..., Fingerprints]) -> None:
    fingerprints = make_fingerprints()
    data = Segment.of(fingerprints).to_bytes()
    back = Segment.from_buffer(data, digest_of(data)).fingerprints()
    for name in ("positions", "times", "sigmas"):
        np.testing.assert_array_equal(getattr(back, name), getattr(fingerprints, name))
    error = np.abs(back.csi - fingerprints.csi).max(axis=(1, 2))
    assert (error < 1e-3 * np.abs(fingerprints.csi).max(axis=(1, 2))).all()


def test_the_same_fingerprints_give_the_same_bytes(make_fingerprints: Callable[..., Fingerprints]) -> None:
    assert Segment.of(make_fingerprints()).to_bytes() == Segment.of(make_fingerprints()).to_bytes()


def test_a_segment_read_and_written_again_keeps_its_digest(
    make_fingerprints: Callable[..., Fingerprints],
) -> None:
    data = Segment.of(make_fingerprints()).to_bytes()
    again = Segment.of(Segment.from_buffer(data, digest_of(data)).fingerprints()).to_bytes()
    assert digest_of(again) == digest_of(data)


@given(place=st.floats(0, 1, exclude_max=True), bit=st.integers(0, 7))
def test_any_flipped_bit_is_detected(make_fingerprints: Callable[..., Fingerprints], place: float, bit: int) -> None:
    data = Segment.of(make_fingerprints(2)).to_bytes()
    damaged = bytearray(data)
    damaged[int(place * len(data))] ^= 1 << bit
    with pytest.raises(CorruptSegment):
        Segment.from_buffer(bytes(damaged), digest_of(data))


@pytest.mark.parametrize("data", _HEADERS)
def test_bytes_that_are_not_a_segment_are_refused_even_with_their_digest(data: bytes) -> None:
    with pytest.raises(CorruptSegment):
        Segment.from_buffer(data, digest_of(data))


def test_unexpected_arrays_are_refused(make_fingerprints: Callable[..., Fingerprints]) -> None:
    segment = Segment.of(make_fingerprints())
    for wrong in (
        replace(segment, times=segment.times.astype(np.float32)),
        replace(segment, times=segment.times[1:]),
    ):
        data = wrong.to_bytes()
        with pytest.raises(CorruptSegment):
            Segment.from_buffer(data, digest_of(data))


def test_every_part_of_a_fingerprint_is_in_its_id(make_fingerprints: Callable[..., Fingerprints]) -> None:
    fingerprints = make_fingerprints()
    ids = Segment.of(fingerprints).ids
    assert ids.dtype == np.uint64
    assert len(set(ids.tolist())) == len(fingerprints)
    for name, change in (("csi", 2.0), ("positions", 1.01), ("times", 1.01), ("sigmas", 2.0)):
        changed = replace(fingerprints, **{name: getattr(fingerprints, name) * np.float32(change)})
        assert not np.isin(Segment.of(changed).ids, ids).any(), name


def test_an_id_does_not_depend_on_the_rows_around_it(make_fingerprints: Callable[..., Fingerprints]) -> None:
    fingerprints = make_fingerprints()
    fields = ("csi", "positions", "times", "sigmas")
    reversed_rows = Fingerprints(*(getattr(fingerprints, name)[::-1].copy() for name in fields))
    np.testing.assert_array_equal(Segment.of(reversed_rows).ids, Segment.of(fingerprints).ids[::-1])


def test_a_segment_is_read_without_copying(make_fingerprints: Callable[..., Fingerprints]) -> None:
    data = Segment.of(make_fingerprints()).to_bytes()
    for buffer in (data, memoryview(data)):
        segment = Segment.from_buffer(buffer, digest_of(buffer))
        for array in (segment.csi, segment.scale, segment.positions, segment.times, segment.sigmas, segment.ids):
            assert not array.flags.owndata
            assert not array.flags.writeable
            assert array.flags.aligned


def test_the_parts_of_a_segment_are_small_and_joined_again_the_same(
    make_fingerprints: Callable[..., Fingerprints], monkeypatch: pytest.MonkeyPatch
) -> None:
    segment = Segment.of(make_fingerprints(11))
    assert len(segment.parts()) == 1
    monkeypatch.setattr(segments, "MOST_BYTES", 4 * segment.csi[:1].nbytes)
    parts = segment.parts()
    assert [len(part) for part in parts] == [4, 4, 3]
    assert join_segments(parts).to_bytes() == segment.to_bytes()
    monkeypatch.setattr(segments, "MOST_BYTES", 1)
    assert [len(part) for part in segment.parts()] == [1] * 11


def test_rows_of_a_segment_keep_their_ids(make_fingerprints: Callable[..., Fingerprints]) -> None:
    segment = Segment.of(make_fingerprints())
    some = np.arange(len(segment)) % 3 == 0
    np.testing.assert_array_equal(segment.rows(some).ids, segment.ids[some])
    data = segment.rows(some).to_bytes()
    np.testing.assert_array_equal(Segment.from_buffer(data, digest_of(data)).csi, segment.csi[some])
