"""Text as it is kept and as it is shown. Every room cleans text and writes durations with these functions.

What is kept (`clean_text`, `clean_name`, `clean_line`) feeds prompts, hashes and the database: the experts were trained
on exactly these forms, so a change here changes what they read. What is shown (`printable`, `printable_line`) is for
terminals, reports and error messages only, and is never stored.
"""

from __future__ import annotations

import re

_CONTROLS = re.compile("[\x00-\x08\x0b\x0c\x0e-\x1f\x7f-\x9f]")  # C0, DEL and C1, without tab and line ends
_ALL_CONTROLS = re.compile("[\x00-\x1f\x7f-\x9f]")
# Embeddings, overrides and isolates can turn the words around them; U+FEFF is invisible. The marks U+200E and U+200F
# and the joiners stay: Arabic, Hebrew, Persian and emoji need them, and they turn nothing but themselves.
_DIRECTIONS = re.compile("[\u202a-\u202e\u2066-\u2069\ufeff]")
# The same and the marks that only hint at a direction: exports of chats have them anywhere, dates not excepted.
DIRECTION_MARKS = re.compile("[\u200e\u200f\u061c\u202a-\u202e\u2066-\u2069\ufeff]")
_JSON_ESCAPED = re.compile("[\x7f-\x9f\u202a-\u202e\u2066-\u2069\ufeff\ud800-\udfff]")  # C0 is escaped by `json`
_SURROGATES = re.compile("[\ud800-\udfff]")


def well_formed(text: str, lone: str = "\ufffd") -> str:
    """Text that UTF-8 can encode: surrogate pairs are joined, and `lone` stands for each surrogate that is left."""
    if not _SURROGATES.search(text):
        return text
    joined = text.encode("utf-16-le", "surrogatepass").decode("utf-16-le", "surrogatepass")
    return _SURROGATES.sub(lone, joined)


def clean_text(text: str) -> str:
    """Text that SQLite, JSON, UTF-8 and terminals can all take, with its lines as they are.

    Control characters go, except for tabs and line ends. Direction controls stay: the words are the user's.
    """
    return well_formed(_CONTROLS.sub("", text))


def clean_name(text: str) -> str:
    """A name, title or id: `clean_text` on one line. Direction controls stay, as in the source that it came from."""
    return " ".join(clean_text(text).split())


def clean_line(text: str, limit: int | None = None) -> str:
    """One line for prompts and memories: at most `limit` characters, and nothing that turns or breaks a line.

    Control characters become spaces and direction controls go. A lone surrogate becomes "?", not U+FFFD as in
    `clean_text`: the rows that the experts were trained on have it so.
    """
    text = _ALL_CONTROLS.sub(" ", _DIRECTIONS.sub("", well_formed(text, "?")))
    return " ".join(text.split())[:limit].rstrip()


def printable(text: str) -> str:
    """What may reach a terminal: `clean_text` without direction controls and carriage returns. Lines and tabs stay.

    The pieces of a stream may be cleaned one by one.
    """
    return _DIRECTIONS.sub("", clean_text(text)).replace("\r", "")


def printable_line(value: object, limit: int = 400, *, tail: int = 0) -> str:
    """A value as one line of at most `limit` characters that may reach a terminal; "…" stands where it was cut.

    Args:
        tail: how many characters of the end to keep when it is cut. A path needs its end more than its middle.
    """
    text = str(value)
    line = clean_line(text if tail else text[: 4 * limit])  # of a giant, most is not even read
    return line if len(line) <= limit else line[: limit - tail - 1] + "…" + line[len(line) - tail :]


def printable_json(text: str) -> str:
    """JSON that may reach a terminal and loses nothing: what `printable` would leave out is written as `\\u202e`."""
    return _JSON_ESCAPED.sub(lambda found: f"\\u{ord(found[0]):04x}", text)


def format_duration(seconds: float) -> str:
    """How long something takes: "0:42", "1:05:00"."""
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{rest:02}" if hours else f"{minutes}:{rest:02}"


def parse_duration(text: str) -> float:
    """The seconds of a duration such as "90s", "20m", "1h30m" or "2 h"; a bare number is of minutes.

    Raises:
        ValueError: it is no duration, or not above 0.
    """
    given = "".join(text.lower().split())
    number = r"([0-9]+(?:\.[0-9]+)?)"
    found = re.fullmatch(rf"(?:{number}h)?(?:{number}m(?:in)?)?(?:{number}s)?", given)
    if re.fullmatch(number, given):
        seconds = 60 * float(given)
    else:
        parts = zip(found.groups(), (3600, 60, 1), strict=True) if found else ()
        seconds = sum(float(part) * size for part, size in parts if part)
    if seconds <= 0:
        raise ValueError(f"{text!r} is no duration")
    return seconds


def format_bytes(count: float) -> str:
    """Bytes as people say them: "412 MB", "1.2 GB"."""
    return f"{count / 1e9:.1f} GB" if count >= 1e9 else f"{count / 1e6:.0f} MB"
