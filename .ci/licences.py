"""Writes docs/licences.md: the licence of every package that memlora installs, as the package's own metadata states it.

With --check it writes nothing, and fails where a package or its licence is not what the table says. Run in an environment made by
`make install`. A package that only another system installs keeps the row it has.
"""

from __future__ import annotations

import re
import sys
from collections.abc import Iterator
from importlib import metadata
from pathlib import Path

from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

ROOT = Path(__file__).resolve().parents[1]
PINS, TABLE = ROOT / "requirements" / "install.txt", ROOT / "docs" / "licences.md"
SYSTEMS = (("linux", "Linux", "x86_64"), ("linux", "Linux", "aarch64"), ("darwin", "Darwin", "arm64"))
PYTHONS = ("3.11", "3.12", "3.13", "3.14")
EXTRAS = ("tui", "train", "bench", "vision", "teach", "gguf", "serve", "encryption")
# Of packages whose metadata is silent, as their licence files say.
UNSTATED = {"sqlcipher3": "Zlib, and BSD-3-Clause of SQLCipher, which it contains"}
HEAD = """# Licences of the packages that memlora installs

Made by `make licences` from the metadata of the installed packages; each package's own files say more. "With" is
what brings a package: the core, or the extras that it comes with. `make check` holds the table up to date.

| package | licence | with |
|---|---|---|
"""


def main(arguments: list[str]) -> int:
    rows = _rows(TABLE.read_text(encoding="utf-8") if TABLE.exists() else "")
    names = sorted(_pinned())
    brought = _brought()
    for name in names:
        try:
            licence = _licence(metadata.metadata(name))
        except metadata.PackageNotFoundError:
            if name not in rows:
                print(f"{name} is not installed here, and docs/licences.md has no row to keep for it", file=sys.stderr)
                return 1
            continue
        rows[name] = f"| {name} | {licence} | {', '.join(brought.get(name, ['the build']))} |"
    made = HEAD + "".join(f"{rows[name]}\n" for name in names)
    if "--check" not in arguments:
        TABLE.write_text(made, encoding="utf-8")
    elif _stated(made) != _stated(TABLE.read_text(encoding="utf-8")):
        print("docs/licences.md differs from what is installed. Write it again with `make licences`.", file=sys.stderr)
        return 1
    return 0


def _rows(table: str) -> dict[str, str]:
    return {line.split("|")[1].strip(): line for line in table.splitlines() if line.startswith("| ")}


def _stated(table: str) -> list[list[str]]:
    """Package and licence of each row. What brings a package can differ by system, so a check leaves that out."""
    return [row.split("|")[1:3] for row in _rows(table).values()]


def _pinned() -> Iterator[str]:
    """The packages in the pins that any system named above installs."""
    for line in PINS.read_text(encoding="utf-8").splitlines():
        if re.match(r"[a-z0-9]", line):
            wanted = Requirement(line.rstrip("\\ "))
            if any(wanted.marker is None or wanted.marker.evaluate(system) for system in _systems()):
                yield canonicalize_name(wanted.name)


def _systems() -> Iterator[dict[str, str]]:
    for sys_platform, platform_system, machine in SYSTEMS:
        for version in PYTHONS:
            yield {
                "sys_platform": sys_platform,
                "platform_system": platform_system,
                "platform_machine": machine,
                "python_version": version,
                "python_full_version": f"{version}.0",
            }


def _licence(package: metadata.PackageMetadata) -> str:
    """The licence expression; in older metadata the licence's name, or the classifiers'."""
    if stated := package.get("License-Expression"):
        return stated
    named = (package.get("License") or "").strip()
    classified = [
        value.split(" :: ")[-1] for value in package.get_all("Classifier") or [] if value.startswith("License ::")
    ]
    if named and "\n" not in named and len(named) < 60:
        return named
    return "; ".join(classified) or UNSTATED.get(package["Name"], "not stated in its metadata")


def _brought() -> dict[str, list[str]]:
    """What brings each installed package: "core", else the extras."""
    core = _closure("memlora-mlx", "")
    extras = {extra: _closure("memlora-mlx", extra) for extra in EXTRAS}
    names = core.union(*extras.values())
    return {name: ["core"] if name in core else [extra for extra in EXTRAS if name in extras[extra]] for name in names}


def _closure(package: str, extra: str) -> set[str]:
    found: set[str] = set()
    ahead = [(package, extra)]
    seen = set(ahead)
    while ahead:
        name, extra = ahead.pop()
        try:
            wanted = [Requirement(line) for line in metadata.requires(name) or []]
        except metadata.PackageNotFoundError:
            continue
        for need in wanted:
            if need.marker is None or need.marker.evaluate({"extra": extra}):
                found.add(canonicalize_name(need.name))
                for step in [(need.name, ""), *((need.name, inner) for inner in need.extras)]:
                    if step not in seen:
                        seen.add(step)
                        ahead.append(step)
    return found


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
