"""The prompt: several lines, a history, completion of `/` commands, and placeholders for long pastes."""

from __future__ import annotations

import contextlib
import re
from pathlib import Path
from typing import ClassVar

from textual import events, on
from textual.app import ComposeResult
from textual.binding import Binding, BindingType
from textual.content import Content
from textual.message import Message
from textual.widget import Widget
from textual.widgets import OptionList, TextArea
from textual.widgets.option_list import Option

from memlora_mlx.errors import UsageError
from memlora_mlx.json_lines import JsonLines, read_json_lines
from memlora_mlx.text import printable, printable_line
from memlora_mlx.tui.commands import complete, unknown_command

LONG_PASTE = 2000  # characters, or
MANY_LINES = 12  # lines of a paste above which a placeholder is shown
CHARACTERS_PER_TOKEN = 4  # of English; only for the warning of a long message
HISTORY = 1000  # prompts that are read from the file
COMPLETION_KEYS = ("up", "down", "escape", "tab", "enter")  # keys that an open list of completions may handle
_NAMED = re.compile(r"⟦pasted text (\d+): [^⟧\n]*⟧")


class Prompt(TextArea):
    """The text that is written next.

    Args:
        readable_tokens: of a message that a reply sees; a longer one gets a warning.

    Enter sends. Ctrl+J, Shift+Enter or Alt+Enter start a new line. Up in the first line and Down in the last show history."""

    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("enter", "send", "Send", tooltip="Send the message", id="prompt.send"),
        Binding(
            "ctrl+j,shift+enter,alt+enter",
            "new_line",
            "New line",
            show=False,
            tooltip="Start a new line",
            id="prompt.line",
        ),
        Binding(
            "ctrl+g", "edit_outside", show=False, tooltip="Write in $EDITOR (also Ctrl+X Ctrl+E)", id="prompt.editor"
        ),
        Binding("up", "earlier", show=False, tooltip="In the first line: the previous message", id="prompt.earlier"),
        # The text area would move its own cursor by a page.
        Binding("pageup", "screen.scroll_log(-1)", show=False, id="prompt.up"),
        Binding("pagedown", "screen.scroll_log(1)", show=False, id="prompt.down"),
        Binding("ctrl+end", "screen.scroll_to_end", show=False, id="prompt.end"),
        Binding("down", "later", show=False, tooltip="In the last line: the next message", id="prompt.later"),
    ]

    class Sent(Message):
        def __init__(self, text: str) -> None:
            super().__init__()
            self.text = text

    class Pasted(Message):
        """A paste that is the path of one file. Terminals paste the path of a file that is dropped on them."""

        def __init__(self, path: Path, text: str) -> None:
            super().__init__()
            self.path, self.text = path, text

    class Emptied(Message):
        """Backspace in the empty prompt."""

    def __init__(self, completions: Completions, history: History, readable_tokens: int) -> None:
        super().__init__(
            "",
            soft_wrap=True,
            show_line_numbers=False,
            tab_behavior="focus",
            highlight_cursor_line=False,
            placeholder="Write a message … / for commands",
            id="prompt",
        )
        self._completions, self._history = completions, history
        self._pastes: list[str] = []
        self._readable = readable_tokens * CHARACTERS_PER_TOKEN
        self.may_be_empty = False  # there is an image to send

    # ------------------------------------------------------------------ keys

    def _on_key(self, event: events.Key) -> None:  # type: ignore[override]
        """Handle Enter and the keys of the completions in the order they were typed. TextArea handles the rest."""
        if event.key in COMPLETION_KEYS and self._complete(event.key):
            event.stop()
            event.prevent_default()
        elif event.key in ("enter", "ctrl+j", "shift+enter", "alt+enter"):
            # Here, not by the binding: a binding is looked up after the keys that were typed behind it.
            self.action_send() if event.key == "enter" else self.action_new_line()
            event.stop()
            event.prevent_default()
        elif event.key == "backspace" and not self.text:
            self.post_message(self.Emptied())

    def _complete(self, key: str) -> bool:
        """Handle the key if it belongs to the completions. Returns whether it does.

        The completions are updated first: `Changed` arrives after keys that were typed meanwhile, and a completion of
        the start of a text must not replace the whole text.
        """
        self._completions.update_for(self.text)
        if not self._completions.display:
            return False
        chosen = self._completions.chosen()
        if key in ("up", "down"):
            self._completions.move(-1 if key == "up" else 1)
        elif key == "escape":
            self._completions.close()
        elif key == "tab" or (
            key == "enter" and self._completions.offers_commands and chosen and chosen.strip() != self.text
        ):
            self.set_text(chosen or self.text)
        else:
            return False
        return True

    async def _on_paste(self, event: events.Paste) -> None:
        text = printable(event.text.replace("\r\n", "\n").replace("\r", "\n"))
        event.stop()
        event.prevent_default()
        path = dropped_path(text)
        if path is not None:
            self.post_message(self.Pasted(path, text))
            return
        self._replace_via_keyboard(self._folded(text), *self.selection)

    def on_text_area_changed(self) -> None:
        self._completions.update_for(self.text)
        self.border_subtitle = self._size_note()

    def _size_note(self) -> str:
        """What to say of a message that is longer than a reply can read; empty for all others."""
        if len(self.text) + sum(len(text) for text in self._pastes) < self._readable:
            return ""
        size = len(_NAMED.sub(self._expand_pastes, self.text))
        if size < self._readable:
            return ""
        return f"about {size // CHARACTERS_PER_TOKEN:,} tokens: a reply reads only its ends"

    def action_new_line(self) -> None:
        self._replace_via_keyboard("\n", *self.selection)

    def action_send(self) -> None:
        text = _NAMED.sub(self._expand_pastes, self.text).strip()
        if not text and not self.may_be_empty:
            return
        if (problem := unknown_command(text)) is not None:  # it stays in the prompt, to be corrected
            self.notify(problem, title="Not sent", severity="warning", markup=False)
            return
        self._history.add(text)
        self.set_text("")
        self._pastes.clear()
        self.post_message(self.Sent(text))

    def action_edit_outside(self) -> None:
        """Write the text in the user's editor. Pasted texts are shown in full there."""
        from memlora_mlx.tui.external_editor import edit_text

        try:
            text = edit_text(self.app, _NAMED.sub(self._expand_pastes, self.text))
        except UsageError as error:
            self.notify(str(error), title="No editor", severity="error", markup=False)
            return
        if text is not None:
            self.set_text(text)

    def action_earlier(self) -> None:
        if self.cursor_at_first_line and (text := self._history.earlier(self.text)) is not None:
            self._show_history_entry(text)
        else:
            self.action_cursor_up()

    def action_later(self) -> None:
        if self.cursor_at_last_line and (text := self._history.later()) is not None:
            self._show_history_entry(text)
        else:
            self.action_cursor_down()

    def _show_history_entry(self, text: str) -> None:
        """Show a message from the history. Completions stay closed, so that Up and Down move through the history."""
        self.show_message(text)
        self._completions.update_for(self.text)
        self._completions.close()

    def show_message(self, text: str) -> None:
        """Put a message into the prompt to be changed and sent again; a long one is folded, as a long paste is."""
        self._pastes.clear()
        self.set_text(self._folded(printable(text)))

    def set_text(self, text: str) -> None:
        """Replace the text and put the cursor at its end."""
        self.text = text
        self.move_cursor(self.document.end)

    def _folded(self, text: str) -> str:
        """The text, or for a long one the name that stands for it in the prompt."""
        if not is_long(text):
            return text
        lines = text.count("\n") + 1
        self._pastes.append(text)
        return f"⟦pasted text {len(self._pastes)}: {lines} line{'' if lines == 1 else 's'}, {len(text):,} characters⟧"

    def _expand_pastes(self, match: re.Match[str]) -> str:
        number = int(match[1]) - 1
        return self._pastes[number] if number < len(self._pastes) else match[0]


class Completions(OptionList, can_focus=False):
    """The completions of a `/` command, above the prompt. The prompt keeps the focus and handles the keys."""

    def __init__(self) -> None:
        super().__init__(id="completions", markup=False)
        self.display = False
        self._offered: list[str] = []
        self._text = ""

    def update_for(self, text: str) -> None:
        """Show the completions of this text, unless they were closed for it."""
        if text == self._text:
            return
        self._text = text
        pairs = complete(text)
        if not (pairs or self.display):
            return
        self.clear_options()
        self._offered = [text for text, _ in pairs]
        self.add_options(
            Option(Content.assemble((printable_line(text, 60), "bold"), "  ", (note, "$text-muted")))
            for text, note in pairs
        )
        self.display = bool(pairs)
        if pairs:
            self.highlighted = 0

    @property
    def offers_commands(self) -> bool:
        """Whether command names are offered. Enter accepts a name; with paths it sends the text as typed."""
        return " " not in self._text

    def move(self, step: int) -> None:
        count = len(self._offered)
        self.highlighted = ((self.highlighted or 0) + step) % count if count else None

    def chosen(self) -> str | None:
        return self._offered[self.highlighted] if self.highlighted is not None and self._offered else None

    def close(self) -> None:
        self.display = False


class History:
    """The messages sent before, also in earlier runs. A file of JSON strings has them, without secrets and private passages.

    Args:
        file: None keeps them for this run only.
    """

    def __init__(self, file: Path | None, *, keep_secrets: bool = False) -> None:
        self._file, self._keep_secrets = file, keep_secrets
        self._lines: list[str] = []
        self._at = 0  # index in `_lines`; its length stands for the draft
        self._draft = ""
        with contextlib.suppress(OSError):  # a history is not worth an error
            lines = list(read_json_lines(file))[-HISTORY:] if file else []
            self._lines = [printable(text) for text in lines if isinstance(text, str)]
        self._at = len(self._lines)

    def add(self, text: str) -> None:
        from memlora_mlx.memory.secrets import screen_text  # here: the first frame has no use for it

        text = screen_text(text, keep_secrets=self._keep_secrets).text
        if text and text != (self._lines[-1] if self._lines else None):
            self._lines.append(text)
            self._append(text)
        self._at = len(self._lines)

    def _append(self, text: str) -> None:
        if self._file is not None:
            with contextlib.suppress(OSError):
                self._file.parent.mkdir(parents=True, exist_ok=True)
                with JsonLines(self._file) as file:
                    file.append(text)

    def earlier(self, current: str) -> str | None:
        if self._at == 0:
            return None
        if self._at == len(self._lines):
            self._draft = current
        self._at -= 1
        return self._lines[self._at]

    def later(self) -> str | None:
        if self._at == len(self._lines):
            return None
        self._at += 1
        return self._draft if self._at == len(self._lines) else self._lines[self._at]


class PromptBox(Widget):
    """The prompt and its completions."""

    def __init__(self, history: History, readable_tokens: int) -> None:
        super().__init__(id="prompt-box")
        self.completions = Completions()
        self.prompt = Prompt(self.completions, history, readable_tokens)

    def compose(self) -> ComposeResult:
        yield self.completions
        yield self.prompt

    @on(OptionList.OptionSelected)
    def clicked(self, event: OptionList.OptionSelected) -> None:
        event.stop()
        if (chosen := self.completions.chosen()) is not None:
            self.prompt.set_text(chosen)
            self.prompt.focus()


def is_long(text: str) -> bool:
    """Whether a text is folded in the prompt and in the conversation."""
    return len(text) > LONG_PASTE or text.count("\n") >= MANY_LINES


def dropped_path(text: str) -> Path | None:
    """The file that a paste names, if it is a path: plain, quoted, with escaped spaces, or as a file:// URL."""
    from shlex import split
    from urllib.parse import unquote, urlparse

    line = text.strip()
    if not line or "\n" in line or len(line) > 4096 or not re.match(r"""["']?(/|~|\.{1,2}/|file://)""", line):
        return None
    if line.startswith("file://"):
        candidates = [unquote(urlparse(line).path)]
    else:
        try:
            words = split(line)
        except ValueError:
            words = []
        candidates = [line, *words[:1]] if len(words) == 1 else [line]
    for candidate in candidates:
        try:
            path = Path(candidate).expanduser()
            if path.is_file():
                return path
        except (OSError, RuntimeError, ValueError):
            continue
    return None
