"""Reads the GGUF format, versions 2 and 3: what a file says about itself, and its tensors.

The format is that of https://github.com/ggml-org/ggml/blob/master/docs/gguf.md. Files come from anywhere: every length is
held against what is left of the file before anything is read or allocated. MLX has a reader of its own, in C, which
ends the process on some damaged files.
"""

from __future__ import annotations

import math
import struct
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from memlora_mlx.errors import ModelBroken
from memlora_mlx.extras import require

MAX_TEXTS = (
    4_000_000  # in all lists of a file; a vocabulary of 256 thousand tokens and its merges have about one million
)
MAX_HEADER_ITEMS = 100_000  # tensors, and fields; a model of 80 layers has about a thousand tensors
MAX_AXES = 4
MAX_LIST_DEPTH = 4  # lists in lists
_FLOAT16 = np.dtype("<f2")
_NUMBERS = {
    0: "<u1",
    1: "<i1",
    2: "<u2",
    3: "<i2",
    4: "<u4",
    5: "<i4",
    6: "<f4",
    7: "?",
    10: "<u8",
    11: "<i8",
    12: "<f8",
}
_TEXT, _LIST = 8, 9
_TYPES = {
    0: "F32", 1: "F16", 2: "Q4_0", 3: "Q4_1", 6: "Q5_0", 7: "Q5_1", 8: "Q8_0", 9: "Q8_1", 10: "Q2_K", 11: "Q3_K",
    12: "Q4_K", 13: "Q5_K", 14: "Q6_K", 15: "Q8_K", 20: "IQ4_NL", 23: "IQ4_XS", 28: "F64", 30: "BF16",
}  # fmt: skip


@dataclass(frozen=True, slots=True)
class GgufTensor:
    """A tensor of the file, not read yet."""

    name: str
    shape: tuple[int, ...]  # the outermost axis first, as MLX and NumPy have it
    type_name: str  # "Q4_1", "F32", ...
    offset: int  # of its first byte in the file


class GgufFile:
    """The header of a GGUF file.

    Attributes:
        fields: numbers, truth values, lists of them as NumPy arrays, and texts as bytes, by key.
        tensors: by name.
    """

    def __init__(self, path: Path) -> None:
        """Raises OSError, ValueError for what is no whole GGUF file, ModelBroken for another form of the format."""
        self.path = path
        with path.open("rb") as file:
            self._file, self._size = file, path.stat().st_size
            self._texts_left = MAX_TEXTS
            if self._bytes(4) != b"GGUF":
                raise ValueError("it does not begin with GGUF")
            version = int(self._number("<u4"))
            if version & 0xFFFF == 0:
                raise ModelBroken(f"{path}: it is big-endian; memlora reads little-endian files")
            if version == 1:
                raise ModelBroken(f"{path}: its format is version 1; memlora reads versions 2 and 3")
            if version not in (2, 3):
                raise ValueError(f"its format is version {version}")
            tensors, fields = int(self._number("<u8")), int(self._number("<u8"))
            if max(tensors, fields) > MAX_HEADER_ITEMS:
                raise ValueError(f"its header has more than {MAX_HEADER_ITEMS} entries")
            self.fields: dict[str, Any] = {}
            for _ in range(fields):
                key = self._bytes(int(self._number("<u8"))).decode()
                if key in self.fields:
                    raise ValueError(f"it has {key} twice")
                self.fields[key] = self._value(int(self._number("<u4")), MAX_LIST_DEPTH)
            described = [self._tensor() for _ in range(tensors)]
            alignment = self.fields.get("general.alignment", 32)
            if not isinstance(alignment, int) or alignment <= 0 or alignment & (alignment - 1):
                raise ValueError(f"general.alignment is {alignment}, not a power of two")
            start = -(-file.tell() // alignment) * alignment
        self.tensors: dict[str, GgufTensor] = {}
        for name, shape, type_name, offset in described:
            if name in self.tensors:
                raise ValueError(f"it has the tensor {name} twice")
            self.tensors[name] = tensor = GgufTensor(name, shape, type_name, start + offset)
            if type_name in _BLOCKS and tensor.offset + _stored_bytes(tensor) > self._size:
                raise ValueError("it ends too early")

    def values(self, tensor: GgufTensor) -> NDArray[np.float32]:
        """The tensor's numbers.

        Raises:
            OSError: the file cannot be read.
            ValueError: its type is not one of `READABLE_TYPES`, or the file was cut meanwhile.
            ExtraMissing: its type is one that only the gguf package reads.
        """
        size = _stored_bytes(tensor)
        raw = np.fromfile(self.path, dtype=np.uint8, count=size, offset=tensor.offset)
        if raw.size != size:  # somebody has cut it since
            raise ValueError("it ends too early")
        _, block_bytes, expand = _BLOCKS[tensor.type_name]
        return expand(raw.reshape(-1, block_bytes)).reshape(tensor.shape)

    def _bytes(self, count: int) -> bytes:
        if count > self._size - self._file.tell() or len(found := self._file.read(count)) != count:
            raise ValueError("it ends too early")
        return found

    def _number(self, kind: str) -> Any:
        dtype = np.dtype(kind)
        return np.frombuffer(self._bytes(dtype.itemsize), dtype)[0].item()

    def _value(self, kind: int, depth: int) -> Any:
        if kind in _NUMBERS:
            return self._number(_NUMBERS[kind])
        if kind == _TEXT:
            return self._bytes(int(self._number("<u8")))
        if kind != _LIST or depth == 0:
            raise ValueError(f"it has a value of the unknown type {kind}")
        inner, count = int(self._number("<u4")), int(self._number("<u8"))
        if inner in _NUMBERS:
            dtype = np.dtype(_NUMBERS[inner])
            return np.frombuffer(self._bytes(dtype.itemsize * count), dtype)
        self._texts_left -= count
        if 8 * count > self._size - self._file.tell():  # each has at least a length
            raise ValueError("it ends too early")
        if self._texts_left < 0:
            raise ValueError(f"its lists have more than {MAX_TEXTS} parts")
        if inner != _TEXT:
            return [self._value(inner, depth - 1) for _ in range(count)]
        return [self._bytes(struct.unpack("<Q", self._bytes(8))[0]) for _ in range(count)]

    def _tensor(self) -> tuple[str, tuple[int, ...], str, int]:
        name = self._bytes(int(self._number("<u8"))).decode()
        axes = int(self._number("<u4"))
        if not 0 < axes <= MAX_AXES:
            raise ValueError(f"tensor {name} has {axes} axes")
        shape = tuple(int(self._number("<u8")) for _ in range(axes))[::-1]  # the file has the innermost axis first
        number = int(self._number("<u4"))
        type_name = _TYPES.get(number, f"of the unknown type {number}")
        return name, shape, type_name, int(self._number("<u8"))


def _stored_bytes(tensor: GgufTensor) -> int:
    if tensor.type_name not in _BLOCKS:
        raise ValueError(f"tensor {tensor.name} is {tensor.type_name}")
    values, size, _ = _BLOCKS[tensor.type_name]
    if tensor.shape[-1] % values:
        raise ValueError(f"tensor {tensor.name} has rows of {tensor.shape[-1]}, not of whole blocks of {values}")
    return math.prod(tensor.shape) // values * size


def _column(blocks: NDArray[np.uint8], start: int) -> NDArray[np.float32]:
    """The 16-bit number at a place of each block, as a column."""
    return np.ascontiguousarray(blocks[:, start : start + 2]).view(_FLOAT16).astype(np.float32)


def _nibbles(packed: NDArray[np.uint8]) -> NDArray[np.float32]:
    """16 bytes are 32 numbers of 4 bits: the low halves first, then the high ones."""
    return np.concatenate([packed & 0x0F, packed >> 4], axis=1).astype(np.float32)


def _q4_0(blocks: NDArray[np.uint8]) -> NDArray[np.float32]:
    return _column(blocks, 0) * (_nibbles(blocks[:, 2:]) - np.float32(8))


def _q4_1(blocks: NDArray[np.uint8]) -> NDArray[np.float32]:
    return _column(blocks, 0) * _nibbles(blocks[:, 4:]) + _column(blocks, 2)


def _q8_0(blocks: NDArray[np.uint8]) -> NDArray[np.float32]:
    return _column(blocks, 0) * blocks[:, 2:].view(np.int8).astype(np.float32)


def _f16(blocks: NDArray[np.uint8]) -> NDArray[np.float32]:
    return _column(blocks, 0)


def _f32(blocks: NDArray[np.uint8]) -> NDArray[np.float32]:
    return blocks.view(np.dtype("<f4")).astype(np.float32)


def _by_package(type_name: str) -> Callable[[NDArray[np.uint8]], NDArray[np.float32]]:
    """How the gguf package expands blocks of a type."""

    def expand(blocks: NDArray[np.uint8]) -> NDArray[np.float32]:
        require("gguf", f"a GGUF file with {type_name} tensors")
        from gguf import GGMLQuantizationType
        from gguf.quants import dequantize

        numbers: NDArray[np.float32] = dequantize(blocks, GGMLQuantizationType[type_name])
        return numbers

    return expand


# Of each type: numbers in a block, bytes in a block, and blocks (one a row) to numbers. ggml's `ggml-common.h` has them.
_BLOCKS: dict[str, tuple[int, int, Callable[[NDArray[np.uint8]], NDArray[np.float32]]]] = {
    "Q4_0": (32, 18, _q4_0),
    "Q4_1": (32, 20, _q4_1),
    "Q8_0": (32, 34, _q8_0),
    "F16": (1, 2, _f16),
    "F32": (1, 4, _f32),
    **{
        name: (numbers, size, _by_package(name))
        for name, numbers, size in (
            ("Q5_0", 32, 22),
            ("Q5_1", 32, 24),
            ("Q2_K", 256, 84),
            ("Q3_K", 256, 110),
            ("Q4_K", 256, 144),
            ("Q5_K", 256, 176),
            ("Q6_K", 256, 210),
            ("IQ4_NL", 32, 18),
            ("IQ4_XS", 256, 136),
            ("BF16", 1, 2),
        )
    },
}
READABLE_TYPES = tuple(_BLOCKS)
