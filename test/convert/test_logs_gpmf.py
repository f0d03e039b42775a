"""GoPro's metadata: structures, scales, fixes without a fix, clocks; and damage."""

from __future__ import annotations

import struct

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from support import gpmf

from pose2rgbd_ros.convert.logs.gpmf import klv_streams, read_gpmf
from pose2rgbd_ros.errors import UserError

SECOND = 10**9
NOON_NS = 1_714_564_800 * SECOND  # 2024-05-01 12:00:00 UTC
DAYS = 8887  # of that day since 2000


def payloads(*parts: bytes) -> list[tuple[int, int, bytes]]:
    """One a second."""
    return [(i * SECOND, SECOND, part) for i, part in enumerate(parts)]


def test_gps5_is_scaled_and_spread_over_its_payload() -> None:
    first = gpmf.gps5([[47.1, 8.5, 400.5, 3.0, 3.1], [47.2, 8.5, 401.5, 3.0, 3.1]])
    second = gpmf.gps5([[47.3, 8.5, 402.5, 3.0, 3.1]], utc="240501120001.000")
    log = read_gpmf(payloads(gpmf.device(first), gpmf.device(second)), "GX.mp4")
    np.testing.assert_allclose(log.latitude_deg, [47.1, 47.2, 47.3])
    np.testing.assert_allclose(log.altitude_m, [400.5, 401.5, 402.5])
    assert log.stamps_ns.tolist() == [SECOND // 4, 3 * SECOND // 4, 3 * SECOND // 2]
    assert log.on_video_time
    assert log.utc_at_zero_ns is not None
    assert abs(log.utc_at_zero_ns - NOON_NS) <= SECOND // 2


def test_positions_without_a_fix_are_left_out_and_counted() -> None:
    lost = gpmf.gps5([[1.0, 2.0, 3.0, 0, 0]] * 2, fix=0)
    vague = gpmf.gps5([[1.0, 2.0, 3.0, 0, 0]], dop=99.0)
    good = gpmf.gps5([[47.1, 8.5, 400.0, 0, 0]])
    log = read_gpmf(payloads(gpmf.device(lost), gpmf.device(vague), gpmf.device(good)), "GX.mp4")
    assert len(log) == 1
    assert log.problems == {"no_fix": 3}
    with pytest.raises(UserError, match=r"GX\.mp4: no usable position"):
        read_gpmf(payloads(gpmf.device(lost)), "GX.mp4")


def test_gps9_has_a_time_and_a_fix_of_its_own() -> None:
    rows = [
        [47.1, 8.5, 400.0, 1, 1, DAYS, 43200.0, 1.2, 3],
        [0, 0, 0, 0, 0, DAYS, 43200.1, 99.0, 0],
        [47.2, 8.5, 401.0, 1, 1, DAYS, 43200.75, 1.2, 3],
    ]
    log = read_gpmf(payloads(gpmf.device(gpmf.gps9(rows))), "GX.mp4")
    np.testing.assert_allclose(log.latitude_deg, [47.1, 47.2])
    assert log.altitude_reference == "msl"
    assert log.problems == {"no_fix": 1}
    assert log.utc_at_zero_ns is not None
    assert abs(log.utc_at_zero_ns - NOON_NS) <= SECOND // 5


def test_no_position_in_the_metadata_is_said() -> None:
    gyro = gpmf.stream(gpmf.numbers("SCAL", "s", [100]), gpmf.numbers("GYRO", "s", [100, 200, 300], 3))
    with pytest.raises(UserError, match=r"hold no position \(GYRO\); was the camera's GPS on\?"):
        read_gpmf(payloads(gpmf.device(gyro)), "GX.mp4")
    with pytest.raises(UserError, match="nothing readable"):
        read_gpmf(payloads(b"DEVC"), "GX.mp4")


def test_structures_scales_and_texts() -> None:
    mixed = struct.pack(">IfhB", 1500, 0.5, -200, 7)
    (stream,) = klv_streams(
        gpmf.device(
            gpmf.stream(
                gpmf.text("STNM", "Mixed\0"),
                gpmf.text("TYPE", "LfsB"),
                gpmf.numbers("SCAL", "l", [1000, 1, 100, 1]),
                gpmf.item("MIXD", "?", mixed * 2, 11),
            )
        )
    )
    assert stream.key == "MIXD"
    assert stream.text("STNM") == "Mixed"
    np.testing.assert_array_equal(stream.values, [[1.5, 0.5, -2.0, 7.0]] * 2)
    (arrays,) = klv_streams(
        gpmf.device(gpmf.stream(gpmf.text("TYPE", "f[3]"), gpmf.item("ARRY", "?", struct.pack(">3f", 1, 2, 3), 12)))
    )
    np.testing.assert_array_equal(arrays.values, [[1, 2, 3]])


@given(st.lists(st.integers(-(2**31), 2**31 - 1), min_size=1, max_size=60))
def test_numbers_come_back(values: list[int]) -> None:
    (stream,) = klv_streams(gpmf.device(gpmf.stream(gpmf.numbers("DATA", "l", values))))
    np.testing.assert_array_equal(stream.values[:, 0], values)


@settings(max_examples=200)
@given(st.data())
def test_damaged_metadata_are_read_up_to_the_damage_or_refused(data: st.DataObject) -> None:
    rows = [[47.1 + i / 1000, 8.5, 400.0, 1, 1, DAYS, 43200.0 + i, 1.2, 3] for i in range(5)]
    raw = bytearray(gpmf.device(gpmf.gps9(rows), gpmf.gps5([row[:5] for row in rows])))
    for _ in range(data.draw(st.integers(1, 5))):
        at = data.draw(st.integers(0, len(raw) - 1)) if raw else 0
        if data.draw(st.booleans()) and len(raw) > 8:
            del raw[at:]
        elif raw:
            raw[at] = data.draw(st.sampled_from([0, 1, 0x3F, 0x7F, 0x80, 0xFF]))
    try:
        log = read_gpmf(payloads(bytes(raw)), "GX.mp4")
    except UserError:
        return
    assert len(log) <= 5
    assert (np.diff(log.stamps_ns) > 0).all()


def test_containers_within_containers_without_end_do_not_hang() -> None:
    nested = gpmf.gps5([[47.1, 8.5, 400.0, 0, 0]])
    for _ in range(500):
        nested = gpmf.item("DEVC", "", nested)
        if len(nested) > 60_000:
            break
    with pytest.raises(UserError, match="nothing readable"):
        read_gpmf(payloads(nested), "GX.mp4")


def test_orientations_against_the_first_frame_are_said_to_be_unread() -> None:
    """A Max records CORI, IORI and GRAV: not north, but not nothing."""
    turned = gpmf.stream(gpmf.numbers("CORI", "s", [32767, 0, 0, 0], 4))
    down = gpmf.stream(gpmf.numbers("GRAV", "s", [0, 32767, 0], 3))
    fixes = gpmf.gps5([[47.1, 8.5, 400.0, 0, 0]])
    log = read_gpmf(payloads(gpmf.device(turned, down, fixes)), "GX.mp4")
    assert any("(CORI, GRAV)" in note and "not read" in note for note in log.notes)
    assert not read_gpmf(payloads(gpmf.device(fixes)), "GX.mp4").notes
