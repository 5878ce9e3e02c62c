"""Facts that cannot both be true: where somebody lives, a favourite, a number, what somebody likes or no longer likes.

A small student often adds such a fact beside the one that it replaces, since it has learnt phrases and not what they mean:
it sees that "no longer lives in Graz, but in Linz" changes "lives in Graz", and not that "moved to Linz" does. Here the
words decide. English only; of facts in other languages nothing is known, and the student decides alone.

The patterns were written from English grammar and from the synthetic dialogues for training, not from the benchmarks'
dialogues. That numbers are corrected within a talk was learnt from the conflict benchmark, as docs/conflict.md says.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from memlora_mlx.memory.retrieval.lexical import content_words

Words = frozenset[str]

LONGEST = 240  # characters of what is compared; a longer text says more than one thing
ALIKE = 0.6  # cosine of two preferred things from which they are of one kind, as tea and coffee are

_NOW = r"(?:now|currently|these days|nowadays|at the moment|lately|recently|still|already|just|also)"
_FILLERS = re.compile(
    rf"\b{_NOW}\b,?| in future\b|^it turns out (?:that )?|^(?:professionally|nowadays|today), ", re.IGNORECASE
)
_WILL_BE = re.compile(r"\b(?:will be|was (?:set|changed|moved) to|turns out to be|has become)\b")
# What is told of the past, of a plan or of somebody's wish is not so now.
_NOT_NOW = re.compile(
    r"\b(?:used to|ago|formerly|once|until|before|was born|grew up|plan(?:s|ned|ning)?|intends?|wants?|hopes?|hoping|would|might|may"
    r"|could|considers?|considering|thinking|dreams?|wish(?:es)?|(?:in|since) (?:19|20)\d\d|last (?:year|summer|winter|spring|autumn)"
    r"|as a child)\b",  # "may", and not the month
)
_DENIED = re.compile(r"\b(?:no longer|not|never|any ?more|any longer)\b|n't\b", re.IGNORECASE)
_PROPER = re.compile(r"^(?:the )?[A-ZÀ-ÖØ-Þ][\w'’.-]*", re.UNICODE)

_HOMES = (
    re.compile(
        r"^(?P<who>.+?) (?:lives?|resides?|is living|is based|(?:has )?(?:re)?settled|(?:has )?moved(?: house| home| back)?"
        r"|(?:has )?relocated(?: from .+?)?) (?:in|to|at|into) (?P<value>.+)$"
    ),
    re.compile(r"^(?P<who>.+?)['’]s? (?:new )?(?:home|home town|hometown|home city|city) is (?:in )?(?P<value>.+)$"),
    re.compile(r"^(?P<who>.+?) has (?:a home|made a home) in (?P<value>.+)$"),
    re.compile(r"^(?P<who>.+?) left .+ and lives in (?P<value>.+)$"),
)
# What somebody is by profession, without "works as": a few frequent ones, since "is a mother" says something else.
_OCCUPATIONS = (
    "accountant|architect|baker|banker|barber|barista|biologist|builder|butcher|carpenter|cashier|chef|chemist|cleaner"
    "|cook|counsell?or|dentist|designer|developer|doctor|driver|editor|electrician|engineer|farmer|firefighter|florist|gardener"
    "|hairdresser|journalist|judge|lawyer|lecturer|librarian|manager|mechanic|midwife|nurse|optician|paramedic|pharmacist"
    "|physicist|physiotherapist|pilot|plumber|police officer|postman|professor|programmer|psychologist|receptionist|researcher"
    "|scientist|secretary|shop assistant|soldier|surgeon|tailor|teacher|technician|therapist|translator|vet|waiter"
    "|waitress|welder"
)
_JOBS = (
    re.compile(
        r"^(?P<who>.+?) (?:works?|is working|is employed|(?:has )?(?:got|found|started|taken|took) (?:a|the) (?:new )?job"
        r"|has a (?:new )?job|earns a living|holds a position|(?:has )?started(?: working)?|was hired) as (?P<value>(?:an?|the) .+)$"
    ),
    re.compile(r"^(?P<who>.+?)['’]s? (?:new )?(?:job|profession|occupation) is (?:being |that of )?(?P<value>an? .+)$"),
    re.compile(r"^(?P<who>.+?) is (?P<value>an? .+?) (?:by profession|by trade|for a living)$"),
    re.compile(rf"^(?P<who>.+?) is (?P<value>an? (?:[\w-]+ )?(?:{_OCCUPATIONS})\b.*)$"),
)
_EMPLOYERS = (re.compile(r"^(?P<who>.+?) (?:works|is working|is employed) (?:for|at) (?P<value>[A-Z].+)$"),)
_FAVOURITES = (
    re.compile(r"^(?P<who>.+?)['’]s? (?:new )?favou?rite (?P<what>.+?) (?:is|are) (?P<value>.+)$"),
    re.compile(
        r"^the (?P<what>.+?) (?:that )?(?P<who>.+?) likes (?:best|most) (?:is|are) (?P<value>.+)$", re.IGNORECASE
    ),
)
_PREFERENCES = (
    re.compile(
        r"^(?P<who>.+?) (?:much )?prefers (?P<value>.+?)(?: (?:to|over|rather than|instead of) (?P<other>.+))?$"
    ),
    re.compile(r"^(?P<who>.+?) likes (?P<value>.+?) (?:best|most|better)(?: than (?P<other>.+))?$"),
    re.compile(r"^(?P<who>.+?) (?:is more into|takes|picks) (?P<value>.+?) (?:than|over|rather than) (?P<other>.+)$"),
    re.compile(r"^(?P<who>.+?) (?:has )?(?:changed over|switched|changed)(?: from (?P<other>.+?))? to (?P<value>.+)$"),
)
# What has one value for a person: not a sister or a friend, of whom there may be several.
_ONE_OF_EACH = re.compile(
    r"^(?P<who>.+?)['’]s? (?:new )?(?P<what>(?:[\w-]+ ){0,2}(?:number|address|birthday|age|boss|manager|supervisor|dentist|doctor"
    r"|gp|landlord|landlady|flatmate|roommate|rent|salary|wage|bill|fee|budget|deadline|size|height|weight|bedtime|husband"
    r"|wife|spouse|fianc[eé]e?|surname|nickname|email|wi-?fi name|language|major|commute|colou?r))"
    r" (?:is|are|comes to|amounts to) (?:called |named )?(?P<value>.+)$",
    re.IGNORECASE,
)
# Of these somebody may have several, and what is said of one is not said of the other.
_RELATIVES = content_words(
    "sister brother sibling mother father mum mom dad parent son daughter child kid wife husband spouse partner girlfriend boyfriend"
    " fiance fiancee friend boss manager colleague coworker neighbour neighbor flatmate roommate cousin aunt uncle niece nephew"
    " grandmother grandfather grandma grandpa grandson granddaughter twin godmother godfather godson goddaughter student teacher"
    " dog cat pet puppy kitten horse hamster rabbit parrot"
)
_NAMED = re.compile(r"^(?P<who>.+?)['’]s? (?:new )?(?P<what>[\w -]+?) is (?P<value>(?:an? |the )?[A-ZÀ-ÖØ-Þ].*)$")
_LIKES = (
    r"likes|loves|enjoys|adores|is (?:very |really )?(?:fond of|keen on|into)|is a (?:big |huge )?fan of|is happy with"
)
_DISLIKES = (
    r"hates|dislikes|detests|loathes|(?:can't|cannot|can not) stand|is (?:tired|sick) of|has gone off|went off"
    r"|has lost (?:all )?(?:interest in|the taste for)|has fallen out of love with|is over|is done with|is through with"
    r"|(?:does not|doesn't) (?:like|love|enjoy|care for)|no longer (?:likes|loves|enjoys|cares for)"
)
_ENDED = (
    r"has (?:quit|stopped|given up|dropped|ended|cancelled|sold)|quit|gave up|stopped|dropped|sold|is no longer"
    r"|no longer (?:has|owns|plays|does|goes to|drinks|eats|takes|keeps|practises|practices)"
)
_LIKED = re.compile(rf"^(?P<who>.+?) (?:{_LIKES}) (?P<value>.+)$")
_DISLIKED = re.compile(rf"^(?P<who>.+?) (?:{_DISLIKES}) (?P<value>.+)$")
_OVER = re.compile(rf"^(?P<who>.+?) (?:{_ENDED}) (?P<value>.+)$")
# Words that name what is over: "went off board games", "tea instead of coffee", "moved from Lyon to Porto".
_OF_TASTE = (
    r"instead of|rather than|(?:better|rather\b.*?|more into .*?) than|no longer|used to \w+|(?:, | and |^)not|not(?=.* but )|went off"
    r"|(?:has )?gone off|lost (?:the|all)?\s*(?:love|interest|taste) (?:for|in)|tired of|through with|done with"
)
_OF_PLACE = r"left|(?:moved|relocated|gone)\b(?:(?! to ).)*? from"
_OF_THINGS = (
    r"dropped|stopped|quit|gave up|given up|swapped|replaced|traded|sold|gave|threw|won['’]t|will not"
    r"|(?:changed|switched|went over)\b(?:(?! to ).)*? from"
)
_NAMED_AS_OVER = re.compile(
    rf"(?<!\w)(?:(?P<taste>{_OF_TASTE})|(?P<place>{_OF_PLACE})|(?P<thing>{_OF_THINGS}))"
    r" (?P<old>.+?)(?= (?:and|but|to|for|away|now)\b|,|;|[.!?]?$)",
    re.IGNORECASE,
)
# What a memory says around its value.
_FRAME = content_words(
    "plan plans planning going will soon favourite favorite new best better most first choice likes prefers prefer loves love enjoys"
    " enjoy fond keen fan appeals happy pick picks take takes works working work job lives living live home moved owns own drives"
    " plays play learning learns watching reading supports cheers goes going drinks eats keeps uses use called named now"
)
# What may follow a statement that says more than another one: "has a cat" and "has a cat called Miso".
_ADDS = re.compile(
    r"(?:,|called|named|with|in|on|at|from|for|near|by|since|because|who|which|that|every|each|to|about|of|as long|at least"
    r"|above|most|whenever|twice|once)\b|,",
    re.IGNORECASE,
)
_PRESENT = re.compile(r"^\S+(?:['’]s? \S+)* (?:is|are|has|have|\w+s)\b")

_CORRECTS = re.compile(
    r"\b(?:wrong|mistaken?|misspoke|i meant|actually|correction|correct (?:myself|that)|sorry)\b", re.IGNORECASE
)
_COUNTS = (
    "one two three four five six seven eight nine ten eleven twelve thirteen fourteen fifteen sixteen seventeen eighteen"
    " nineteen twenty thirty forty fifty sixty seventy eighty ninety hundred thousand half quarter noon midnight"
)
_DAYS = (
    "monday tuesday wednesday thursday friday saturday sunday january february march april may june july august september"
    " october november december"
)
_AMOUNT = re.compile(
    rf"\b(?:\d[\d.,:]*(?:st|nd|rd|th|am|pm|h)?|{'|'.join(f'{_COUNTS} {_DAYS}'.split())})\b", re.IGNORECASE
)
_DAY_NAMED = re.compile(rf"\b(?:{'|'.join(_DAYS.split())})\b", re.IGNORECASE)
# A state, of which there is one; a past event ("ran 5 km", "has run 5 km") can happen again.
_HAS = rf"(?:has|have)(?: got)? (?:an?|the|about|around|only|exactly|over|nearly|{_AMOUNT.pattern})"
_STATE = re.compile(
    r"\b(?:is|are|costs?|comes? to|amounts? to|pays?|weighs?|earns?|starts?|begins?|ends?|opens?|closes?|leaves?|departs?"
    rf"|takes?|lasts?|owns?|needs?|wakes? up|gets? up|turned|turns|measures?|runs? to|falls? on)\b|\b{_HAS}",
    re.IGNORECASE,
)
# What is on a day itself: "the wedding is on 3 May", and not "the shop is closed on Monday".
_ON_A_DAY = re.compile(
    rf"\b(?:is|falls|takes place|starts|begins|ends) (?:(?:on|in|at)(?: the)? )?(?:{_AMOUNT.pattern})", re.IGNORECASE
)


@dataclass(frozen=True, slots=True)
class Attribute:
    """What a fact says of somebody that has one value.

    Args:
        who: the content words of the person.
        what: those of the thing that has one value, such as "favourite colour".
        value: what it is.
        other: a second value that the fact names as the worse one, if any.
    """

    kind: str
    who: Words
    what: Words
    value: str
    other: str = ""


def replaces(
    fact: str,
    memory: str,
    similarity: Callable[[str, str], float],
    *,
    said: Sequence[str] = (),
    is_recent: bool = False,
) -> bool:
    """Whether a memory cannot be true any more if a fact that was said after it is.

    Args:
        similarity: the cosine of two texts; asked for the values of two preferences only.
        said: the owner's sentences that the fact came from, which may name what is over: "I am done with rye bread."
        is_recent: the memory was said in the same talk. What is told again then with another number is a correction, also of
            what happened; on another day it has happened again.
    """
    if max(len(fact), len(memory)) > LONGEST:
        return False
    fact, memory = _plain(fact), _plain(memory)
    if _same(fact, memory):
        return False
    if _adds_to(fact, memory) or _denies(fact, memory) or _is_named_as_over(fact, memory):
        return True
    whole = " ".join([*said, fact])
    if _is_other_amount(fact, memory, is_recent or any(map(_CORRECTS.search, said))):
        return True
    if any(_is_named_as_over(sentence, memory, whole) for sentence in said):
        return True
    if _NOT_NOW.search(fact) or _NOT_NOW.search(memory):
        return False
    new, old = _attribute(fact), _attribute(memory)
    if new is not None and old is not None and (new.kind, new.who) == (old.kind, old.who):
        if new.kind == "preference":
            return _is_other_preference(new, old, similarity)
        if new.what == old.what and not _adds_nothing_to(new.value, old.value):
            return True
    return _turns(fact, memory)


def _plain(text: str) -> str:
    """Without what does not change its sense: "now", blanks and the full stop."""
    text = _WILL_BE.sub("is", text)
    return " ".join(_FILLERS.sub("", text).replace(" ,", ",").split()).rstrip(". ")


def _same(one: str, other: str) -> bool:
    return one.casefold() == other.casefold()


def _attribute(text: str) -> Attribute | None:
    if _DENIED.search(text):
        return None
    for kind, patterns in (("home", _HOMES), ("job", _JOBS), ("employer", _EMPLOYERS)):
        found = _first(patterns, text)
        if found is not None and (kind != "home" or _PROPER.match(found["value"])):
            return Attribute(kind, _who(found["who"]), frozenset(), found["value"])
    if (found := _first(_FAVOURITES, text)) is not None:
        what = found["what"].casefold().replace("colour", "color")
        return Attribute("favourite", _who(found["who"]), content_words(what), found["value"])
    if (found := _ONE_OF_EACH.match(text)) is not None:
        return Attribute("one of each", _who(found["who"]), content_words(found["what"]), found["value"])
    found = _NAMED.match(text)
    if found is not None and not content_words(found["what"]) & _RELATIVES:
        return Attribute("one of each", _who(found["who"]), content_words(found["what"]), found["value"])
    if (found := _first(_PREFERENCES, text)) is not None:
        return Attribute("preference", _who(found["who"]), frozenset(), found["value"], found["other"] or "")
    return None


def _first(patterns: tuple[re.Pattern[str], ...], text: str) -> re.Match[str] | None:
    return next((found for pattern in patterns if (found := pattern.match(text))), None)


def _who(text: str) -> Words:
    """The words of a subject: of "Ann's sister" both, so that Ann and her sister are told apart."""
    return content_words(text.replace("'s", "").replace("’s", ""))


def _adds_nothing_to(value: str, other: str) -> bool:
    """Whether a value says nothing that another one does not say: "Graz" and "Graz, in Austria"."""
    return content_words(value) <= content_words(other)


def _is_other_preference(new: Attribute, old: Attribute, similarity: Callable[[str, str], float]) -> bool:
    value, before = content_words(new.value), content_words(old.value)
    if not value or not before or value <= before:
        return False
    if new.other:  # "prefers tea to coffee" replaces "prefers coffee", and nothing about bread
        return bool(content_words(new.other) & before)
    if old.other:
        return value <= content_words(old.other)
    return not value & before and similarity(new.value, old.value) >= ALIKE


def _turns(fact: str, memory: str) -> bool:
    """Whether one says that somebody likes or does what the other says they do not."""
    for new, old in ((_DISLIKED, _LIKED), (_LIKED, _DISLIKED)):
        one, two = new.match(fact), old.match(memory)
        if one and two and not (_DISLIKED.match(memory) if old is _LIKED else _DISLIKED.match(fact)):
            return _who(one["who"]) == _who(two["who"]) and _is_of(one["value"], two["value"])
    ended = _OVER.match(fact)
    if ended is None or _OVER.match(memory) or _LIKED.match(memory) or _DENIED.search(memory):
        return False
    who, value, known = _who(ended["who"]), content_words(ended["value"]), content_words(memory)
    rest = known - who
    # Besides what has ended the memory has its verb at most: "has given up the piano" and "plays the piano".
    return who <= known and bool(value) and value <= rest and len(rest - value) <= 1


def _adds_to(fact: str, memory: str) -> bool:
    """Whether a fact says all that a memory says word for word, and then more of the same."""
    rest = fact[len(memory) :]
    if not fact.casefold().startswith(memory.casefold()) or not _PRESENT.match(memory):
        return False
    return bool(_ADDS.match(rest.lstrip())) and not rest[:1].isalnum()


def _denies(fact: str, memory: str) -> bool:
    """Whether a fact is what a memory says, with "not" or "no longer"."""
    is_denied = bool(_DENIED.search(fact)) and not _DENIED.search(memory)
    return is_denied and content_words(_DENIED.sub(" ", fact)) == content_words(memory)


def _is_named_as_over(fact: str, memory: str, context: str = "") -> bool:
    """Whether a fact about the same person names what the memory says as what is over.

    What both say elsewhere, as the name, is not what the memory says of itself.

    Args:
        context: what was said around it.
    """
    if _DENIED.search(memory) or _relatives(fact) != _relatives(memory):
        return False
    known = content_words(memory) - _FRAME - _relatives(memory)
    for found in _NAMED_AS_OVER.finditer(fact):
        # Who leaves a town may love it still, and who sells a car may have liked it.
        if (found["place"] and not _is_of_place(memory)) or (found["thing"] and _LIKED.match(memory)):
            continue
        around = f"{fact[: found.start('old')]} {fact[found.end('old') :]}"
        elsewhere = content_words(around) | content_words(context.replace(fact, around))
        value = known - elsewhere
        if value and value <= content_words(found["old"]):
            return True
    return False


def _is_of_place(memory: str) -> bool:
    attribute = _attribute(memory)
    return attribute is not None and attribute.kind in ("home", "job", "employer")


def _relatives(text: str) -> Words:
    return content_words(text) & _RELATIVES


def _is_of(value: str, other: str) -> bool:
    one, two = content_words(value), content_words(other)
    return bool(one) and bool(two) and (one <= two or two <= one)


def _is_other_amount(fact: str, memory: str, is_recent: bool) -> bool:
    """Whether both say the same of the same but for a number, a time or a date: "rent comes to 880 euros" and "... 715 euros"."""
    amounts, before = (tuple(each.casefold() for each in _AMOUNT.findall(text)) for text in (fact, memory))
    if not amounts or len(amounts) != len(before) or set(amounts) == set(before):
        return False
    if not is_recent and not (_STATE.search(fact) and _STATE.search(memory)):
        return False
    if not is_recent and _DAY_NAMED.search(fact) and not (_ON_A_DAY.search(fact) and _ON_A_DAY.search(memory)):
        return False  # another appointment, on another day
    rest, rest_before = (content_words(_AMOUNT.sub(" ", text)) for text in (fact, memory))
    return len(rest) > 1 and rest == rest_before


def amounts(text: str) -> set[str]:
    """The numbers, times and days that a text names, in lower case."""
    return {each.casefold() for each in _AMOUNT.findall(text)}
