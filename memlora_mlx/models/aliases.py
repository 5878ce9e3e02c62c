"""New names for functions of a shared library that is already loaded, without a copy of the library.

The dynamic linker finds a function by its name. Where a library exports `scipy_cblas_sgemm` and another library asks for
`cblas_sgemm`, a second, tiny library can stand between them: it holds a table of names and addresses and no code. Each
of its symbols is absolute (SHN_ABS), so the linker takes the address as it stands; glibc does so since 2.28, and MLX's
wheels for Linux ask for a later one. The table has the same form on every 64-bit little-endian processor.

Source of the format: System V ABI, chapters 4 and 5 (ELF header, program header, symbol table, hash table, dynamic
section).
"""

from __future__ import annotations

import ctypes
import struct
import tempfile
from collections.abc import Mapping
from pathlib import Path

_HEADER, _SEGMENT, _SYMBOL, _ENTRY = "<20sIQQQIHHHHHH", "<IIQQQQQQ", "<IBBHQQ", "<qQ"
_LOAD, _DYNAMIC, _STACK = 1, 2, 0x6474E551
_READ_WRITE = 6
_GLOBAL_FUNCTION, _ABSOLUTE = 0x12, 0xFFF1
# One alignment for the three page sizes of Linux: 4, 16 and 64 KiB.
_LARGEST_PAGE = 0x10000


def publish(addresses: Mapping[str, int], like: Path) -> None:
    """Make each name stand for its address in every library that is loaded from now on.

    `like` is any shared library for this processor. What an earlier library published under a name goes first. Raises
    OSError where `like` is no 64-bit little-endian library, no temporary file can be written, or the linker refuses it.
    """
    with like.open("rb") as library:
        start = library.read(20)
    if start[:6] != b"\x7fELF\x02\x01":
        raise OSError(f"{like} is no 64-bit little-endian shared library")
    # The linker knows a library by its path and maps it for reading only, so a file of its own, on any file system, will
    # do; it may go once it is mapped.
    with tempfile.NamedTemporaryFile(prefix="memlora-aliases-", suffix=".so") as file:
        file.write(_image(addresses, start))
        file.flush()
        ctypes.CDLL(file.name, mode=ctypes.RTLD_GLOBAL)


def _image(addresses: Mapping[str, int], start: bytes) -> bytes:
    """The bytes of the library. `start`: the first 20 of a library for this processor, that is, kind and processor."""
    names = [b"", *(name.encode() for name in addresses)]
    text, places = bytearray(), []
    for name in names:
        places.append(len(text))
        text += name + b"\0"
    symbols = struct.pack(_SYMBOL, 0, 0, 0, 0, 0, 0) + b"".join(
        struct.pack(_SYMBOL, place, _GLOBAL_FUNCTION, 0, _ABSOLUTE, address, 0)
        for place, address in zip(places[1:], addresses.values(), strict=True)
    )
    table = _hash_table(names)
    segments = 3
    symbols_at = struct.calcsize(_HEADER) + segments * struct.calcsize(_SEGMENT)
    table_at = symbols_at + len(symbols)
    text_at = table_at + len(table)
    dynamic_at = -(-(text_at + len(text)) // 8) * 8
    # DT_HASH, DT_STRTAB, DT_SYMTAB, DT_STRSZ, DT_SYMENT, DT_NULL
    values = [(4, table_at), (5, text_at), (6, symbols_at), (10, len(text)), (11, struct.calcsize(_SYMBOL)), (0, 0)]
    dynamic = b"".join(struct.pack(_ENTRY, *value) for value in values)
    end = dynamic_at + len(dynamic)
    header = struct.pack(_HEADER, start, 1, 0, struct.calcsize(_HEADER), 0, 0, 64, 56, segments, 64, 0, 0)
    # Writable, for some linkers put addresses into the dynamic section; never executable.
    header += struct.pack(_SEGMENT, _LOAD, _READ_WRITE, 0, 0, 0, end, end, _LARGEST_PAGE)
    header += struct.pack(
        _SEGMENT, _DYNAMIC, _READ_WRITE, dynamic_at, dynamic_at, dynamic_at, len(dynamic), len(dynamic), 8
    )
    # Without this segment the linker would take the stack to be executable.
    header += struct.pack(_SEGMENT, _STACK, _READ_WRITE, 0, 0, 0, 0, 0, 16)
    return (header + symbols + table + bytes(text)).ljust(dynamic_at, b"\0") + dynamic


def _hash_table(names: list[bytes]) -> bytes:
    """The chains of symbols with one hash, padded to 8 bytes; number 0 is the empty symbol and ends a chain."""
    buckets, chains = [0] * (2 * len(names)), [0] * len(names)
    for number, name in enumerate(names[1:], start=1):
        bucket = _hash(name) % len(buckets)
        chains[number], buckets[bucket] = buckets[bucket], number
    words = [len(buckets), len(chains), *buckets, *chains]
    return struct.pack(f"<{len(words)}I", *words).ljust(-(-len(words) // 2) * 8, b"\0")


def _hash(name: bytes) -> int:
    value = 0
    for byte in name:
        value = (value << 4) + byte
        value = (value ^ ((value & 0xF0000000) >> 24)) & 0x0FFFFFFF
    return value
