"""The style sheet of the app. It parses each source once."""

from __future__ import annotations

from textual.css.stylesheet import Stylesheet

SOURCES = 1024  # parsed sources that are kept; every class of widgets has one, and all screens together have about 100


class OnceParsed(Stylesheet):
    """Parses a source when it is added, and again only when the theme changes.

    Textual's own parses all sources anew whenever a screen is first shown, and once more for the widget mounted after that.
    """

    def __init__(self, *, variables: dict[str, str]) -> None:
        super().__init__(variables=variables)
        self._parse_cache.grow(SOURCES)

    def set_variables(self, variables: dict[str, str]) -> None:
        if variables != self._variables:  # else what is parsed stays true
            super().set_variables(variables)

    def reparse(self) -> None:
        self.parse()
