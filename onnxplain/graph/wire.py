"""Where the raw bytes of a model's initializers lie, read off protobuf's wire format.

Protobuf copies every byte that it parses, and again when a field is read; without the large raw_data little
is left for it to do. Only what is plain is taken out: what is odd or damaged stays, for protobuf to judge.
"""

from __future__ import annotations

import mmap
from collections.abc import Iterator
from typing import NamedTuple

Buffer = bytes | mmap.mmap

_GRAPH = 7  # of ModelProto
_INITIALIZER = 5  # of GraphProto
_RAW_DATA = 9  # of TensorProto
_LONGEST_TAG, _LONGEST_VALUE = 5, 10  # bytes of a varint that protobuf takes; lengths are as tags
_MOST_PARTS = 1 << 20  # fields of a model or graph that are walked: Python is slow
_MOST_FIELDS = 1 << 7  # of a tensor


class _Odd(Exception):
    """What protobuf must judge."""


class _Field(NamedTuple):
    """A delimited field: its number, where it starts, and where its content lies."""

    number: int
    start: int
    content: slice


def strip(data: Buffer, least: int) -> tuple[bytes, dict[int, slice]]:
    """Return the bytes of a model with every raw_data of `least` bytes or more emptied, and where they lie.

    The slices of `data` are by the initializer's position in the main graph, in the order of the file.
    """
    whole = slice(0, len(data))
    try:
        (graph,) = _found(data, whole, _GRAPH, _MOST_PARTS)
        tensors = _found(data, graph.content, _INITIALIZER, _MOST_PARTS)
    except (_Odd, ValueError):  # ValueError: no graph, or several, which protobuf merges
        return data[:], {}
    raw: dict[int, slice] = {}
    light: list[tuple[_Field, bytes]] = []
    for i, tensor in enumerate(tensors):
        field = _raw_data(data, tensor.content, least)
        if field is not None:
            raw[i] = field.content
            light.append((tensor, _replaced(data, tensor.content, [(field, b"")])))
    return _replaced(data, whole, [(graph, _replaced(data, graph.content, light))]), raw


def _raw_data(data: Buffer, tensor: slice, least: int) -> _Field | None:
    """Return the field of a tensor's raw bytes; None where they are few, or where it has no single one."""
    if tensor.stop - tensor.start < least:
        return None
    try:
        (field,) = _found(data, tensor, _RAW_DATA, _MOST_FIELDS)
    except (_Odd, ValueError):
        return None
    return field if field.content.stop - field.content.start >= least else None


def _found(data: Buffer, message: slice, number: int, most: int) -> list[_Field]:
    return [field for field in _fields(data, message, most) if field.number == number]


def _fields(data: Buffer, message: slice, most: int) -> Iterator[_Field]:
    """Yield the delimited fields of a message; raises _Odd where it is not `most` or fewer whole fields.

    Protobuf keeps a known field of another wire type as an unknown one, so only these matter.
    """
    at = message.start
    while at < message.stop:
        start = at
        tag, at = _varint(data, start, _LONGEST_TAG)
        content = None
        match tag & 7:
            case 0:  # a varint
                _, at = _varint(data, at, _LONGEST_VALUE)
            case 1:
                at += 8
            case 2:  # delimited: a string, bytes, a message
                length, at = _varint(data, at, _LONGEST_TAG)
                content = slice(at, at + length)
                at += length
            case 5:
                at += 4
            case _:  # groups, which ONNX does not use
                raise _Odd
        most -= 1
        if at > message.stop or most < 0:
            raise _Odd
        if content is not None:
            yield _Field(tag >> 3, start, content)


def _varint(data: Buffer, at: int, longest: int) -> tuple[int, int]:
    """Return a number written in seven bits per byte, and where it ends."""
    value = 0
    for i, byte in enumerate(data[at : at + longest]):
        value |= (byte & 0x7F) << 7 * i
        if byte < 0x80:
            return value, at + i + 1
    raise _Odd


def _replaced(data: Buffer, message: slice, contents: list[tuple[_Field, bytes]]) -> bytes:
    """Return the bytes of a message with other contents in some of its fields, given in their order."""
    pieces, at = [], message.start
    for field, content in contents:
        tag, length = _written(field.number << 3 | 2), _written(len(content))
        pieces += [data[at : field.start], tag, length, content]
        at = field.content.stop
    return b"".join([*pieces, data[at : message.stop]])


def _written(value: int) -> bytes:
    """Return a number as a varint."""
    written = bytearray()
    while value >= 0x80:
        written.append(value & 0x7F | 0x80)
        value >>= 7
    return bytes([*written, value])
