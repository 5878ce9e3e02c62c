"""Compare libraries that read time expressions on this folder's labelled sentences.

Run it with the Python of a virtual environment that holds PyYAML and the library; the project needs none of them:

    python tests/temporal/compare_libraries.py dateparser
    python tests/temporal/compare_libraries.py memlora

Each sentence gets one verdict. `span`: first and last day are right. `inside`: the day or span that the library gave lies
in the right one. `wrong`: it gave another one for these words. `missed`: it gave none. A library is helped where the
labels would be unfair to it: a past reading is preferred where it offers several, and its granularity makes the span.
Times are processor time in milliseconds, since another program may be running.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import statistics
import time
from collections import Counter
from collections.abc import Callable
from datetime import UTC, date, datetime, timedelta
from pathlib import Path

import yaml

HERE = Path(__file__).parent
Found = tuple[int, int, date, date]  # first character, the one after the last, first day, last day
Reader = Callable[[str, datetime, str], list[Found]]


def whole(day: date, unit: str) -> tuple[date, date]:
    """The calendar unit that holds a day."""
    if unit == "week":
        monday = day - timedelta(day.weekday())
        return monday, monday + timedelta(6)
    if unit == "month":
        return day.replace(day=1), (day.replace(day=1) + timedelta(31)).replace(day=1) - timedelta(1)
    if unit == "year":
        return date(day.year, 1, 1), date(day.year, 12, 31)
    return day, day


def read_dateparser() -> Reader:
    from dateparser.date import DateDataParser
    from dateparser.search import search_dates

    def read(text: str, now: datetime, language: str) -> list[Found]:
        settings = {"RELATIVE_BASE": now, "PREFER_DATES_FROM": "past"}
        found: list[Found] = []
        for words, when in search_dates(text, languages=[language], settings=settings) or []:
            data = DateDataParser(languages=[language], settings=settings).get_date_data(words)
            at = text.find(words)
            found.append((at, at + len(words), *whole(when.date(), data.period if data else "day")))
        return found

    return read


def read_parsedatetime() -> Reader:
    import parsedatetime

    calendar = parsedatetime.Calendar(version=parsedatetime.VERSION_CONTEXT_STYLE)
    context = parsedatetime.pdtContext
    units = ((context.ACU_DAY, "day"), (context.ACU_WEEK, "week"), (context.ACU_MONTH, "month"))

    def read(text: str, now: datetime, language: str) -> list[Found]:
        found: list[Found] = []
        for when, accuracy, start, end, _ in calendar.nlp(text, sourceTime=now) or ():
            year = "year" if accuracy.accuracy == context.ACU_YEAR else "day"
            unit = next((name for bit, name in units if accuracy.accuracy & bit), year)
            found.append((start, end, *whole(when.date(), unit)))
        return found

    return read


def read_recognizers() -> Reader:
    from recognizers_date_time import Culture, recognize_datetime

    cultures = {"en": Culture.English, "es": Culture.Spanish, "fr": Culture.French}  # it has no German

    def read(text: str, now: datetime, language: str) -> list[Found]:
        found: list[Found] = []
        for result in recognize_datetime(text, cultures[language], reference=now) if language in cultures else ():
            for value in (result.resolution or {}).get("values", []):
                begins = value.get("start") or value.get("value")
                with contextlib.suppress(TypeError, ValueError):
                    first = date.fromisoformat(begins[:10])
                    last = date.fromisoformat(value["end"][:10]) - timedelta(1) if "end" in value else first
                    found.append((result.start, result.end + 1, first, max(first, last)))
                    break
        return found

    return read


def read_timefhuman() -> Reader:
    from timefhuman import tfhConfig, timefhuman

    def read(text: str, now: datetime, language: str) -> list[Found]:
        found: list[Found] = []
        for _, (start, end), value in timefhuman(text, tfhConfig(now=now, return_matched_text=True)):
            ends = value if isinstance(value, tuple) else (value, value)
            if all(isinstance(when, date) for when in ends):
                found.append((start, end, ends[0].date(), ends[-1].date()))
        return found

    return read


def read_ctparse() -> Reader:
    from ctparse import ctparse

    def read(text: str, now: datetime, language: str) -> list[Found]:
        result = ctparse(text, ts=now, timeout=2)
        value = result.resolution if result else None
        first, last = getattr(value, "t_from", value), getattr(value, "t_to", value)
        if first is None or last is None or getattr(first, "year", None) is None or getattr(last, "year", None) is None:
            return []
        days = [
            whole(date(when.year, when.month or 1, when.day or 1), unit)
            for when in (first, last)
            for unit in ["day" if when.day else "month" if when.month else "year"]
        ]
        return [(value.mstart, value.mend, days[0][0], days[1][1])]

    return read


def read_duckling() -> Reader:
    import duckling

    zones = duckling.load_time_zones("/usr/share/zoneinfo")
    dimensions = duckling.parse_dimensions(["time"])

    def read(text: str, now: datetime, language: str) -> list[Found]:
        tongue = duckling.parse_lang(language.upper())
        locale = duckling.default_locale_lang(tongue)
        moment = duckling.parse_ref_time(zones, "UTC", int(now.replace(tzinfo=UTC).timestamp()))
        found: list[Found] = []
        for hit in duckling.parse(text, duckling.Context(moment, locale), dimensions, False):
            value = hit["value"]
            first = value.get("from") or value.get("to") or value
            day = date.fromisoformat(first["value"][:10])
            if "to" in value and "from" in value:
                last = datetime.fromisoformat(value["to"]["value"]) - timedelta(seconds=1)
                found.append((hit["start"], hit["end"], day, last.date()))
            else:
                found.append((hit["start"], hit["end"], *whole(day, first["grain"])))
        return found

    return read


def read_memlora() -> Reader:
    from memlora_mlx.temporal import find

    return lambda text, now, language: [(hit.start, hit.end, hit.begins, hit.ends) for hit in find(text, now)]


READERS = {
    "dateparser": read_dateparser,
    "parsedatetime": read_parsedatetime,
    "recognizers": read_recognizers,
    "timefhuman": read_timefhuman,
    "ctparse": read_ctparse,
    "duckling": read_duckling,
    "memlora": read_memlora,
}


def labels(name: str) -> list[tuple[date, str, str, date, date, str]]:
    groups = yaml.safe_load((HERE / f"{name}.yaml").read_text(encoding="utf-8"))
    return [(group["said"], *entry) for group in groups for entry in group["says"]]


def held_out(number: int) -> bool:
    return number % 3 == 2


def verdict(found: list[Found], text: str, words: str, begins: date, ends: date) -> str:
    at = text.index(words)
    near = [(first, last) for start, end, first, last in found if start < at + len(words) and at < end]
    if (begins, ends) in near:
        return "span"
    if any(begins <= first and last <= ends for first, last in near):
        return "inside"
    return "wrong" if near else "missed"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("library", choices=sorted(READERS))
    parser.add_argument("--show", action="store_true", help="Print the sentences that are wrong, but no held-out one.")
    parser.add_argument(
        "--alone", action="store_true", help="Give the library the labelled words instead of the sentence."
    )
    args = parser.parse_args()

    began = time.process_time()
    read = READERS[args.library]()
    import_ms = (time.process_time() - began) * 1000
    spent: list[float] = []

    def timed(text: str, said: date, language: str) -> list[Found]:
        began = time.process_time()
        try:
            return read(text, datetime(said.year, said.month, said.day, 12), language)
        except Exception as error:
            print(f"{type(error).__name__} at {text!r}: {error}") if args.show else None
            return []
        finally:
            spent.append((time.process_time() - began) * 1000)

    timed("We met on 3 May 2020.", date(2023, 5, 8), "en")
    spent.clear()
    rows: dict[str, dict[str, int]] = {}
    for part, name in (("rules", "english"), ("held out", "english"), ("others", "others")):
        counted: Counter[str] = Counter()
        for number, (said, text, words, begins, ends, _) in enumerate(labels(name)):
            if name == "english" and held_out(number) != (part == "held out"):
                continue
            language = ("de", "es", "fr")[(number >= 14) + (number >= 27)] if name == "others" else "en"
            given = words if args.alone else text
            found = timed(given, said, language)
            got = verdict(found, given, words, begins, ends)
            counted[got] += 1
            if args.show and got != "span" and part == "rules":
                print(f"{got:7} {said} {text} expected {begins}..{ends}, got {[(str(f[2]), str(f[3])) for f in found]}")
        rows[part] = dict(counted)
    negatives = yaml.safe_load((HERE / "negatives.yaml").read_text(encoding="utf-8"))
    false = [text for text in negatives if timed(text, date(2023, 5, 8), "en")]
    if args.show:
        print(*(f"false   {text}" for text in false), sep="\n")
    times = {"p50": round(statistics.median(spent), 2), "max": round(max(spent), 1)}
    row = {"library": args.library, **rows, "negatives": len(negatives), "false": len(false)}
    print(json.dumps({**row, "import_ms": round(import_ms), "call_ms": times}))


if __name__ == "__main__":
    main()
