"""How many gold dates of LoCoMo's temporal questions the rules find in the turns that hold the evidence.

    python tests/temporal/locomo_dates.py LOCOMO.json conv-42 conv-43 conv-44 conv-47 conv-48 conv-49 conv-50

Counted are the questions of category 2 whose gold answer names a time and whose evidence holds a relative time or a date,
told by a list of words that the rules do not use. A question gets the best verdict that any time found in its evidence
earns, written as the memory would show it: right day, right span, wrong, or nothing found.
"""

from __future__ import annotations

import json
import re
import sys
from collections import Counter
from pathlib import Path

from memlora_mlx.conversations import parse_date
from memlora_mlx.temporal import find, same_date, written

DAYS = "monday|tuesday|wednesday|thursday|friday|saturday|sunday"
MONTHS = "january|february|march|april|may|june|july|august|september|october|november|december"
TIMES = re.compile(
    rf"\b(ago|yesterday|tonight|today|tomorrow|since|the other day|day before|for \w+ years?|[0-9]+(st|nd|rd|th)"
    rf"|(last|next|this|past) (week|weekend|month|year|night|summer|winter|spring|fall|autumn|few|two|three|{DAYS}|{MONTHS})"
    rf"|on ({DAYS})|in ({MONTHS}|19[0-9]{{2}}|20[0-9]{{2}}))\b",
    re.IGNORECASE,
)
ORDER = ("nothing found", "wrong", "span", "day")


def main(path: str, *names: str) -> None:
    counted: Counter[str] = Counter()
    for sample in json.loads(Path(path).read_text(encoding="utf-8")):
        if sample["sample_id"] not in names:
            continue
        talk = sample["conversation"]
        sessions = [name for name in talk if re.fullmatch(r"session_[0-9]+", name)]
        turns = {turn["dia_id"]: (turn["text"], talk[f"{name}_date_time"]) for name in sessions for turn in talk[name]}
        for question in sample["qa"]:
            gold = str(question.get("answer"))
            evidence = [turns[place] for place in question["evidence"] if place in turns]
            if question["category"] != 2 or not any(TIMES.search(text) for text, _ in evidence):
                continue
            if not re.search(r"[0-9]{4}|[a-z] [0-9]|" + MONTHS, gold, re.IGNORECASE) or same_date("", gold) is None:
                continue
            found = [hit.span for text, when in evidence for hit in find(text, parse_date(when))]
            verdicts = [same_date(written(span), gold) or "wrong" for span in found]
            counted[max(verdicts, key=ORDER.index, default="nothing found")] += 1
    total = counted.total()
    print(
        f"{total} questions:", *(f"{name} {counted[name]} ({counted[name] / total:.0%})," for name in reversed(ORDER))
    )


if __name__ == "__main__":
    main(*sys.argv[1:])
