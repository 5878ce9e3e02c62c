"""The screening of one run of the pipeline: every exchange without what must not be stored, and what that was."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import replace

from memlora_mlx.memory.results import ExchangeResult
from memlora_mlx.memory.secrets import screen_exchange
from memlora_mlx.records import Exchange


class Screening:
    """Screens the exchanges of one run and knows what was taken out of each."""

    def __init__(self, *, keep_secrets: bool) -> None:
        self._keep_secrets = keep_secrets
        self._withheld: dict[str, Counter[str]] = {}  # by the key of the exchange

    def screened(self, exchanges: Iterable[Exchange]) -> Iterator[Exchange]:
        for exchange in exchanges:
            done = screen_exchange(exchange, keep_secrets=self._keep_secrets)
            if done.withheld:
                self._withheld[exchange.key] = done.withheld
            yield done.exchange or exchange

    def results(self, results: Iterable[ExchangeResult]) -> Iterator[ExchangeResult]:
        """Results with what was taken out of their exchanges."""
        for result in results:
            withheld = None if result.was_already_stored else self._withheld.get(result.exchange.key)
            yield replace(result, withheld=withheld) if withheld else result
