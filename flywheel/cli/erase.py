"""The command that erases calls, and everything that was made of them, at somebody's request."""

import getpass
import json
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Final

import typer

from flywheel.cli.output import AsJson, console, notes, print_fields, print_json, print_table

if TYPE_CHECKING:
    from curation.tables import Erasure

_NOTHING: Final = "Nothing: no logged call has this name. It may be erased already."


def register(app: typer.Typer) -> None:
    """Add the commands of this file."""
    app.command()(erase)


def erase(
    interaction: Annotated[list[str] | None, typer.Option(help="Id of a call, repeatable.")] = None,
    episode: Annotated[str | None, typer.Option(help="Id of an episode: all of its calls.")] = None,
    unit: Annotated[str | None, typer.Option(help="Unit, such as a person: all calls.")] = None,
    project: Annotated[str | None, typer.Option(help="Project: all of its calls.")] = None,
    again: Annotated[
        bool, typer.Option("--again", help="What was erased before and came back since.")
    ] = False,
    certificates: Annotated[
        list[Path] | None,
        typer.Option(help="With --again: certificates of erasures since the backup; repeatable."),
    ] = None,
    reason: Annotated[str | None, typer.Option(help="Why; it is kept.")] = None,
    actor: Annotated[str | None, typer.Option(help="Who asks; default: this user.")] = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Only say what would go.")] = False,
    verify: Annotated[
        bool, typer.Option(help="Search every table afterwards for what is left.")
    ] = True,
    certificate: Annotated[
        Path | None, typer.Option(help="File that the certificate is written to, as JSON.")
    ] = None,
    yes: Annotated[bool, typer.Option("--yes", help="Do not ask for confirmation.")] = False,
    as_json: AsJson = False,
) -> None:
    """Erase calls, what was made of them, and their rows in published datasets; for good."""
    from collector.erase import Subject
    from flywheel import erasing
    from flywheel.schema import require_current
    from foundation.errors import BadInput

    named = {"interaction": interaction, "episode": episode, "unit": unit, "project": project}
    given = {scope: names for scope, names in named.items() if names}
    if len(given) + again != 1:
        expected = "one of --interaction, --episode, --unit, --project, --again"
        raise BadInput("what to erase", sorted(given), expected, "See: flywheel erase --help")
    if as_json and not (yes or dry_run):
        raise BadInput("--json", True, "with --dry-run or --yes", "A program cannot be asked.")
    require_current()
    who = actor or getpass.getuser()
    if again:
        _erase_again(who, certificates or [], as_json, dry_run)
        return
    (scope, names), *_ = given.items()
    subject = Subject(scope, (names,) if isinstance(names, str) else tuple(names))
    if dry_run:
        _print(erasing.tried(subject, who), as_json)
        return
    if not yes:
        _print(erasing.tried(subject, who), False)
        typer.confirm("Erase it for good?", abort=True, err=True)
    if certificate is not None:
        certificate.touch()  # What cannot be written is said before anything has gone.
    done = erasing.erase_all(subject, actor=who, reason=reason, verify=verify)
    if certificate is not None:
        certificate.write_text(json.dumps(done.certificate, indent=2, ensure_ascii=False) + "\n")
    _print(done.account, as_json, done.certificate)


def _erase_again(actor: str, certificates: list[Path], as_json: bool, dry_run: bool) -> None:
    from flywheel import erasing
    from foundation.errors import BadInput

    if dry_run:
        raise BadInput("--again", "--dry-run", "one of the two", "It asks nothing, and says it.")
    known = [json.loads(path.read_text()) for path in certificates]
    found = erasing.again(actor=actor, certificates=known)
    if as_json and found is None:
        print_json({"erased": False})
    elif found is None:
        console.print("Nothing has come back.")
    else:
        _print(found.account, as_json, found.certificate)


def _print(account: "Erasure", as_json: bool, certificate: dict[str, Any] | None = None) -> None:
    from curation.erase import FILES, NEIGHBOURS

    counts = {name: n for name, n in account.counts.items() if name != FILES}
    neighbours = counts.pop(NEIGHBOURS, 0)
    done = certificate is not None
    said: dict[str, Any] = {
        "erased": done,
        "counts": counts,
        "datasets": account.dataset_ids,
        "models": account.model_versions,
        "other_calls_of_the_episodes": neighbours,
        **({"certificate": certificate} if done else {}),
    }
    if as_json:
        print_json(said)
        return
    print_table(("rows", "erased" if done else "would go"), sorted(counts.items()), _NOTHING)
    print_fields(
        {
            "datasets that held it": ", ".join(account.dataset_ids) or None,
            "suites that held it": ", ".join((account.proof or {}).get("suites", [])) or None,
            "models that learned from it": ", ".join(account.model_versions) or None,
        }
    )
    if neighbours:
        notes.print(
            f"{neighbours} other calls of the same episodes stay, and their prompts may quote it: "
            "--episode erases them too."
        )
    if certificate is not None:
        _print_proof(certificate)
    if done and counts:
        console.print("Curate again: what repeated it takes its place.")


def _print_proof(certificate: dict[str, Any]) -> None:
    for version in certificate["model_versions"]:
        console.print(f"{version['name']} ({version['stage']}): {version['to_do']}.")
    remaining = certificate["verified"]["remaining"]
    if remaining is None:
        notes.print("Not searched for what is left: --verify does.")
    elif remaining:
        print_table(("table", "rows that say the same, or quote it"), sorted(remaining.items()), "")
    else:
        console.print("Every table was searched: nothing of it is left.")
