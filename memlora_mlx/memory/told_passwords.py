"""Passwords, PINs and keys that somebody tells as such: "my password is ...", "PIN: 4711"."""

from __future__ import annotations

import re
from collections.abc import Iterator

PASSWORD, PIN, KEY, PHRASE = "password", "PIN or code", "key or token", "recovery phrase"

_IS = r"(?:\s*(?:=>|:=|[:=])|\s+(?:is|was|ist|war|lautet|est|es|è|é|are|will\s+be|to)\b\s*:?|['\u2019]s\b|\s*[:：]|[是は：])\s*(?:(?:still|just|now|currently|actually|simply|always)\s+)?"
# Between the name and the word "is": what it is the password of.
_OF = r"(?:\s+(?:for|of|to|on|at|in|für|von|pour|de|del|du|per|para|da|do|the|my|our|der|das|den|zum|zur)\b[^.!?\n:=]{0,40}?)?"
_QUOTED = r"[\"“”„«»`'‘]([^\"“”„«»`'’\n]{3,64})[\"“”«»`'’]"
_PLAIN = r"([^\s\"“”„«»`‘,;]{3,64})"
_PASSWORD = (
    r"(?:pass\s?words?|pass\s?codes?|pass(?=\s*[:=])|pass\s?phrase|passwd|pwd|log-?in\s+password|Passwort|Kennwort|mot\s+de\s+passe|mdp"
    r"|contraseña|clave\s+secreta|palavra-passe|senha|wachtwoord|пароль)"
)
_TOLD = re.compile(rf"(?<!\w){_PASSWORD}\b{_OF}{_IS}(?:{_QUOTED}|{_PLAIN})", re.IGNORECASE)
_UNSPACED = re.compile(r"(?:密码|密碼|パスワード|비밀번호)\s*(?:是|为|は|[:：=])?\s*([!-~]{4,64})")
_BESIDE = re.compile(rf"(?<!\w){_PASSWORD}\s+(?:{_QUOTED}|{_PLAIN})", re.IGNORECASE)
_BEHIND = re.compile(
    rf"(?<!\S)(?:{_QUOTED}|{_PLAIN})\s+(?:is|was|as|ist|est|es)\s+(?:my|the|our|mein|das|unser|mon|le|mi|la)\s+(?:\w+\s+){{0,2}}?{_PASSWORD}\b",
    re.IGNORECASE,
)
_PIN = re.compile(
    rf"(?<!\w)(?:PIN|(?i:pin\s+(?:code|number)|pincode|cvv2?|cvc2?|security\s+code|verification\s+code|one-time\s+(?:code|password)"
    rf"|OTP|2fa\s+code|door\s+code|alarm\s+code|gate\s+code|safe\s+code|unlock\s+code|Geheimzahl|code\s+secret|código\s+pin))\b{_OF}{_IS}"
    r"(\d[\d -]{1,9}\d)(?![\w.,]*\d|\s*(?:percent|%|cm|mm|years?|times|people|euros?|dollars?))",
)
_KEY = re.compile(
    r"(?<!\w)(?:api[\s_-]?keys?|secret(?:[\s_-]access)?[\s_-]?keys?|access[\s_-]?(?:keys?|tokens?)|auth[\s_-]?tokens?|bearer"
    r"|client[\s_-]?secrets?|private[\s_-]?keys?|API-Schlüssel|license[\s_-]?keys?|encryption[\s_-]?keys?|[A-Z_]*(?:SECRET|TOKEN|API_KEY|PASSWORD)[A-Z_]*)"
    rf"\b{_OF}(?:{_IS}|\s+)[\"'`“]?([A-Za-z0-9_\-./+=~]{{12,}})",
    re.IGNORECASE,
)
_PHRASE = re.compile(
    r"(?:seed|recovery|mnemonic|backup)\s+(?:phrase|words)\b[^.!?\n:=]{0,40}?(?:is|are|:|=)\s*[\"“]?((?:[a-z]{3,8}[\s,]+){11,23}[a-z]{3,8})",
    re.IGNORECASE,
)
_HINT = re.compile(
    r"pass|pwd|wort|mot de|mdp|contrase|clave|senha|wacht|парол|密|パスワード|비밀|pin|cvv|cvc|code|otp|geheim|código|key|secret"
    r"|token|bearer|schlüssel|phrase|seed|recovery|mnemonic",
    re.IGNORECASE,
)
_GENERIC = re.compile(r"\b(?:an?|any|every|each|good|no|which|whose)\s+(?:\w+\s+){0,2}$", re.IGNORECASE)
_END = re.compile(r"\s*(?:[.!?,;)]|$|\n|(?:and|und|et|y|e|but|so|please|btw|thanks|if|,)\b)")
# Words that people say of a password and that are none.
_SAID_WORDS = """
    a an the not no too so very really already also always never now still just only being been going getting set
    reset changed change expired expiring wrong right correct incorrect invalid valid weak strong strongest secure
    insecure safe unsafe secret private hidden empty blank missing lost forgotten gone stolen leaked hacked
    compromised broken saved stored written kept needed required optional mandatory accepted rejected denied refused
    blocked locked unlocked protected encrypted hashed shared known unknown public simple easy hard difficult
    complex complicated long short longer shorter old new recent different same similar identical unique random
    generated automatic default temporary permanent case sensitive stuck bad good great fine ok okay terrible awful
    silly stupid funny important useless useful ready done working visible something anything nothing everything
    somewhere anywhere nowhere what which who whose how why when where that this these those it its my your his her
    our their mine yours me you him them us there here in on at with without for from of by about after before until
    unless because like as if or and but than then again back up down off out over under between login open inside
    behind above below sent emailed texted asked case-sensitive password passwords passcode everywhere exactly
    probably maybe likely definitely actually usually almost quite pretty rather impossible possible kind part one
    all any some every each both two three four five six seven eight nine ten yes sure tricky annoying falsch
    richtig sicher unsicher geheim neu alt lang kurz zu nicht schon noch weg verloren vergessen abgelaufen ein eine
    kein trop faible fort nouveau perdu oublié expiré pas un une le la les sur dans incorrecta correcta nueva débil
    segura muy olvidada perdida demasiado larga corta errada incorreta nova fraca forte muito longa
"""
_SAID_OF = frozenset(_SAID_WORDS.split())


def told_secrets(text: str) -> Iterator[tuple[int, int, str]]:
    """Where secrets that are told as such begin and end, and of what kind they are."""
    if not _HINT.search(text):
        return
    for match in _TOLD.finditer(text):
        yield from _password(text, match, needs_sign=False)
    for pattern in (_BESIDE, _BEHIND):
        for match in pattern.finditer(text):
            yield from _password(text, match, needs_sign=True)
    for match in _UNSPACED.finditer(text):
        yield (*match.span(1), PASSWORD)
    for match in _PIN.finditer(text):
        if 3 <= len(re.sub(r"\D", "", match[1])) <= 8:
            yield (*match.span(1), PIN)
    for match in _KEY.finditer(text):
        if _is_mixed(match[1].rstrip(".")):
            yield match.start(1), match.start(1) + len(match[1].rstrip(".")), KEY
    for match in _PHRASE.finditer(text):
        yield (*match.span(1), PHRASE)


def _password(text: str, match: re.Match[str], *, needs_sign: bool) -> Iterator[tuple[int, int, str]]:
    """The password in a match of a rule: quoted or not.

    Args:
        needs_sign: the sentence does not say that it is one, so that it must look like one.
    """
    if match[1] is not None:
        word = match[1]
        if not needs_sign or _has_sign(word):
            yield (*match.span(1), PASSWORD)
        return
    word = match[2].rstrip(".)]}:*_")  # an exclamation mark may belong to it
    said = word.lower().strip("*_()[]{}<>…!?")
    if len(said) < 4:
        return
    end = match.start(2) + len(word)
    if said in _SAID_OF or said.rstrip("'’s") in _SAID_OF or not said:
        return
    is_written = bool(re.search(r"[:=：]\s*$", text[: match.start(2)]))
    is_last = bool(_END.match(text, end))
    word = word.rstrip("!?")
    if not is_written and _GENERIC.search(text[: match.start()]):  # "a good password is ..."
        return
    if _has_sign(word) or (not needs_sign and is_last and (is_written or said.isalpha())):
        yield match.start(2), end, PASSWORD


def _has_sign(word: str) -> bool:
    """Whether a word looks like a password: a digit or a sign among letters, or capitals inside it."""
    inner = word.strip("'’.-")
    if re.fullmatch(
        r"[A-Za-z]+(?:['’-][A-Za-z]+)+|\w+['’]s|https?:.*|\d{1,2}(?::\d\d)?(?:am|pm|th|st|nd|rd)?|[\d.,]+%?", inner
    ):
        return bool(re.fullmatch(r"\d{4,}", inner))
    has_digit = any(c.isdigit() for c in inner)
    has_sign = any(not c.isalnum() and c not in "'’-()/" for c in inner)
    has_inner_capital = any(c.isupper() for c in inner[1:]) and any(c.islower() for c in inner)
    return has_digit or has_sign or has_inner_capital


def _is_mixed(word: str) -> bool:
    return any(c.isdigit() for c in word) and any(c.isalpha() for c in word)
