"""Review in the terminal: a card on the screen, a key for each verdict."""

import os
import shlex
import subprocess
import sys
from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any, Final
from uuid import UUID

import typer
from rich.console import Console, Group
from rich.panel import Panel
from rich.rule import Rule
from rich.syntax import Syntax
from rich.text import Text

from flywheel.cli.output import printable
from foundation.errors import BadInput, FlywheelError

if TYPE_CHECKING:
    from curation.review.cards import Card, Side

_TURN_CHARS: Final = 4000
"""Characters of an earlier turn that are shown; the last one is shown whole."""

_COMPARED: Final = {"1": "first is better", "2": "second is better", "=": "equal"}
KEYS: Final = {
    "example": {
        "a": "accept",
        "r": "reject",
        "e": "edit",
        **{digit: f"rate {digit}" for digit in "12345"},
        "t": "relabel",
    },
    "pair": _COMPARED,
    "likeness": {"y": "the same", "n": "different"},
    "sample": _COMPARED,
}
_NAMES: Final = {
    "example": ("answer",),
    "pair": ("first", "second"),
    "likeness": ("one", "other"),
    "sample": ("first", "second"),
}
"""What the answers on a card are called."""
ALWAYS: Final = {"s": "skip", "u": "undo", "q": "quit"}


def show(card: "Card", screen: Console) -> None:
    """Print a card: what was asked, what was answered, and what is known of it."""
    facts = [card.role, card.kind, f"because {card.reason}", card.task_type, card.difficulty]
    screen.print(Rule(Text(" · ".join(printable(fact) for fact in facts if fact))))
    names = _NAMES[card.kind]
    for number, (name, side) in enumerate(zip(names, card.sides, strict=True)):
        if number == 0 or card.kind == "likeness":
            screen.print(_asked(side))
        screen.print(Panel(_answered(side, card.code_language), title=name, title_align="left"))
    known = [f"{name} {_short(value)}" for name, value in card.signals.items() if value is not None]
    if known:
        screen.print(Text(printable(" · ".join(known)), style="dim"))
    screen.print(Text(str(card.item_id), style="dim"))


@dataclass
class Review:
    """One sitting of one reviewer."""

    reviewer: str
    role: str | None
    kind: str | None
    screen: Console
    read_key: Callable[[], str] = typer.getchar
    ask: Callable[[str], str] = typer.prompt
    counts: Counter[str] = field(default_factory=Counter)
    taken_back: UUID | None = None
    """Item of a label that was just undone: it comes next."""

    def run(self) -> dict[str, int]:
        """Show item after item until none waits or the reviewer quits; return what was done.

        Raises:
            BadInput: nobody can press a key.
        """
        if not sys.stdin.isatty():
            raise BadInput(
                "standard input",
                "no terminal",
                "one to press keys in",
                "In scripts: flywheel review next, then flywheel review label",
            )
        while (card := self._next()) is not None:
            show(card, self.screen)
            if not self._until_settled(card):
                self._give_back(card)
                return dict(self.counts)
        self.screen.print("Nothing waits.")
        return dict(self.counts)

    def _until_settled(self, card: "Card") -> bool:
        """Take keys until the item is dealt with; false to quit."""
        keys = {**KEYS[card.kind], **ALWAYS}
        hint = Text("  ".join(f"[{key}] {does}" for key, does in keys.items()), style="cyan")
        while True:
            self.screen.print(hint)
            key = self.read_key().lower()
            if key in ("q", "\x03", "\x04"):
                return False
            if key not in keys:
                continue
            try:
                if self._does(card, key):
                    return True
            except FlywheelError as error:
                self.screen.print(Text(printable(str(error)), style="red"))

    def _does(self, card: "Card", key: str) -> bool:
        """Do what a key asks for; false if the item still waits for a verdict."""
        from curation.review import labels
        from foundation.database import session_scope

        if key == "u":
            with session_scope() as session:
                self.taken_back = labels.undo(session, self.reviewer).item_id
            self._give_back(card)
            self.counts["undone"] += 1
            return True
        action, value, reason = _said(card, key, self.ask)
        if action == "edit" and value["answer"] == card.sides[0].answer:
            self.screen.print("Nothing was changed.")
            return False
        with session_scope() as session:
            labels.label(session, card.item_id, self.reviewer, action, value, reason)
        self.counts[action] += 1
        return True

    def _next(self) -> "Card | None":
        from curation.review.cards import card_of
        from curation.review.leases import next_item
        from foundation.database import session_scope

        again, self.taken_back = self.taken_back, None
        with session_scope() as session:
            if again is not None:
                return card_of(session, again, self.reviewer)
            item = next_item(session, self.reviewer, self.role, kind=self.kind)
            return None if item is None else card_of(session, item.id, self.reviewer)

    def _give_back(self, card: "Card") -> None:
        from curation.review.leases import release
        from foundation.database import session_scope

        with session_scope() as session:
            release(session, card.item_id, self.reviewer)


def _said(
    card: "Card", key: str, ask: Callable[[str], str]
) -> tuple[str, dict[str, Any], str | None]:
    """Return action, value and reason of a key; asks for what else is needed."""
    if key == "s":
        return "skip", {}, None
    if card.kind in ("pair", "sample"):
        return "compare", {"choice": {"1": "first", "2": "second", "=": "tie"}[key]}, None
    if card.kind == "likeness":
        return {"y": "accept", "n": "reject"}[key], {}, None
    if key == "r":
        return "reject", {}, ask("Why")
    if key == "e":
        return "edit", {"answer": edited(card.sides[0].answer)}, None
    if key == "t":
        return "relabel", _relabelled(ask), None
    return ("accept", {}, None) if key == "a" else ("rate", {"rating": int(key)}, None)


def _relabelled(ask: Callable[[str], str]) -> dict[str, str]:
    given = {
        "task_type": ask("Task type (- leaves it)"),
        "difficulty": ask("Difficulty: easy, medium, hard (- leaves it)"),
    }
    return {name: said for name, said in given.items() if said != "-"}


def edited(text: str, environment: Mapping[str, str] = os.environ) -> str:
    """Return what the reviewer's own editor makes of a text.

    Raises:
        BadInput: the editor cannot be started or fails.
    """
    editor = environment.get("VISUAL") or environment.get("EDITOR") or "vi"
    with TemporaryDirectory(prefix="flywheel-review-") as folder:
        file = Path(folder) / "answer.md"
        file.write_text(text, encoding="utf-8")
        try:
            subprocess.run([*shlex.split(editor), str(file)], check=True)
        except (OSError, subprocess.CalledProcessError) as error:
            raise BadInput(
                "editor", editor, f"one that can be used ({error})", "Set EDITOR."
            ) from None
        changed = file.read_text(encoding="utf-8")
    return changed if text.endswith("\n") else changed.removesuffix("\n")


def _asked(side: "Side") -> Group:
    from foundation.chat import text_of

    turns = [(str(turn.get("role")), text_of(turn.get("content"))) for turn in side.prompt]
    parts = []
    for place, (speaker, said) in enumerate(turns):
        whole = place == len(turns) - 1 or len(said) <= _TURN_CHARS
        shown = said if whole else f"{said[:_TURN_CHARS]} … ({len(said)} characters)"
        parts.append(
            Text.assemble((f"{printable(speaker)}: ", "bold"), (printable(shown), "default"))
        )
    return Group(*parts)


def _answered(side: "Side", language: str | None) -> Group:
    text = printable(side.answer)
    if language and "```" not in text:
        parts = [Syntax(text, language, word_wrap=True, background_color="default")]
        return Group(*parts, *_calls(side))
    return Group(Text(text), *_calls(side))


def _calls(side: "Side") -> list[Text]:
    """Return the tool calls of an answer, a line each."""
    calls = (side.message or {}).get("tool_calls") or []
    said = [call.get("function") or {} for call in calls if isinstance(call, dict)]
    return [
        Text(printable(f"→ {call.get('name')}({call.get('arguments')})"), style="magenta")
        for call in said
    ]


def _short(value: Any) -> str:
    return f"{value:.2f}" if isinstance(value, float) else str(value)
