"""Review from the command line: programs by commands, people by keys in a real terminal."""

import json
import os
import pty
import select as ready
import subprocess
import sys
import termios
import time
from collections.abc import Callable
from pathlib import Path

from by_hand import PROJECT, Said, environment_with
from review_rows import dataset, example, examples, item, items, pair
from rich.console import Console
from sqlmodel import select

from curation.review.cards import card_of
from curation.review.said import is_swapped
from curation.review.samples import ShownSample, add_samples
from curation.tables import ReviewItem, ReviewLabel
from flywheel.cli.review_keys import edited, show
from foundation.ids import new_id

Command = Callable[..., Said]


def test_an_item_by_commands(session, command: Command, tmp_path: Path):
    dataset(session, examples(session, 30, task_type="fix"))
    session.commit()
    assert command("review", "fill", "--role", "coder", "--json").json["random"] >= 3
    forward = ("--task-type", "fix", "--limit", "2", "--assign-to", "ann")
    assert command("review", "fill", "--role", "coder", *forward, "--json").json == {"filter": 2}
    card = command("review", "next", "--reviewer", "ann", "--json").json
    assert "total_" in command("review", "next", "--reviewer", "ann").out
    (tmp_path / "better.py").write_text("total = 0\n")
    about = (card["item_id"], "edit", "--answer", "better.py", "--reviewer", "ann")
    assert command("review", "label", *about, "--json").json["value"]["answer"] == "total = 0\n"
    assert command("review", "label", *about).code == 2
    assert command("review", "export", "labels.jsonl", "--json").json["labels"] == 1
    line = json.loads((tmp_path / "labels.jsonl").read_text())
    assert line["subject_id"]
    stats = command("review", "stats", "--json").json
    assert stats["reviewers"][0]["actions"] == {"edit": 1}
    assert "ann" in command("review", "stats").out
    undone = command("review", "undo", "--reviewer", "ann", "--json").json
    assert undone["item_id"] == card["item_id"]
    assert command("review", "skip", card["item_id"], "--reviewer", "ann").code == 0
    assert command("review", "agreement", "--json").json["n_items"] == 0
    assert "two people" in command("review", "agreement").out


def test_two_answers_of_an_evaluation_by_commands(session, command: Command):
    prompt = [{"role": "user", "content": "Say x."}]
    add_samples(session, "coder", [ShownSample(new_id(), new_id(), prompt, "plain", "long")])
    session.commit()
    about = ("--kind", "sample", "--reviewer", "ann")
    card = command("review", "next", *about, "--json")
    assert card.json["kind"] == "sample"
    shown = command("review", "next", *about).out
    assert "plain" in shown
    assert "long" in shown
    said = ("compare", "--choice", "tie", "--reviewer", "ann")
    assert command("review", "label", card.json["item_id"], "accept").code == 2
    assert command("review", "label", card.json["item_id"], *said, "--json").json["value"] == {
        "winner": None,
        "loser": None,
    }
    stats = command("review", "stats", "--json").json
    assert [(row["kind"], row["reason"]) for row in stats["waiting"]] == [("sample", "random")]


def test_keys_need_a_terminal(database, command: Command):
    said = command("review")
    assert (said.code, "terminal" in said.err) == (2, True)


Keys = list[tuple[str, str]]
"""What is pressed once a text is on the screen; a line ends with a return."""


def in_terminal(folder: Path, keys: Keys, *arguments: str, **variables: str) -> str:
    """Run `flywheel` in a terminal; return all that was on the screen."""
    ours, theirs = pty.openpty()
    process = subprocess.Popen(
        [sys.executable, "-m", "flywheel", *arguments],
        cwd=folder,
        env=environment_with(TERM="xterm", COLUMNS="100", **variables),
        stdin=theirs,
        stdout=theirs,
        stderr=theirs,
        close_fds=True,
    )
    os.close(theirs)
    screen, seen = "", 0
    deadline = time.monotonic() + 120
    try:
        while process.poll() is None or ready.select([ours], [], [], 0)[0]:
            assert time.monotonic() < deadline, screen
            if ready.select([ours], [], [], 0.1)[0]:
                try:
                    screen += os.read(ours, 65536).decode()
                except OSError:  # Linux says so when the other end is closed
                    break
            while keys and keys[0][0] in screen[seen:] and takes(ours, keys[0][1]):
                seen = screen.index(keys[0][0], seen) + len(keys[0][0])
                os.write(ours, keys.pop(0)[1].encode())
    finally:
        process.kill()
        process.wait()
        os.close(ours)
    assert not keys, screen
    return screen


def takes(terminal: int, text: str) -> bool:
    """Say whether the program reads keys if one is to be pressed: earlier ones would be lost."""
    by_line = bool(termios.tcgetattr(terminal)[3] & termios.ICANON)
    return by_line == text.endswith("\r") or not text


def test_a_sitting_key_by_key(session, tmp_path: Path):
    first, second = items(session, 2)
    first.priority, second.priority = 0.9, 0.8
    made, *_ = pair(session)
    compared = item(session, made.id, kind="pair", priority=0.1)
    session.commit()
    keys = [
        ("total_0", ""),
        ("[q] quit", "r"),
        ("Why", "does nothing\r"),
        ("total_1", ""),
        ("[q] quit", "u"),
        ("total_0", ""),
        ("[q] quit", "e"),
        ("total_1", ""),
        ("[q] quit", "4"),
        ("first is better", "1"),
    ]
    editor = f"{sys.executable} -c \"import sys; open(sys.argv[1], 'a').write('!')\""
    screen = in_terminal(
        tmp_path, keys, "review", "start", "--reviewer", "ann", EDITOR=editor, VISUAL=editor,
        PYTHONPATH=str(PROJECT),
    )  # fmt: skip
    assert "Nothing waits." in screen
    session.expire_all()
    said = session.exec(select(ReviewLabel).order_by(ReviewLabel.created_at)).all()
    assert [(one.action, one.undone_at is None) for one in said] == [
        ("reject", False),
        ("edit", True),
        ("rate", True),
        ("compare", True),
    ]
    assert said[0].reason == "does nothing"
    assert said[1].value["answer"] == said[1].value["original"] + "!"
    assert said[2].value == {"rating": 4}
    better = is_swapped(compared.id, "ann")
    assert said[3].value["winner"] == str(made.loser_id if better else made.winner_id)
    assert {one.status for one in session.exec(select(ReviewItem))} == {"done"}


def test_quitting_gives_the_item_back(session, tmp_path: Path):
    (only,) = items(session, 1)
    session.commit()
    in_terminal(tmp_path, [("[q] quit", "q")], "review", PYTHONPATH=str(PROJECT))
    session.refresh(only)
    assert (only.status, only.leased_by) == ("open", None)


def test_a_hostile_answer_cannot_steer_the_terminal(session):
    evil = example(session, "\x1b]0;owned\x07 [bold]markup[/bold] \x1b[2J", prompt="a\x9bb")
    card = card_of(session, item(session, evil.id).id, "ann")
    screen = Console(record=True, force_terminal=False, width=100)
    show(card, screen)
    printed = screen.export_text()
    assert "\x1b" not in printed
    assert "\x07" not in printed
    assert "\\x1b]0;owned\\x07 [bold]markup[/bold]" in printed


def test_an_editor_adds_no_line_of_its_own(tmp_path: Path):
    script = tmp_path / "edit.py"
    script.write_text("import sys\nopen(sys.argv[1], 'w').write('changed\\n')\n")
    assert edited("old", {"EDITOR": f"{sys.executable} {script}"}) == "changed"
    assert edited("old\n", {"EDITOR": f"{sys.executable} {script}"}) == "changed\n"
