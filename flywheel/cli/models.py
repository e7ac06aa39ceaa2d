"""Commands for model versions: add, list, deploy."""

from typing import TYPE_CHECKING, Annotated

import typer

from flywheel.cli import compress, export, registry
from flywheel.cli.output import (
    AsJson,
    print_fields,
    print_json,
    print_table,
)

if TYPE_CHECKING:
    from datetime import datetime

    from trainer.tables import ModelVersion


def register(app: typer.Typer) -> None:
    """Add the commands of this file."""
    versions = typer.Typer(help="Model versions.", no_args_is_help=True)
    versions.command("add")(add_version)
    versions.command("list")(list_all)
    versions.command("deploy")(deploy)
    versions.command("undeploy")(undeploy)
    versions.command("served")(served)
    registry.register(versions)
    compress.register(versions)
    export.register(versions)
    app.add_typer(versions, name="model")


def add_version(
    role: Annotated[str, typer.Argument(help="Agent role whose baseline it may be.")],
    model: Annotated[str, typer.Argument(help="Folder or hub name, or an external model's name.")],
    external: Annotated[
        bool, typer.Option(help="An upstream of FLYWHEEL_UPSTREAMS or litellm answers for it.")
    ] = False,
    name: Annotated[str | None, typer.Option(help="What to call the version.")] = None,
    as_json: AsJson = False,
) -> None:
    """Register the model that a role uses now; let it serve with: flywheel promote."""
    from flywheel.schema import require_current
    from foundation.database import session_scope
    from trainer.registry import BASE, EXTERNAL, ensure_base_version

    require_current()
    with session_scope() as session:
        kind = EXTERNAL if external else BASE
        found = ensure_base_version(session, role, model, name, kind).model_dump(mode="json")
    print_json(found) if as_json else print_fields(found)


def list_all(
    role: Annotated[str | None, typer.Option(help="Only of this role.")] = None,
    stage: Annotated[str | None, typer.Option(help="Only of this stage.")] = None,
    as_json: AsJson = False,
) -> None:
    """List the model versions, newest first."""
    from flywheel.schema import require_current
    from foundation.database import session_scope
    from trainer.registry import list_versions, require_role, require_stage

    if role is not None:
        require_role(role)
    if stage is not None:
        require_stage(stage)
    require_current()
    with session_scope() as session:
        found = list_versions(session, role, stage)
    if as_json:
        print_json([version.model_dump(mode="json") for version in found])
        return
    print_table(
        ("version", "role", "kind", "stage", "base", "made", "files"),
        [
            (v.name, v.role, v.kind, v.stage, v.base_model, _minute(v.created_at), _files_of(v))
            for v in found
        ],
        "No such model version."
        if role or stage
        else "No model versions yet: flywheel model add ROLE MODEL",
    )


def _minute(time: "datetime") -> str:
    return f"{time:%Y-%m-%d %H:%M}"


def _files_of(version: "ModelVersion") -> str | None:
    """Return what is unusual about a version's files."""
    if version.files_removed_at is not None:
        return "removed"
    return None if version.pinned_because is None else "pinned"


def deploy(
    version: Annotated[str, typer.Argument(help="Name or id of the model version.")],
    as_json: AsJson = False,
) -> None:
    """Load a version into the model server and verify that it answers; switches nobody."""
    from flywheel.schema import require_current
    from foundation.database import session_scope
    from serving.deploy import prepare
    from trainer.registry import get_version

    require_current()
    with session_scope() as session:
        ready = prepare(session, get_version(session, version)).as_json()
    print_json(ready) if as_json else print_fields(ready)


def undeploy(
    version: Annotated[str, typer.Argument(help="Name or id of the model version.")],
    as_json: AsJson = False,
) -> None:
    """Have the model server forget a version that neither serves nor is in an experiment."""
    from flywheel.schema import require_current
    from foundation.database import session_scope
    from serving.deploy import undeploy as forget
    from trainer.registry import get_version

    require_current()
    with session_scope() as session:
        found = get_version(session, version)
        said = {"version": found.name, "server": forget(session, found)}
    print_json(said) if as_json else print_fields(said)


def served(as_json: AsJson = False) -> None:
    """List what the model server answers for."""
    from dataclasses import asdict

    from serving.backends.kinds import engine_door

    door = engine_door()
    found = door.models()
    if as_json:
        models = [asdict(model) for model in found]
        print_json({"kind": door.kind, "base_url": door.base_url, "models": models})
        return
    print_table(
        ("model", "on", "from"),
        [(model.name, model.parent or "", model.root or "") for model in found],
        f"The {door.kind} server at {door.base_url} has no models.",
    )
