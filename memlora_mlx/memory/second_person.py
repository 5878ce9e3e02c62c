"""A memory or a message of the user, said back to the user: "User lives in Vienna" and "I live in Vienna" are "You live in Vienna".

Done by rule, because a small student that is asked to do it claims to be the user.
"""

from __future__ import annotations

import re

_VERBS = {"is": "are", "was": "were", "has": "have", "does": "do", "isn't": "aren't", "wasn't": "weren't"}
_VERBS |= {"hasn't": "haven't", "doesn't": "don't", "'s": "'re"}
_PRONOUNS = {
    "i": "you",
    "me": "you",
    "my": "your",
    "mine": "yours",
    "myself": "yourself",
    "we": "you",
    "us": "you",
    "our": "your",
    "ours": "yours",
    "ourselves": "yourselves",
}
_FIRST = re.compile(rf"(?<![\w'’])(?:{'|'.join(sorted(_PRONOUNS, key=len, reverse=True))})(?![\w-])", re.IGNORECASE)
_I_AM = re.compile(r"(?<![\w'’])I(?:\s+(am|was)\b|['’](m)\b)", re.IGNORECASE)
_USER = re.compile(r"(?<!\w)(?:[Tt]he\s+)?User(?!\w)(?P<owns>['’]s(?=\s))?(?:(?P<blank>\s+)(?P<verb>[\w'’]+))?")
# Behind "and", "dogs" is no verb: only verbs that say much of what people tell are changed there.
_SECOND_VERB = re.compile(
    r"(?<=\w)(,?\s+(?:and|but|or)\s+(?:now\s+|no longer\s+|also\s+|then\s+)?)"
    r"(is|was|has|does|goes|likes|loves|hates|prefers|enjoys|works|lives|wants|needs|plays|plans|studies|drinks|eats|owns|uses|makes|speaks|teaches|runs|thinks)(?!\w)"
)
_NOT_VERBS = frozenset(["always", "perhaps", "sometimes", "besides", "afterwards", "as", "yes"])
_ADVERBS = frozenset(
    ["also", "always", "just", "never", "now", "often", "only", "really", "recently", "still", "usually"]
)


def to_second_person(text: str) -> str:
    """The text with "you" in place of "User" and of the first person, and a capital letter at the beginning.

    Only English is changed. The text must be the user's own words or a memory of the user.
    """
    said = _I_AM.sub(lambda found: "you were" if (found[1] or "").lower() == "was" else "you are", text.strip())
    said = _FIRST.sub(lambda found: _PRONOUNS[found[0].lower()], said)
    said = _SECOND_VERB.sub(_second_verb, said)
    said = _USER.sub(_you, said)
    said = re.sub(
        r"(?<=\byou )(also|always|just|never|no longer|now|often|only|really|recently|still|usually) (\w+)",
        _after_adverb,
        said,
    )
    said = re.sub(r"(?<=[.!?]\s)you", "You", said)
    return said[:1].upper() + said[1:]


def to_first_person(text: str) -> str | None:
    """What was said back to the user as the user says it: "I live in Vienna" of "You live in Vienna."; None for any other text."""
    if re.match(r"(?:You|Your)(?!\w)", text) is None:
        return None
    said = re.sub(r"(?<!\w)[Yy]ou (are|were)(?!\w)", lambda found: "I am" if found[1] == "are" else "I was", text)
    said = re.sub(r"(?<!\w)your(?!\w)", "my", said)
    said = re.sub(r"(?<!\w)you(?!\w)", "I", said)
    return re.sub(r"^Your?(?!\w)", lambda found: "My" if found[0] == "Your" else "I", said)


def without_subject(text: str) -> str:
    """A memory of the user without its subject: "lives in Vienna". A memory about others stays as it is, for the user to read."""
    found = re.match(r"(?:[Tt]he\s+)?User\s+(?=\w)", text)
    return text[found.end() :] if found else to_second_person(text)


def _second_verb(found: re.Match[str]) -> str:
    """The verb behind "and": changed where the user is the subject of the sentence, and not "User's brother"."""
    sentence = re.split(r"[.!?;]\s", found.string[: found.start()])[-1]
    subject = _USER.search(sentence)
    is_user = subject is not None and not subject["owns"]
    return found[1] + (_plural(found[2]) if is_user else found[2])


def _you(found: re.Match[str]) -> str:
    verb, blank = found["verb"], found["blank"] or ""
    if found["owns"]:
        return f"your{blank}{verb or ''}"
    if verb is None:
        return "you"
    return f"you{blank}{_plural(verb)}"


def _after_adverb(found: re.Match[str]) -> str:
    return f"{found[1]} {_plural(found[2])}"


def _plural(verb: str) -> str:
    """A verb of the third person as "you" takes it: "lives" is "live", "studies" is "study"."""
    low = verb.lower().replace("’", "'")
    if low in _VERBS:
        return _VERBS[low]
    if (
        low in _NOT_VERBS
        or low in _ADVERBS
        or not low.endswith("s")
        or low.endswith(("ss", "us", "is"))
        or len(low) < 4
    ):
        return verb
    if low.endswith("ies") and len(low) > 4:
        return verb[:-3] + "y"
    if low.endswith(("ches", "shes", "sses", "xes", "zzes", "oes")):
        return verb[:-2]
    return verb[:-1]
