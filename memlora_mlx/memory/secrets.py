"""Secrets in what is said: keys, tokens, card numbers, IBANs and passwords told as such; and what is marked as private.

Numbers are checked by python-stdnum. The forms of keys are those that their providers document. A library of such rules,
detect-secrets, was looked at: it is made for source code, has had no release since May 2024, knows few of the providers whose
keys people paste into chats today, and loads an HTTP client.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field, replace

from memlora_mlx.memory.told_passwords import told_secrets
from memlora_mlx.records import Exchange, Message, Scope

CARD, IBAN, KEY, PRIVATE = "card number", "IBAN", "key or token", "private passage"
NOTHING_LEFT = "..."
_PRIVATE_TAG = re.compile(r"(?:<|&lt;)\s*(/?)\s*private\s*(?:>|&gt;)", re.IGNORECASE)
_KEYS = re.compile(
    r"""
    -----BEGIN[ A-Z0-9]*PRIVATE\ KEY(?:\ BLOCK)?-----.*?(?:-----END[ A-Z0-9]*PRIVATE\ KEY(?:\ BLOCK)?-----|\Z)
    | \b(?:AKIA|ASIA|ABIA|ACCA)[0-9A-Z]{16}\b                     # Amazon
    | \bAIza[0-9A-Za-z_-]{35} | \bya29\.[0-9A-Za-z_-]{20,} | \bGOCSPX-[0-9A-Za-z_-]{20,}  # Google
    | \bgh[pousr]_[A-Za-z0-9]{36,} | \bgithub_pat_[A-Za-z0-9_]{50,} | \bgl(?:pat|dt|ft|soat|rt|cbt|ptt)-[\w-]{20,}
    | \bsk-(?:proj|ant|or|svcacct|admin)-[A-Za-z0-9_-]{20,} | \bsk-[A-Za-z0-9]{20,}\b  # OpenAI, Anthropic and others
    | \bhf_[A-Za-z0-9]{30,} | \bgsk_[A-Za-z0-9]{40,} | \bxai-[A-Za-z0-9]{40,} | \br8_[A-Za-z0-9]{36,} | \bpplx-[A-Za-z0-9]{40,}
    | \bxox[abeoprs]-[0-9A-Za-z-]{10,} | \bxapp-\d-[0-9A-Za-z-]{10,}
    | https://hooks\.slack\.com/services/T\w+/B\w+/\w+ | https://discord(?:app)?\.com/api/webhooks/\d+/[\w-]+
    | \b[rsp]k_(?:live|test)_[0-9a-zA-Z]{16,} | \bwhsec_[0-9A-Za-z+/=]{24,} | \bsq0(?:csp|atp)-[\w-]{22,}  # Stripe, Square
    | \bSG\.[\w-]{22}\.[\w-]{43} | \bkey-[0-9a-f]{32}\b | \b[0-9a-f]{32}-us\d{1,2}\b | \b(?:AC|SK)[0-9a-f]{32}\b
    | \bnpm_[A-Za-z0-9]{36} | \bpypi-[A-Za-z0-9_-]{50,} | \bdop_v1_[0-9a-f]{64} | \bshp(?:at|ca|pa|ss)_[0-9a-fA-F]{32}
    | \bdapi[0-9a-f]{32}\b | \b(?:ntn_|secret_)[A-Za-z0-9]{40,} | \blin_api_[A-Za-z0-9]{32,} | \bfigd_[\w-]{30,}
    | \bPMAK-[0-9a-f]{24}-[0-9a-f]{34} | \bAGE-SECRET-KEY-1[0-9A-Z]{50,} | \bEAA[A-Za-z0-9]{60,}
    | \b\d{8,10}:[A-Za-z0-9_-]{35}\b                              # Telegram
    | \b[MNO][A-Za-z\d_-]{23,25}\.[\w-]{6}\.[\w-]{27,38}\b        # Discord
    | \beyJ[\w-]{8,}\.eyJ[\w-]{8,}\.[\w-]{8,}                     # JWT
    | (?<=AccountKey=)[A-Za-z0-9+/=]{60,}
    | (?<=://)[^\s:/@]+:[^\s@/]{3,}(?=@)                          # a user with a password in an address
    """,
    re.VERBOSE | re.DOTALL,
)
_HINT = re.compile(r"\d{3}|[A-Za-z0-9_-]{16}|://|PRIVATE KEY")  # texts without any of these have no key and no number
_CARD = re.compile(r"(?<![\w.,+-])\d(?:[ -]?\d){12,18}(?![\w]|[.,-]\d)")
_CARDS = re.compile(
    r"4(?:\d{12}|\d{15}|\d{18})|(?:5[1-5]|2[2-7])\d{14}|3[47]\d{13}|3(?:0[0-5]|[68]\d)\d{11}|35\d{14}|6\d{15,18}"
)
_IBAN = re.compile(r"(?<![A-Za-z0-9])[A-Za-z]{2}\d{2}(?:[ -]?[A-Za-z0-9]){11,30}(?![A-Za-z0-9])")


@dataclass(frozen=True, slots=True)
class Secret:
    """A part of a text that is secret."""

    start: int
    end: int
    kind: str


@dataclass(frozen=True, slots=True)
class Screened:
    """A text or an exchange without what must not be stored.

    Attributes:
        withheld: how many secrets and private passages were taken out, by kind.
    """

    text: str = ""
    exchange: Exchange | None = None
    withheld: Counter[str] = field(default_factory=Counter)


def find_secrets(text: str) -> list[Secret]:
    """The secrets in a text, in order; none overlaps another."""
    found: list[Secret] = []
    if _HINT.search(text):
        found += [Secret(*match.span(), KEY) for match in _KEYS.finditer(text) if _is_key(match[0])]
        found += _numbers(text)
    found += [Secret(start, end, kind) for start, end, kind in told_secrets(text)]
    chosen: list[Secret] = []
    for secret in sorted(found, key=lambda one: (one.start, -one.end)):
        if not chosen or secret.start >= chosen[-1].end:
            chosen.append(secret)
        elif secret.end > chosen[-1].end:  # the rest of it is as secret
            chosen[-1] = replace(chosen[-1], end=secret.end)
    return chosen


def screen_text(text: str, *, keep_secrets: bool = False) -> Screened:
    """A text without private passages, and with a mark in the place of each secret, such as "[secret removed: IBAN]"."""
    open_text, passages = without_private(text)
    withheld = Counter({PRIVATE: len(passages)} if passages else {})
    if keep_secrets:
        return Screened(open_text, None, withheld)
    return Screened(*_marked(open_text, find_secrets(open_text), withheld))


def screen_exchange(exchange: Exchange, *, keep_secrets: bool = False) -> Screened:
    """An exchange as `screen_text` leaves its messages and captions. A message without a word left is left out.

    What one message has told is taken out of the others, too. An assistant's reply to a message with a private passage is
    left out: nobody can tell which of its words come from there.
    """
    withheld: Counter[str] = Counter()
    told: dict[str, str] = {}  # secret -> its kind
    kept: list[Message] = []
    had_private = False
    for message in exchange.messages:
        if had_private and message.role == "assistant" and (message.speaker or "assistant").lower() == "assistant":
            continue
        text, passages = without_private(message.text)
        if passages:
            had_private = True
            withheld[PRIVATE] += len(passages)
        if not keep_secrets:
            secrets = find_secrets(text)
            told |= {text[one.start : one.end]: one.kind for one in secrets}
            text, _, withheld = _marked(text, secrets, withheld)
        if text.strip() or message.image is not None:
            kept.append(message if text == message.text else replace(message, text=text))
    repeats = _repeats(told)
    messages = [_with_caption(replace(m, text=repeats(m.text)) if told else m, keep_secrets) for m in kept]
    if not withheld and messages == list(exchange.messages):
        return Screened("", exchange, withheld)
    return Screened("", replace(exchange, messages=tuple(messages)), withheld)


def without_private(text: str) -> tuple[str, list[str]]:
    """A text without what stands between <private> and </private>, and those passages.

    Tags may be nested. A passage without an end goes up to the end of the text.
    """
    if "private" not in text.lower():
        return text, []
    kept: list[str] = []
    passages: list[str] = []
    depth, at, began = 0, 0, 0
    for tag in _PRIVATE_TAG.finditer(text):
        if tag[1]:
            if depth == 0:  # an end without a beginning
                kept.append(text[at : tag.start()])
                at = tag.end()
                continue
            depth -= 1
            if depth == 0:
                passages.append(text[began : tag.start()])
                at = tag.end()
            continue
        if depth == 0:
            kept.append(text[at : tag.start()])
            began = tag.end()
        depth += 1
    if depth:
        passages.append(text[began:])
    else:
        kept.append(text[at:])
    if not passages and len(kept) == 1:
        return text, []
    return " ".join(part for piece in kept if (part := piece.strip())), passages


def screen_turns(question: str, reply: str, *, keep_secrets: bool = False) -> tuple[str, str]:
    """A question to an assistant and its reply as they may be stored; what nothing is left of is `NOTHING_LEFT`."""
    said = Exchange("", Scope(), (Message("user", question), Message("assistant", reply)), None, "", 0)
    screened = screen_exchange(said, keep_secrets=keep_secrets)
    if not screened.withheld or screened.exchange is None:
        return question, reply
    kept = {message.role: message.text for message in screened.exchange.messages}
    return kept.get("user", NOTHING_LEFT), kept.get("assistant", NOTHING_LEFT)


def describe_withheld(withheld: Mapping[str, int]) -> str:
    """What was not stored, in one line; empty where that is nothing."""
    secrets = Counter({kind: count for kind, count in withheld.items() if kind != PRIVATE and count})
    parts = []
    if secrets:
        kinds = ", ".join(f"{count} {kind}" for kind, count in secrets.most_common())
        parts.append(f"{secrets.total()} secrets not stored: {kinds} (the setting keep_secrets stores them)")
    if private := withheld.get(PRIVATE):
        parts.append(f"{private} private passages not stored")
    return "; ".join(parts)


def _marked(text: str, secrets: list[Secret], withheld: Counter[str]) -> tuple[str, None, Counter[str]]:
    pieces, at = [], 0
    for secret in secrets:
        pieces += [text[at : secret.start], f"[secret removed: {secret.kind}]"]
        at = secret.end
        withheld[secret.kind] += 1
    return "".join([*pieces, text[at:]]) if secrets else text, None, withheld


def _repeats(told: dict[str, str]) -> Callable[[str], str]:
    """A function that marks these secrets wherever else they stand."""
    if not told:
        return lambda text: text
    pattern = re.compile("|".join(rf"(?<!\w){re.escape(one)}(?!\w)" for one in sorted(told, key=len, reverse=True)))
    return lambda text: pattern.sub(lambda match: f"[secret removed: {told[match[0]]}]", text)


def _with_caption(message: Message, keep_secrets: bool) -> Message:
    if message.image is None or not message.image.caption:
        return message
    caption = screen_text(message.image.caption, keep_secrets=keep_secrets).text
    if caption == message.image.caption:
        return message
    return replace(message, image=replace(message.image, caption=caption or None))


def _is_key(text: str) -> bool:
    """A key has letters and digits, or says itself that it is one."""
    return (
        "PRIVATE KEY" in text or "://" in text or ":" in text or (any(c.isdigit() for c in text) and len(set(text)) > 8)
    )


def _numbers(text: str) -> Iterator[Secret]:
    from stdnum import iban, luhn  # loaded for texts with long numbers only

    for match in _CARD.finditer(text):
        digits = re.sub("[ -]", "", match[0])
        if _CARDS.fullmatch(digits) and len(set(digits)) > 1 and luhn.is_valid(digits):
            yield Secret(*match.span(), CARD)
    for match in _IBAN.finditer(text):
        # Without the rules of countries: their lists of banks are out of date.
        end = _end_of_iban(match[0], lambda number: iban.is_valid(number, check_country=False))
        if end:
            yield Secret(match.start(), match.start() + end, IBAN)


def _end_of_iban(text: str, is_valid: Callable[[str], bool]) -> int:
    """Where an IBAN that begins here ends; 0 where none does. Words behind it may look like its last groups."""
    for end in range(len(text), 14, -1):
        if text[end - 1] not in " -" and (end == len(text) or not text[end].isalnum()) and is_valid(text[:end]):
            return end
    return 0
