"""What a message of a chat wants: an answer, or to be noted; and which person a follow-up question is about. By rule."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import replace

from memlora_mlx.memory.changes import AppliedChange
from memlora_mlx.memory.grounding import occurs
from memlora_mlx.memory.results import ExchangeResult
from memlora_mlx.memory.retrieval.lexical import STOP_WORDS, content_words, sentences
from memlora_mlx.memory.second_person import without_subject
from memlora_mlx.records import Exchange, Role
from memlora_mlx.temporal.words import MONTHS, WEEKDAYS, words

NOTHING_NOTED = "Nothing new to note. Tell me a fact about you, or ask about what you told me."
_ASKS = re.compile(
    r"^(?:(?:and|but|so|ok|okay|hey|hi|please|well|then|also)[,:]?\s+)*"
    r"(?:who|whom|whose|what|when|where|which|why|how|do|does|did|am|is|are|was|were|has|have|had|can|could|will|would|should)\b"
    r"(?!['’]?\s+(?:a|an)\b.*!)",
    re.IGNORECASE,
)
_REQUESTS = re.compile(
    r"^(?:(?:and|please|now|can you|could you|would you)\s+)*"
    r"(?:tell me|show me|remind me|list|name|find|search|look up|give me|explain|describe|summari[sz]e|write|translate)\b",
    re.IGNORECASE,
)
_TO_REMEMBER = re.compile(
    r"^(?:can|could|would|will)\s+you\s+(?:please\s+)?(?:remember|note|keep|forget)\b", re.IGNORECASE
)
MOST_WORDS_BACK = 25  # of a message that is read with the turn before; a longer one says itself what it is about
_CORRECTS = re.compile(
    r"(?:oh|ah|well|but|and)?[,.!]?\s*(?:no|nope|nah|wrong|sorry|actually|correction|wait|not (?:quite|really|any ?more)|I mean[t]?"
    r"|that(?:['’]s| is| was) (?:not|wrong)|it(?:['’]s| is) not)(?!\w)",
    re.IGNORECASE,
)
_POINTS_BACK = re.compile(r"(?:it|that|he|she|they|his|her|their|its)(?:['’]s|['’]re)?(?!\w)", re.IGNORECASE)
_PERSON = re.compile(
    r"(?<![\w'’])(?P<subject>he|she|they)(?![\w])|(?<![\w'’])(?P<owner>his|their|her)(?![\w])", re.IGNORECASE
)
# A last word, and what may stand behind it that ends no sentence, such as an emoji.
_OPEN_END = re.compile(r"(\w)([^\w.!?\u2026\u3002\uff01\uff1f\u061f:;,\"'\u201d\u2019)\]]*)$")
_NAME = re.compile(r"(?<![\w'’])[^\W\d_][\w-]+")


def is_question(text: str) -> bool:
    """Whether a message asks for something, by its last sentence. What only tells something is a statement."""
    lines = [line for line in text.strip().splitlines() if line.strip()]
    if not lines:
        return False
    last = sentences(lines[-1])[-1].strip() if sentences(lines[-1]) else lines[-1]
    if _TO_REMEMBER.match(last):
        return False
    return last.rstrip("\"'”’) ").endswith(("?", "？")) or bool(_ASKS.match(last) or _REQUESTS.match(last))


def with_full_stops(exchange: Exchange) -> Exchange:
    """An exchange whose messages end as sentences do, with a full stop or a question mark where people leave it out.

    The experts know hardly any other messages: of "I live in Vienna" the starter's expert wrote down nothing, and of the same
    with a full stop the fact.
    """

    def closed(text: str) -> str:
        return _OPEN_END.sub(rf"\1{'?' if is_question(text) else '.'}\2", text)

    return replace(exchange, messages=tuple(replace(each, text=closed(each.text)) for each in exchange.messages))


def with_person(question: str, turns: Sequence[tuple[Role, str]]) -> str:
    """A follow-up question with the name in it that its pronoun stands for: "And where does Tom work?".

    The name is the first one of the newest earlier turn that names somebody. A question that names somebody itself, or that
    follows no such turn, stays as it is.

    Args:
        turns: those before the question, oldest first.
    """
    found = _PERSON.search(question)
    if found is None or _first_name(question):
        return question
    name = next((name for _, text in reversed(turns) if (name := _first_name(text))), None)
    if name is None:
        return question
    word = name if found["subject"] else f"{name}'s"
    return question[: found.start()] + word + question[found.end() :]


def refers_back(text: str) -> bool:
    """Whether a message makes no sense without the turn before, as "No, it is green." or "Sorry, I meant Graz." do."""
    if is_question(text) or len(text.split()) > MOST_WORDS_BACK:
        return False
    return bool(_CORRECTS.match(text.strip()) or _POINTS_BACK.match(text.strip()))


def newly_said(exchange: Exchange, facts: Sequence[str]) -> list[str]:
    """The facts without those that only the turn before an exchange says: they were noted then, or the user undid them."""
    if not exchange.before:
        return list(facts)
    own = [m.text for m in exchange.messages if m.role == "user" and m not in exchange.before]
    new, old = (content_words(" ".join(texts)) for texts in (own, [m.text for m in exchange.before]))
    return [fact for fact in facts if any(occurs(word, new) for word in content_words(fact) - old)]


def noted(result: ExchangeResult) -> str:
    """What an exchange changed, for the person who said it: "Noted: lives in Vienna"."""
    kept: Sequence[AppliedChange] = [each for each in result.applied if each.rejected is None and each.event != "NONE"]
    if not kept:
        return "I knew that already." if result.duplicates else NOTHING_NOTED
    lines = []
    for event, lead in (("ADD", "Noted"), ("UPDATE", "Changed"), ("DELETE", "Forgotten")):
        texts = [without_subject(each.text or each.old_text or "") for each in kept if each.event == event]
        if texts:
            lines.append(f"{lead}: {'; '.join(text.rstrip('.') for text in texts)}")
    return "\n\n".join(lines)


def _first_name(text: str) -> str | None:
    """The first word with a capital letter that is no common word; at the beginning of a sentence it may still be none."""
    found = _NAME.findall(text)
    names = [
        word for word in found if word[0].isupper() and word.lower() not in STOP_WORDS and word.lower() not in _NO_NAMES
    ]
    return names[0] if names else None


_NO_NAMES = frozenset({*MONTHS, *WEEKDAYS}) | words(
    "hello hi hey yes no ok okay well user tell thanks please noted changed forgotten not nothing knew let remember"
)
