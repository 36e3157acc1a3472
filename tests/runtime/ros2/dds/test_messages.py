"""Every message, byte for byte beside rosbags' own CDR and definitions of ROS 2, both ways."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from rosbags.typesys import Stores, get_typestore

from vla_edge.runtime.ros2.dds import messages
from vla_edge.runtime.ros2.dds.messages import (
    CompressedImage,
    DiagnosticArray,
    DiagnosticStatus,
    Header,
    KeyValue,
    String,
    Time,
    Twist,
    Vector3,
    nanoseconds_of,
    time_of,
)

STORES = [get_typestore(store) for store in (Stores.ROS2_HUMBLE, Stores.ROS2_JAZZY)]

times = st.builds(Time, st.integers(-(2**31), 2**31 - 1), st.integers(0, 2**32 - 1))
# a string of C ends at its first zero
texts = st.text(st.characters(exclude_characters="\0", exclude_categories=["Cs"]), max_size=40)
numbers = st.floats(allow_nan=False)
headers = st.builds(Header, times, texts)
vectors = st.builds(Vector3, numbers, numbers, numbers)
pairs = st.builds(KeyValue, texts, texts)
# rosbags reads a byte as a signed number; levels are 0 to 3
statuses = st.builds(DiagnosticStatus, st.integers(0, 127), texts, texts, texts, st.lists(pairs, max_size=3))

ANY = {
    "builtin_interfaces/msg/Time": times,
    "std_msgs/msg/Header": headers,
    "std_msgs/msg/String": st.builds(String, texts),
    "sensor_msgs/msg/CompressedImage": st.builds(CompressedImage, headers, texts, st.binary(max_size=200)),
    "geometry_msgs/msg/Vector3": vectors,
    "geometry_msgs/msg/Twist": st.builds(Twist, vectors, vectors),
    "diagnostic_msgs/msg/KeyValue": pairs,
    "diagnostic_msgs/msg/DiagnosticStatus": statuses,
    "diagnostic_msgs/msg/DiagnosticArray": st.builds(
        DiagnosticArray, headers, st.lists(statuses, max_size=3)
    ),
}


def theirs(message: Any, kind: str, store: Any) -> Any:
    """The same message as an object of rosbags."""
    known = store.types[kind]
    values = {}
    for name, (node, detail) in store.fielddefs[kind][1]:
        value = getattr(message, name)
        if node.name == "NAME":
            value = theirs(value, detail, store)
        elif isinstance(value, bytes):
            value = np.frombuffer(value, np.uint8)
        elif isinstance(value, list):
            value = [theirs(each, detail[0][1], store) for each in value]
        values[name] = value
    return known(**values)


@pytest.mark.parametrize("kind", ANY)
@given(data=st.data())
def test_its_bytes_are_those_of_ros_2(kind: str, data: st.DataObject) -> None:
    message = data.draw(ANY[kind])
    for store in STORES:
        expected = bytes(store.serialize_cdr(theirs(message, kind, store), kind))
        assert message.serialize(use_version_2=False) == expected
        for endianness in (True, False):
            told = bytes(store.serialize_cdr(theirs(message, kind, store), kind, little_endian=endianness))
            assert type(message).deserialize(told) == message


@pytest.mark.parametrize("kind", ANY)
def test_its_type_is_called_as_ros_2_calls_it_on_dds(kind: str) -> None:
    package, _, name = kind.split("/")
    ours = getattr(messages, name)
    ours.__idl__.populate()
    assert ours.__idl__.idl_transformed_typename == f"{package}::msg::dds_::{name}_"


@given(st.integers(0, 2**62))
def test_a_moment_stays_the_same(nanoseconds: int) -> None:
    nanoseconds %= (2**31 - 1) * 10**9
    assert nanoseconds_of(time_of(nanoseconds)) == nanoseconds


NO_UTF_8 = b"\xff\xfe"


def test_a_text_that_is_no_utf_8_is_read_nevertheless() -> None:
    told = String("ab").serialize(use_version_2=False).replace(b"ab", NO_UTF_8)
    assert String.deserialize(told) == String("\ufffd\ufffd")


def test_an_image_s_own_words_may_be_no_utf_8() -> None:
    image = CompressedImage(Header(Time(1, 2), "ab"), "ab", b"pixels")
    found = CompressedImage.deserialize(image.serialize(use_version_2=False).replace(b"ab", NO_UTF_8))
    assert found == CompressedImage(Header(Time(1, 2), "\ufffd\ufffd"), "\ufffd\ufffd", b"pixels")
