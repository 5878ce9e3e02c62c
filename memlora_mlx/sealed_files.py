"""Files that are encrypted as a whole, with AES-256-GCM.

A sealed file begins with a mark and the name of its key, so that a reader knows whether and with what to open it. Its own
name goes into the authentication: one sealed file cannot stand in for another. Nothing plain of it is ever on the disk.
"""

from __future__ import annotations

import os
import secrets
from collections.abc import Sequence
from pathlib import Path, PosixPath

from memlora_mlx.errors import StoreBroken
from memlora_mlx.files import atomic_write

MARK = b"memlora\0sealed\x01"
_KEY_NAME = 8  # bytes
_NONCE = 12
_HEAD = len(MARK) + _KEY_NAME + _NONCE


class Sealer:
    """Seals and opens the contents of files.

    Args:
        keys: 32 bytes each. The first seals, all of them open. Without one, files are written plain.
        seals: whether new files are sealed at all.
    """

    def __init__(self, keys: Sequence[bytes] = (), *, seals: bool = True) -> None:
        self._keys = {_key_name(key): key for key in keys}
        self._first = next(iter(self._keys), None) if seals else None

    @property
    def is_plain(self) -> bool:
        """Whether new files are written plain."""
        return self._first is None

    def seal(self, content: bytes, name: str) -> bytes:
        """What is to be written to the file of that name.

        Raises:
            OverflowError: there are 2 GB or more of it.
        """
        if self._first is None:
            return content
        from cryptography.hazmat.primitives.ciphers.aead import AESGCM

        head, nonce = MARK + self._first, secrets.token_bytes(_NONCE)
        return head + nonce + AESGCM(self._keys[self._first]).encrypt(nonce, content, head + name.encode())

    def open(self, content: bytes, name: str) -> bytes:
        """The plain content of a file of that name, sealed or not.

        Raises:
            StoreBroken: it is damaged, of another name, or sealed with a key that is not here.
        """
        if not is_sealed(content):
            return content
        key = self._keys.get(content[len(MARK) : len(MARK) + _KEY_NAME])
        if key is None:
            raise StoreBroken(f"{name} is encrypted with a key that this store does not have; restore it from a copy")
        from cryptography.exceptions import InvalidTag
        from cryptography.hazmat.primitives.ciphers.aead import AESGCM

        head, nonce = content[: len(MARK) + _KEY_NAME], content[_HEAD - _NONCE : _HEAD]
        try:
            return AESGCM(key).decrypt(nonce, memoryview(content)[_HEAD:], head + name.encode())
        except (InvalidTag, ValueError) as error:
            raise StoreBroken(f"{name} is damaged; restore it from a copy") from error

    def read(self, path: Path) -> bytes:
        """The plain content of a file. Raises OSError, and StoreBroken as `open` does."""
        return self.open(path.read_bytes(), path.name)

    def write(self, path: Path, content: bytes) -> None:
        """Write a file whole, or leave what is there."""
        atomic_write(path, self.seal(content, path.name))

    def is_current(self, path: Path) -> bool:
        """Whether a file is as this sealer would write it: plain, or sealed with the first key."""
        head = _head_of(path)
        if self._first is None:
            return not head.startswith(MARK)
        return head[: len(MARK) + _KEY_NAME] == MARK + self._first

    def reseal(self, path: Path) -> bool:
        """Write a file anew as this sealer does, whole or not at all. Returns whether that was due."""
        if self.is_current(path):
            return False
        times = path.stat()  # a picture's age says whether it may be removed
        self.write(path, self.read(path))
        os.utime(path, ns=(times.st_atime_ns, times.st_mtime_ns))
        return True


PLAIN = Sealer()


class SealedPath(PosixPath):
    """The path of a file that may be sealed; `read_bytes` gives its plain content."""

    sealer = PLAIN

    def read_bytes(self) -> bytes:
        return self.sealer.open(super().read_bytes(), self.name)


def sealed_path(path: Path, sealer: Sealer) -> Path:
    """The path, with `read_bytes` opening what is sealed. It is an ordinary path where nothing is."""
    if sealer.is_plain:
        return path
    found = SealedPath(path)
    found.sealer = sealer
    return found


def is_sealed(content: bytes) -> bool:
    return content.startswith(MARK)


def derived_key(master: bytes, purpose: str) -> bytes:
    """The key of one purpose, 32 bytes, from a master key (HKDF, RFC 5869)."""
    from cryptography.hazmat.primitives.hashes import SHA256
    from cryptography.hazmat.primitives.kdf.hkdf import HKDF

    return HKDF(SHA256(), 32, salt=None, info=purpose.encode()).derive(master)


def _key_name(key: bytes) -> bytes:
    return derived_key(key, "memlora key name")[:_KEY_NAME]


def _head_of(path: Path) -> bytes:
    with path.open("rb") as file:
        return file.read(_HEAD)
