"""Stops a build that would lack a part of memlora, and says why."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

from hatchling.builders.hooks.plugin.interface import BuildHookInterface

FOLDERS = ("tui", "eval", "adapters")  # they stand beside memlora_mlx; links in it lead to them
MAKE_LINKS = f"for name in {' '.join(FOLDERS)}; do ln -sfn ../$name memlora_mlx/$name; done"


class CompleteSource(BuildHookInterface[Any]):
    """Checks the folders of the source before a wheel, an sdist or an editable install is made."""

    def initialize(self, version: str, build_data: dict[str, Any]) -> None:
        """Exit with one line where a folder is missing, or where an editable install has no links to lead to it."""
        root = Path(self.root)
        for name in FOLDERS:
            if not (root / name / "__init__.py").is_file():
                sys.exit(
                    f"memlora cannot be built: the folder {name} is missing from {root}; get the whole source again"
                )
            if version == "editable" and not (root / "memlora_mlx" / name / "__init__.py").is_file():
                sys.exit(
                    f"memlora cannot be installed as editable: memlora_mlx/{name} is no symbolic link here, because the "
                    f"source came without links; make them with: {MAKE_LINKS}"
                )
