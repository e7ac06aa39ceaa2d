"""Commands that say something about calls and episodes, and declare what metrics mean."""

import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any
from uuid import UUID

import typer

from flywheel.cli import sources
from flywheel.cli.output import AsJson, as_uuid, print_fields, print_json, print_table

if TYPE_CHECKING:
    from collector.feedback import Subject

Interaction = Annotated[str | None, typer.Option(help="Id of the call.")]
InteractionKey = Annotated[str | None, typer.Option(help="Your own key of the call.")]
ResponseId = Annotated[str | None, typer.Option(help="The provider's id of the call's answer.")]
EpisodeId = Annotated[str | None, typer.Option(help="Id of the episode.")]
EpisodeKey = Annotated[str | None, typer.Option(help="Your own key of the episode: PR-12.")]
Project = Annotated[str | None, typer.Option(help="Of the keys; else FLYWHEEL_PROJECT.")]


def register(app: typer.Typer) -> None:
    """Add the commands of this file."""
    feedback = typer.Typer(help="Feedback: add, list, take results of CI.", no_args_is_help=True)
    feedback.command("add")(add)
    feedback.command("list")(list_about)
    feedback.command("ci")(add_ci)
    feedback.command("join")(join)
    sources.register(feedback)
    app.add_typer(feedback, name="feedback")
    metric = typer.Typer(help="Metrics: declare, list, withdraw.", no_args_is_help=True)
    metric.command("declare")(declare)
    metric.command("list")(list_metrics)
    metric.command("withdraw")(withdraw)
    app.add_typer(metric, name="metric")


def add(
    kind: Annotated[
        str,
        typer.Argument(
            help="rating, success, metric, category, comment, correction or preference."
        ),
    ],
    value: Annotated[
        float | None, typer.Option(help="Rating 1-5, success 0 or 1, or the metric's value.")
    ] = None,
    text: Annotated[
        str | None, typer.Option(help="Comment, category, or the answer that should have been.")
    ] = None,
    name: Annotated[str | None, typer.Option(help="Of the metric or category.")] = None,
    interaction: Interaction = None,
    interaction_key: InteractionKey = None,
    response_id: ResponseId = None,
    episode: EpisodeId = None,
    episode_key: EpisodeKey = None,
    project: Project = None,
    loser: Annotated[str | None, typer.Option(help="Of a preference: the other call's id.")] = None,
    loser_key: Annotated[str | None, typer.Option(help="Or its key.")] = None,
    loser_response_id: Annotated[str | None, typer.Option(help="Or its answer's id.")] = None,
    source: Annotated[str, typer.Option(help="human, test, judge, user or role.")] = "human",
    actor: Annotated[str | None, typer.Option(help="Who says so.")] = None,
    id: Annotated[str | None, typer.Option(help="The same again stores nothing.")] = None,
    as_json: AsJson = False,
) -> None:
    """Say something about a call or an episode, also before its record is here."""
    from foundation.ids import new_id

    about = _subject(interaction, interaction_key, response_id, episode, episode_key, project)
    statement = {
        "id": str(as_uuid("feedback id", id) if id else new_id()),
        "kind": kind,
        "value": value,
        "text": text,
        "name": name,
        "loser_interaction_id": loser,
        "loser_interaction_key": loser_key,
        "loser_response_id": loser_response_id,
        "source": source,
        "actor": actor,
        **about.columns(),
    }
    given = {name: said for name, said in statement.items() if said is not None}
    _answer(_delivered([given], "feedback"), as_json)


def list_about(
    id: Annotated[str | None, typer.Argument(help="Id of a call or of an episode.")] = None,
    interaction_key: InteractionKey = None,
    response_id: ResponseId = None,
    episode_key: EpisodeKey = None,
    project: Project = None,
    limit: Annotated[int, typer.Option(min=1, max=10_000, help="How many.")] = 200,
    as_json: AsJson = False,
) -> None:
    """List what was said about a call, or about an episode and the calls in it."""
    about = _subject(id, interaction_key, response_id, id, episode_key, project)
    found = _said(about, limit)
    if as_json:
        print_json(found)
        return
    print_table(
        ("feedback", "about", "kind", "said", "source", "when"),
        [
            (UUID(one["id"]), _about(one), one["kind"], _words(one))
            + (f"{one['source']} {one['actor'] or ''}".strip(), one["created_at"][:16])
            for one in found
        ],
        "Nothing was said.",
    )


def _about(said: Mapping[str, Any]) -> str:
    if said["interaction_id"]:
        return str(said["interaction_id"])
    name = said["interaction_key"] or said["response_id"]
    return f"waits: {name}" if name else "episode"


def _words(said: Mapping[str, Any]) -> str:
    value = said["value"]
    parts = (said["name"], None if value is None else f"{value:g}", said["text"])
    return " ".join(part for part in parts if part)[:200]


def add_ci(
    paths: Annotated[list[Path], typer.Argument(help="JUnit XML files, together one run.")],
    interaction: Interaction = None,
    interaction_key: InteractionKey = None,
    response_id: ResponseId = None,
    episode: EpisodeId = None,
    episode_key: EpisodeKey = None,
    project: Project = None,
    actor: Annotated[str, typer.Option(help="Which tests: its next run replaces this.")] = "junit",
    as_json: AsJson = False,
) -> None:
    """Make feedback of test results: whether all passed, and the share of those that did."""
    from hashlib import sha256

    from collector.feedback import ci

    about = _subject(interaction, interaction_key, response_id, episode, episode_key, project)
    named = about.columns()
    bodies = [_read(path) for path in paths]
    report = ci.merged(ci.read_junit(body) for body in bodies)
    digest = sha256(b"".join(sha256(body).digest() for body in bodies)).hexdigest()
    key = ci.run_key(digest, named, actor)
    statements = ci.statements(report, named, actor, key)
    _answer(_delivered(statements, "ci", key), as_json, report.details())


def join(
    hours: Annotated[float, typer.Option(min=0, help="How far back.")] = 24.0,
    as_json: AsJson = False,
) -> None:
    """Join what missed its call, and give the credit that is due by the rules as they are now."""
    from datetime import timedelta

    from collector.tasks import join as join_since
    from flywheel.schema import require_current

    require_current()
    done = {"joined": join_since(timedelta(hours=hours))}
    print_json(done) if as_json else print_fields(done)


def _read(path: Path) -> bytes:
    from foundation.errors import BadInput

    try:
        return path.read_bytes()
    except OSError as error:
        raise BadInput(
            "JUnit report", str(path), f"a readable file ({error.strerror})", "Name it."
        ) from None


def _subject(
    interaction: str | None,
    interaction_key: str | None,
    response_id: str | None,
    episode: str | None,
    episode_key: str | None,
    project: str | None,
) -> "Subject":
    from collector.feedback import Subject

    return Subject(
        as_uuid("interaction", interaction) if interaction else None,
        interaction_key,
        response_id,
        as_uuid("episode", episode) if episode else None,
        episode_key,
        project or os.environ.get("FLYWHEEL_PROJECT"),
    )


def _delivered(
    statements: Sequence[Mapping[str, Any]], source: str, key: str | None = None
) -> list[Mapping[str, Any]]:
    """Store statements: through the service of `FLYWHEEL_URL` if there is one, else here.

    The service makes ids of `key`, if there is one: it takes none that were made of a key.
    """
    if os.environ.get("FLYWHEEL_URL"):
        from hashlib import sha256

        sent, headers = [dict(one) for one in statements], dict[str, str]()
        if key is not None:
            headers["Idempotency-Key"] = sha256(key.encode()).hexdigest()
            for one in sent:
                one.pop("id", None)
        results: list[Mapping[str, Any]] = _ask("POST", headers, json=sent)["results"]
        return results
    from collector.feedback import of_statements
    from collector.ingest import store
    from flywheel.schema import require_current
    from foundation.database import session_scope

    require_current()
    with session_scope() as session:
        stored = store(session, of_statements(statements, source))
    return [result.model_dump() for result in stored]


def _said(about: "Subject", limit: int) -> list[Mapping[str, Any]]:
    """Return what was said, from where `_delivered` brings it."""
    if os.environ.get("FLYWHEEL_URL"):
        found: list[Mapping[str, Any]] = _ask("GET", params={**about.columns(), "limit": limit})
        return found
    from collector.feedback import said_about
    from flywheel.schema import require_current
    from foundation.database import explain_row, session_scope

    require_current()
    with session_scope() as session:
        return [explain_row(one) for one in said_about(session, about, limit)]


def _ask(method: str, more: Mapping[str, str] | None = None, **content: Any) -> Any:
    """Return the JSON that the service of `FLYWHEEL_URL` answers; raises BadInput."""
    import httpx

    from foundation.errors import BadInput

    url, key = os.environ["FLYWHEEL_URL"].rstrip("/"), os.environ.get("FLYWHEEL_API_KEY")
    headers = {**({"Authorization": f"Bearer {key}"} if key else {}), **(more or {})}
    try:
        answer = httpx.request(method, f"{url}/v1/feedback", headers=headers, timeout=30, **content)
    except httpx.HTTPError as error:
        raise BadInput("service", url, f"an answer ({error})", "Check FLYWHEEL_URL.") from None
    if answer.is_error:
        raise BadInput("service", url, f"no error {answer.status_code}", answer.text[:300])
    return answer.json()


def _answer(
    results: Sequence[Mapping[str, Any]], as_json: bool, extra: Mapping[str, Any] | None = None
) -> None:
    """Print what became of the statements; raises BadInput if one was rejected."""
    from foundation.errors import BadInput

    for one in results:
        if one["status"] == "rejected":
            raise BadInput("feedback", one["id"], one["reason"], "Correct it.")
    if as_json:
        print_json({"results": results, **(extra or {})})
    else:
        print_fields({one["id"]: one["status"] for one in results} | dict(extra or {}))


def declare(
    name: Annotated[str, typer.Argument(help="Name of the metric.")],
    direction: Annotated[str, typer.Option(help="max: more is better; min: less is.")],
    low: Annotated[float | None, typer.Option(help="Least value that is accepted.")] = None,
    high: Annotated[float | None, typer.Option(help="Greatest value that is accepted.")] = None,
    description: Annotated[str | None, typer.Option(help="What it measures.")] = None,
    as_json: AsJson = False,
) -> None:
    """Declare a metric, or declare it anew: values outside its range are rejected from now on."""
    from collector.feedback import metrics
    from flywheel.schema import require_current
    from foundation.database import explain_row, session_scope

    require_current()
    with session_scope() as session:
        found = explain_row(metrics.declare(session, name, direction, low, high, description))
    print_json(found) if as_json else print_fields(found)


def list_metrics(as_json: AsJson = False) -> None:
    """List metrics, declared or only said, with what was said by each."""
    from dataclasses import asdict

    from collector.feedback.metrics import metrics_in_use, range_text
    from flywheel.schema import require_current
    from foundation.database import session_scope

    require_current()
    with session_scope() as session:
        found = metrics_in_use(session)
    if as_json:
        print_json([asdict(one) for one in found])
        return
    print_table(
        ("metric", "better", "range", "statements", "lowest", "highest"),
        [
            (one.name, one.direction or "undeclared", range_text(one.low, one.high))
            + (one.n, one.lowest, one.highest)
            for one in found
        ],
        "No metrics yet. Declare one with: flywheel metric declare",
    )


def withdraw(
    name: Annotated[str, typer.Argument(help="Name of the metric.")], as_json: AsJson = False
) -> None:
    """Take a declaration back; what was said by the metric stays."""
    from collector.feedback import metrics
    from flywheel.schema import require_current
    from foundation.database import session_scope

    require_current()
    with session_scope() as session:
        metrics.withdraw(session, name)
    print_json({"withdrawn": name}) if as_json else print_fields({"withdrawn": name})
