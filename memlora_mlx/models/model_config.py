"""What a model folder holds, told by its config.json alone: no MLX, no weights."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any


def read_vision_config(folder: Path) -> dict[str, Any] | None:
    """The config of a model with a vision tower; None for any other, and where it cannot be read."""
    try:
        config = json.loads((folder / "config.json").read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return None
    return config if isinstance(config, dict) and config.get("vision_config") else None


def text_only_message(student: str) -> str:
    """What a user reads who shows a picture to a student that cannot see."""
    return f"{student} reads text only; `memlora models pull internvl3-1b` fetches a student that sees: --student internvl3-1b"
