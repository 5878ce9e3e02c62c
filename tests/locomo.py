"""A file of LoCoMo's form, made up, and what it takes to run a benchmark on it with tiny models."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

SESSIONS = (
    (
        "1:56 pm on 8 May, 2023",
        (
            ("Ann", "I moved to Rome last week."),
            ("Bob", "Lovely! I bought a red bicycle."),
            ("Ann", "The doctor said no to coffee."),
            ("Bob", "I like tea, seven cups a day."),
        ),
    ),
    (
        "7:55 pm on 9 June, 2023",
        (
            ("Ann", "My cat is called Moss."),
            ("Bob", "We went to the market yesterday."),
            ("Ann", "I moved on to Oslo."),
        ),
    ),
)
QUESTIONS: tuple[dict[str, Any], ...] = (
    {"question": "Where did Ann move first?", "answer": "Rome", "category": 4, "evidence": ["D1:1"]},
    {"question": "What did Bob buy?", "answer": "a red bicycle", "category": 4, "evidence": ["D1:2"]},
    {"question": "How many cups of tea does Bob have a day?", "answer": 7, "category": 4, "evidence": ["D1:4"]},
    {"question": "When was Bob at the market?", "answer": "8 June 2023", "category": 2, "evidence": ["D2:2"]},
    {"question": "Where has Ann lived?", "answer": "Rome and Oslo", "category": 1, "evidence": ["D1:1; D2:3"]},
    {"question": "What is Bob's cat called?", "adversarial_answer": "Moss", "category": 5, "evidence": ["D2:1"]},
)


def sample(name: str = "conv-26", questions: Any = QUESTIONS, sessions: Any = SESSIONS) -> dict[str, Any]:
    said: dict[str, Any] = {"speaker_a": "Ann", "speaker_b": "Bob"}
    for number, (date, turns) in enumerate(sessions, 1):
        said[f"session_{number}_date_time"] = date
        said[f"session_{number}"] = [
            {"speaker": speaker, "dia_id": f"D{number}:{turn}", "text": text}
            for turn, (speaker, text) in enumerate(turns, 1)
        ]
    return {"sample_id": name, "conversation": said, "qa": list(questions)}


def locomo_file(folder: Path, *samples: dict[str, Any]) -> Path:
    path = folder / "talks.json"
    path.write_text(json.dumps(list(samples or [sample()])))
    return path
