"""The jobs of curation: a dataset, help at one, generated pairs, critique and revision."""

from typing import Any, Final
from uuid import UUID

from sqlmodel import Session

from curation.build import build_dataset, help_build, require_logged_role
from curation.constitution.principles import constitution_of
from curation.constitution.revise import FRESH, Round, run_round
from curation.preferences.generate import generate_pairs
from curation.recipe import CurationRecipe
from curation.tables import SFT
from foundation.database import session_scope
from foundation.runs import RunHandle, enqueue, job
from foundation.tables import Run

BUILD: Final = "curation.build"


def ask_for_build(
    session: Session,
    role: str,
    recipe: CurationRecipe,
    kind: str = SFT,
    helpers: int = 0,
) -> Run:
    """Queue a build, sent once the caller's transaction commits, and return its run.

    Raises:
        NotFound: the role is unknown, or nothing was logged for it.
    """
    require_logged_role(session, role)
    params = {"role": role, "recipe": recipe.as_json(), "kind": kind, "helpers": helpers}
    return enqueue(session, BUILD, params, role=role)


@job(BUILD)
def build(
    run: RunHandle,
    *,
    role: str,
    recipe: dict[str, Any] | None = None,
    kind: str = SFT,
    helpers: int = 0,
) -> dict[str, Any]:
    """Build a dataset of `role`; started again after a loss it goes on where it was.

    `helpers` workers are called to each step that is done in chunks.
    """

    def call_helpers(build_id: UUID, step: str) -> None:
        with session_scope() as session:
            for _ in range(helpers):
                params = {"build_id": str(build_id), "step": step}
                enqueue(session, "curation.help", params, role=role)

    dataset = build_dataset(
        role,
        CurationRecipe.from_json(recipe),
        kind=kind,
        run_id=run.id,
        progress=run.progress,
        check=run.check,
        call_helpers=call_helpers,
    )
    return {
        "dataset_id": str(dataset.id),
        "number": dataset.number,
        "n_train": dataset.n_train,
        "n_validation": dataset.n_validation,
        "n_test": dataset.n_test,
    }


@job("curation.help")
def help_with_chunks(run: RunHandle, *, build_id: str, step: str) -> dict[str, Any]:
    """Work off chunks of somebody's build until none is left that nobody holds."""
    return {"chunks": help_build(UUID(build_id), step, check=run.check)}


@job("curation.generate_pairs")
def make_pairs(
    run: RunHandle, *, role: str, recipe: dict[str, Any], model: str, n_prompts: int, n_answers: int
) -> dict[str, Any]:
    """Have a model answer training prompts several times, and pair what the judge ranks apart."""
    return generate_pairs(
        role,
        CurationRecipe.from_json(recipe),
        model,
        n_prompts=n_prompts,
        n_answers=n_answers,
        progress=run.progress,
        check=run.check,
    )


@job("curation.constitution")
def revise_by_constitution(
    run: RunHandle,
    *,
    role: str,
    recipe: dict[str, Any],
    model: str,
    principles: list[dict[str, str]],
    n_prompts: int,
    calls: int,
    answers: str = FRESH,
) -> dict[str, Any]:
    """Have a model criticise and revise answers by principles; started again, it goes on."""
    order = Round(
        role,
        model,
        constitution_of(principles),
        n_prompts,
        calls,
        answers,
        CurationRecipe.from_json(recipe),
        run.id,
    )
    return run_round(order, run.progress, run.check)
