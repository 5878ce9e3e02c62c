"""Time expressions of what people say, resolved to spans of days: pure functions, no model, no store.

`find` reads a text that was said on a known day, `asked` a question, `written` writes a span as people write dates, and
`same_date` compares an answer with a gold answer by their dates.
"""

from memlora_mlx.temporal.finding import asked, find
from memlora_mlx.temporal.judging import Verdict, same_date
from memlora_mlx.temporal.spans import Direction, Expression, Granularity, Span
from memlora_mlx.temporal.writing import written

__all__ = [
    "Direction",
    "Expression",
    "Granularity",
    "Span",
    "Verdict",
    "asked",
    "find",
    "same_date",
    "written",
]
