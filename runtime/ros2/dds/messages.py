"""Messages of ROS 2 as DDS has them: their type names, and their layouts in plain CDR.

Field by field as in ROS 2's own definitions (common_interfaces and rcl_interfaces). Their bytes are compared with
those of another implementation in the tests.
"""

# cyclonedds reads these annotations when the classes are made: none of them may be put off.

from dataclasses import dataclass
from typing import Any

from cyclonedds.idl import IdlStruct
from cyclonedds.idl.types import byte, float64, int32, sequence, uint8, uint32

_NS = 1_000_000_000


@dataclass
class Time(IdlStruct, typename="builtin_interfaces.msg.dds_.Time_"):
    """Since 1970, unless a simulator has a time of its own."""

    sec: int32
    nanosec: uint32


@dataclass
class Header(IdlStruct, typename="std_msgs.msg.dds_.Header_"):
    stamp: Time
    frame_id: str


@dataclass
class _StringBytes(IdlStruct, typename="std_msgs.msg.dds_.StringBytes_"):
    data: bytes


@dataclass
class String(IdlStruct, typename="std_msgs.msg.dds_.String_"):
    """ROS 2 lets a text be of any bytes; what is no UTF-8 becomes U+FFFD here, where cyclonedds would raise."""

    data: str

    @classmethod
    def deserialize(cls, *args: Any, **kwargs: Any) -> "String":
        return cls(_text(_StringBytes.deserialize(*args, **kwargs).data))


@dataclass
class _HeaderBytes(IdlStruct, typename="std_msgs.msg.dds_.HeaderBytes_"):
    stamp: Time
    frame_id: bytes


@dataclass
class _CompressedImageBytes(IdlStruct, typename="sensor_msgs.msg.dds_.CompressedImageBytes_"):
    header: _HeaderBytes
    format: bytes
    data: bytes


@dataclass
class CompressedImage(IdlStruct, typename="sensor_msgs.msg.dds_.CompressedImage_"):
    """`data` is `bytes`. cyclonedds would make a list of it, number by number; a field of type `bytes` has the same
    layout, but no description that other participants could be told. Its texts are as `String` says."""

    header: Header
    format: str
    data: sequence[uint8]

    def serialize(self, *args: Any, **kwargs: Any) -> bytes:
        header = _HeaderBytes(self.header.stamp, _raw(self.header.frame_id))
        told = _CompressedImageBytes(header, _raw(self.format), self.data)
        return bytes(told.serialize(*args, **kwargs))

    @classmethod
    def deserialize(cls, *args: Any, **kwargs: Any) -> "CompressedImage":
        found = _CompressedImageBytes.deserialize(*args, **kwargs)
        header = Header(found.header.stamp, _text(found.header.frame_id))
        return cls(header, _text(found.format), found.data)


@dataclass
class Vector3(IdlStruct, typename="geometry_msgs.msg.dds_.Vector3_"):
    x: float64
    y: float64
    z: float64


@dataclass
class Twist(IdlStruct, typename="geometry_msgs.msg.dds_.Twist_"):
    linear: Vector3
    angular: Vector3


@dataclass
class KeyValue(IdlStruct, typename="diagnostic_msgs.msg.dds_.KeyValue_"):
    key: str
    value: str


@dataclass
class DiagnosticStatus(IdlStruct, typename="diagnostic_msgs.msg.dds_.DiagnosticStatus_"):
    level: byte
    name: str
    message: str
    hardware_id: str
    values: sequence[KeyValue]


@dataclass
class DiagnosticArray(IdlStruct, typename="diagnostic_msgs.msg.dds_.DiagnosticArray_"):
    header: Header
    status: sequence[DiagnosticStatus]


def twist(x: float, y: float) -> Twist:
    """m/s forward and to the left; no rotation."""
    return Twist(Vector3(x, y, 0.0), Vector3(0.0, 0.0, 0.0))


def _raw(text: str) -> bytes:
    """A text as CDR has it, with the zero at its end."""
    return text.encode() + b"\0"


def _text(raw: bytes) -> str:
    return raw[:-1].decode(errors="replace")


def time_of(nanoseconds: int) -> Time:
    """A moment as ROS 2 writes it."""
    return Time(sec=nanoseconds // _NS, nanosec=nanoseconds % _NS)


def nanoseconds_of(time: Time) -> int:
    """A moment in nanoseconds; 0 where it was never set."""
    return int(time.sec) * _NS + int(time.nanosec)
