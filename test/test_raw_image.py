# Copyright 2026 the tracker_ros authors
# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import contextlib

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from rclpy.serialization import serialize_message
from sensor_msgs.msg import Image
from std_msgs.msg import Header

from tracker_ros.ros.images import ImageError, to_bgr, to_message
from tracker_ros.ros.raw_image import read_image


def serialised(frame_id: str = 'camera', **fields: object) -> bytes:
    image = Image(**fields)
    image.header.frame_id = frame_id
    image.header.stamp.sec, image.header.stamp.nanosec = -5, 4_000_000_000
    return serialize_message(image)


@settings(max_examples=200, deadline=None)
@given(
    frame_id=st.text(
        st.characters(exclude_characters='\0', exclude_categories=['Cs']), max_size=9
    ),
    encoding=st.text(
        st.characters(exclude_characters='\0', exclude_categories=['Cs']), max_size=9
    ),
    height=st.integers(0, 2**32 - 1),
    width=st.integers(0, 2**32 - 1),
    step=st.integers(0, 2**32 - 1),
    is_bigendian=st.integers(0, 255),
    data=st.binary(max_size=40),
)
def test_it_reads_what_ros_writes(frame_id, data, **fields):
    """Every length of text, so that every alignment occurs."""
    read = read_image(serialised(frame_id, data=data, **fields))
    assert read.header.frame_id == frame_id
    assert (read.header.stamp.sec, read.header.stamp.nanosec) == (-5, 4_000_000_000)
    assert {name: getattr(read, name) for name in fields} == fields
    assert bytes(read.data) == data


def test_pixels_are_a_view():
    pixels = np.arange(4 * 6 * 3, dtype=np.uint8).reshape(4, 6, 3)
    message = serialize_message(to_message(pixels, Header()))
    bgr = to_bgr(read_image(message))
    np.testing.assert_array_equal(bgr, pixels)
    assert np.shares_memory(bgr, np.frombuffer(message, np.uint8))
    assert not bgr.flags.writeable


def test_every_shortened_message_is_refused():
    whole = serialised(encoding='bgr8', height=2, width=2, step=6, data=bytes(12))
    end = whole.rindex(bytes(12)) + 12
    for length in range(end):
        with pytest.raises(ImageError):
            read_image(whole[:length])
    assert len(read_image(whole[:end]).data) == 12


@settings(max_examples=300, deadline=None)
@given(place=st.integers(0, 70), value=st.integers(0, 255))
def test_a_changed_byte_is_read_or_refused(place, value):
    whole = bytearray(serialised(encoding='bgr8', height=2, width=2, step=6, data=bytes(12)))
    whole[place % len(whole)] = value
    # Any other exception fails the test.
    with contextlib.suppress(ImageError):
        read_image(bytes(whole))


@pytest.mark.parametrize('begin', [b'\x00\x00\x00\x00', b'\x00\x03\x00\x00', b''])
def test_other_representations_are_named(begin):
    with pytest.raises(ImageError, match='no little-endian CDR'):
        read_image(begin + serialised()[4:] if begin else b'')
