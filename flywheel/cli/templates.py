"""Commands for the texts that many prompts or answers of a role share."""

from typing import TYPE_CHECKING, Annotated, Any

import typer

from flywheel.cli.output import AsJson, console, percent, print_fields, print_json, print_table

if TYPE_CHECKING:
    from curation.tables import TemplateText

Role = Annotated[str | None, typer.Option(help="Agent role; default: all.")]
Digest = Annotated[str, typer.Argument(help="The beginning of its digest, see template list.")]

_SHOWN = 60


def register(app: typer.Typer) -> None:
    """Add the commands of this file."""
    group = typer.Typer(
        help="Shared texts left out of comparisons: list, show, switch.", no_args_is_help=True
    )
    group.command("list")(list_all)
    group.command("show")(show)
    group.command("disable")(disable)
    group.command("enable")(enable)
    app.add_typer(group, name="template")


def list_all(role: Role = None, as_json: AsJson = False) -> None:
    """List the templates, the most shared first."""
    from curation.templates import list_templates
    from flywheel.schema import require_current
    from foundation.database import session_scope

    require_current()
    with session_scope() as session:
        found = list_templates(session, role)
    if as_json:
        print_json([template.model_dump(mode="json") for template in found])
        return
    print_table(
        ("template", "role", "part", "seen in", "words", "left out", "begins"),
        [
            (
                template.digest[:12],
                template.role,
                template.part,
                f"{template.n_seen} ({percent(template.share)})",
                len(template.text.split()),
                "yes" if template.active else "no",
                " ".join(template.text.split())[:_SHOWN],
            )
            for template in found
        ],
        "No templates: none found yet, or nothing is shared. They are looked for by: "
        "flywheel curate --role ROLE",
    )


def show(digest: Digest, role: Role = None, as_json: AsJson = False) -> None:
    """Show a template's whole text."""
    from curation.templates import get_template
    from flywheel.schema import require_current
    from foundation.database import session_scope

    require_current()
    with session_scope() as session:
        template = get_template(session, digest, role)
    if as_json:
        print_json(template.model_dump(mode="json"))
        return
    print_fields(_fields(template))
    console.print()
    console.out(template.text, highlight=False)


def disable(digest: Digest, role: Role = None, as_json: AsJson = False) -> None:
    """Leave a template in compared texts from the next build on, which judges the role anew."""
    _switch(digest, role, as_json, active=False)


def enable(digest: Digest, role: Role = None, as_json: AsJson = False) -> None:
    """Take a template off compared texts again from the next build on."""
    _switch(digest, role, as_json, active=True)


def _switch(digest: str, role: str | None, as_json: bool, *, active: bool) -> None:
    from curation.templates import switch_template
    from flywheel.schema import require_current
    from foundation.database import session_scope

    require_current()
    with session_scope() as session:
        template = switch_template(session, digest, active=active, role=role)
    if as_json:
        print_json(template.model_dump(mode="json"))
    else:
        print_fields(_fields(template))


def _fields(template: "TemplateText") -> dict[str, Any]:
    return {
        "digest": template.digest,
        "role": template.role,
        "part": template.part,
        "seen in": f"{template.n_seen} texts, {percent(template.share)} of the sample",
        "left out": "yes" if template.active else "no",
        "found": template.found_at,
    }
