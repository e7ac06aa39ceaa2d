"""Commands for preference pairs: look at them, make some on purpose."""

from typing import Annotated, Any

import typer

from flywheel.cli.output import (
    AsJson,
    do_job,
    print_fields,
    print_json,
    print_table,
)

_SHOWN_CHARS = 60
_JOBS = {
    "judge": "curation.generate_pairs",
    "execution": "flywheel.pairs_by_execution",
    "reward": "flywheel.pairs_by_reward",
}


def register(app: typer.Typer) -> None:
    """Add the commands of this file."""
    group = typer.Typer(help="Preference pairs.", no_args_is_help=True)
    group.command("list")(list_pairs)
    group.command("generate")(generate)
    app.add_typer(group, name="pairs")


def list_pairs(
    role: Annotated[str, typer.Option(help="Agent role.")],
    basis: Annotated[
        str | None,
        typer.Option(help="outcome, correction, human, rating, constitution or generated."),
    ] = None,
    limit: Annotated[int, typer.Option(min=1, help="Pairs at most.")] = 20,
    as_json: AsJson = False,
) -> None:
    """List a role's pairs, newest first, with what each rests on."""
    from sqlmodel import col, select

    from curation.tables import PreferencePair
    from flywheel.schema import require_current
    from foundation.database import explain_row, session_scope

    require_current()
    query = select(PreferencePair).where(PreferencePair.role == role)
    if basis is not None:
        query = query.where(PreferencePair.basis == basis)
    with session_scope() as session:
        newest = query.order_by(col(PreferencePair.id).desc()).limit(limit)
        rows = [explain_row(pair) for pair in session.exec(newest)]
    if as_json:
        print_json(rows)
        return
    print_table(
        ("basis", "margin", "chosen", "rejected", "dropped because"),
        [
            (
                row["basis"],
                f"{row['margin']:.2f}",
                _beginning(row["chosen"]),
                _beginning(row["rejected"]),
                row["drop_reason"],
            )
            for row in rows
        ],
        f"No pairs yet. Form them: flywheel curate --role {role} --kind preference",
    )


def generate(
    role: Annotated[str, typer.Option(help="Agent role whose training prompts are answered.")],
    model: Annotated[str, typer.Option(help="Model that answers: a litellm name.")],
    rank: Annotated[
        str, typer.Option(help="What ranks the answers: judge, execution or reward.")
    ] = "judge",
    judge: Annotated[
        str | None, typer.Option(help="Model that ranks the answers, for --rank judge.")
    ] = None,
    reward_model: Annotated[
        str | None, typer.Option(help="Version of a reward model, for --rank reward.")
    ] = None,
    prompts: Annotated[int, typer.Option(min=1, help="Prompts at most.")] = 100,
    answers: Annotated[int, typer.Option(min=2, help="Answers to each prompt.")] = 4,
    queue: Annotated[bool, typer.Option(help="Hand it to a worker, do not wait.")] = False,
    as_json: AsJson = False,
) -> None:
    """Have a model answer prompts several times, and rank the answers; keep clear pairs."""
    from curation.recipe import CurationRecipe
    from flywheel.schema import require_current

    kind = _require_ranking(rank, judge, reward_model)
    require_current()
    calls = prompts * answers * 2  # each answer is judged from both sides
    params: dict[str, Any] = {
        "role": role,
        "recipe": CurationRecipe(judge_model=judge, judge_calls=calls).as_json(),
        "model": model,
        "n_prompts": prompts,
        "n_answers": answers,
    }
    if reward_model is not None:
        params["reward_model"] = reward_model
    result = do_job("making pairs", kind, params, role, queue=queue, quiet=as_json)
    print_json(result) if as_json else print_fields(result)


def _require_ranking(rank: str, judge: str | None, reward_model: str | None) -> str:
    """Return the job that ranks so, after a look at what it needs; raises BadInput."""
    from foundation.errors import BadInput

    needs = {"judge": (judge, "--judge"), "reward": (reward_model, "--reward-model")}
    if rank not in _JOBS:
        raise BadInput("--rank", rank, f"one of {', '.join(_JOBS)}", "Name one of those.")
    for name, (given, option) in needs.items():
        if (given is None) == (rank == name):
            expected = "a name" if rank == name else f"nothing where --rank is {rank}"
            raise BadInput(option, given, expected, f"--rank {name} needs it, and only that.")
    return _JOBS[rank]


def _beginning(text: str) -> str:
    line = " ".join(text.split())
    return line if len(line) <= _SHOWN_CHARS else f"{line[: _SHOWN_CHARS - 1]}…"
