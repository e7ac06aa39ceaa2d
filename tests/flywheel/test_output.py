"""How commands speak: what is logged is shown as it is and steers neither table nor terminal."""

from uuid import UUID

from flywheel.cli.output import print_fields, print_table

HOSTILE = "[/] [red]x[/red] \x1b[31m"
SHOWN = "[/] [red]x[/red] \\x1b[31m"


def test_hostile_words_in_a_table_are_shown_as_they_are(capsys):
    print_table((HOSTILE.split()[1], "n"), [(HOSTILE, 1)], "none")
    assert SHOWN in capsys.readouterr().out
    print_fields({"said": HOSTILE})
    assert SHOWN in capsys.readouterr().out


def test_a_row_is_one_line_where_no_terminal_is(capsys):
    long = "word " * 60
    print_table(("id", "text"), [(UUID(int=1), long), (str(UUID(int=2)), None)], "none")
    assert len(capsys.readouterr().out.splitlines()) == 3
