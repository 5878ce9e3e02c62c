"""Screens are looked at in one time zone."""

from __future__ import annotations

import time
from collections.abc import Iterator

import pytest


@pytest.fixture(autouse=True)
def utc(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.setenv("TZ", "UTC")
    monkeypatch.setenv("COLORTERM", "truecolor")  # the themes must not depend on where the tests run
    time.tzset()
    yield
    monkeypatch.undo()
    time.tzset()
