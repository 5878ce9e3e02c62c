"""How requests to an engine and its answers are written as JSON, between a command and the resident process."""

from __future__ import annotations

import base64
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from memlora_mlx.errors import UsageError
from memlora_mlx.records import Completion, Grammar, Handicap, Request


def request_to_json(request: Request) -> dict[str, Any]:
    image = str(request.image.absolute()) if request.image is not None else None
    return {**asdict(request), "image": image}


def request_from_json(given: Mapping[str, Any]) -> Request:
    """Raises UsageError: it is not what `request_to_json` writes."""
    try:
        grammar = given["grammar"]
        handicap = grammar and grammar["handicap"]
        return Request(
            stage=given["stage"],
            chat=tuple((role, text) for role, text in given["chat"]),
            grammar=grammar and Grammar(**{**grammar, "handicap": handicap and Handicap(**handicap)}),
            max_tokens=int(given["max_tokens"]),
            image=Path(given["image"]) if given["image"] is not None else None,
            stop_repetition=bool(given["stop_repetition"]),
        )
    except (KeyError, TypeError, ValueError) as error:
        raise UsageError(f"this is no request to an engine ({type(error).__name__}: {error})") from error


def completion_to_json(completion: Completion) -> dict[str, Any]:
    return asdict(completion)


def completion_from_json(given: Mapping[str, Any]) -> Completion:
    return Completion(**given)


def vectors_to_json(vectors: NDArray[np.float32]) -> dict[str, Any]:
    """Vectors with all their bits."""
    exact = np.ascontiguousarray(vectors, dtype="<f4")
    return {"shape": list(exact.shape), "float32": base64.b64encode(exact.tobytes()).decode()}


def vectors_from_json(given: Mapping[str, Any]) -> NDArray[np.float32]:
    flat = np.frombuffer(base64.b64decode(given["float32"]), dtype="<f4")
    return flat.reshape(given["shape"]).astype(np.float32)
