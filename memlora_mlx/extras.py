"""What memlora can do with more packages: which extra brings which, and the one line where one is missing."""

from __future__ import annotations

from collections.abc import Mapping
from importlib.util import find_spec

from memlora_mlx.errors import ExtraMissing

# The modules of each extra of pyproject.toml that the program imports.
EXTRAS: Mapping[str, tuple[str, ...]] = {
    "tui": ("textual", "textual_image", "textual_fspicker", "textual_plotext"),
    "train": ("matplotlib", "plotext"),
    "bench": ("rouge_score", "nltk"),
    "vision": ("mlx_vlm",),
    "teach": ("openai",),
    "gguf": ("gguf",),
    "serve": ("mcp", "starlette", "uvicorn", "tomlkit"),
    "encryption": ("sqlcipher3", "cryptography", "keyring"),
    "mem0": ("mem0",),
}


def has(extra: str) -> bool:
    """Whether all packages of the extra are installed. Nothing of them is imported."""
    return not _missing(extra)


def require(extra: str, what: str) -> None:
    """Call it before the work that needs the extra, and before its imports.

    Args:
        what: what needs it, as the subject of a sentence.

    Raises:
        ExtraMissing: a package of the extra is not installed.
    """
    if missing := _missing(extra):
        raise ExtraMissing(_line(what, missing, extra))


def missing_extra(error: ImportError) -> ExtraMissing | None:
    """The line for an import that failed, where the module is one of an extra's."""
    module = (error.name or "").partition(".")[0]
    extra = next((extra for extra, modules in EXTRAS.items() if module in modules), None)
    if extra is None or not isinstance(error, ModuleNotFoundError):
        return None
    return ExtraMissing(_line("this", [module], extra))


def _missing(extra: str) -> list[str]:
    return [module for module in EXTRAS[extra] if not _is_installed(module)]


def _is_installed(module: str) -> bool:
    try:
        return find_spec(module) is not None
    except (ImportError, ValueError):
        return False


def _line(what: str, modules: list[str], extra: str) -> str:
    names = " and ".join(module.replace("_", "-") for module in modules)
    verb = "is" if len(modules) == 1 else "are"
    command = f"pip install 'memlora-mlx[{extra}]'"
    return f"{what} needs {names}, which {verb} not installed; {command} (uv and pipx know the extra by the same name)"
