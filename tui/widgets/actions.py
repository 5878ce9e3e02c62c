"""The actions of the current screen in the palette. They are taken from its bindings."""

from __future__ import annotations

from collections.abc import Iterable
from functools import partial

from textual.binding import Binding
from textual.command import DiscoveryHit, Hit, Hits, Provider


class ScreenActions(Provider):
    """Every action of the screen that is available now, with its name and key."""

    async def discover(self) -> Hits:
        for name, about, binding in self._actions():
            yield DiscoveryHit(name, partial(self.screen.run_action, binding.action), help=about)

    async def search(self, query: str) -> Hits:
        matcher = self.matcher(query)
        for name, about, binding in self._actions():
            if (score := matcher.match(name)) > 0:
                run = partial(self.screen.run_action, binding.action)
                yield Hit(score, matcher.highlight(name), run, help=about)

    def _actions(self) -> Iterable[tuple[str, str, Binding]]:
        screen = self.screen
        title = getattr(screen, "NAME", "")
        for binding in Binding.make_bindings(type(screen).__dict__.get("BINDINGS", ())):
            if binding.description and screen.check_action(binding.action, ()):
                key = self.app.get_key_display(binding)
                yield f"{title}: {binding.description}", f"{binding.tooltip} ({key})", binding
