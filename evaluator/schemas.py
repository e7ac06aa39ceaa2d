"""Wire shapes of the evaluator's routes."""

from uuid import UUID

from pydantic import BaseModel, Field

from evaluator.decide import INTERVAL


class EvaluationOrder(BaseModel):
    """An evaluation to start; fields left out keep the defaults of `EvaluationPlan`."""

    suite: str
    subjects: list[str] = Field(min_length=1)
    samples_per_task: int | None = None
    temperature: float | None = None
    max_tokens: int | None = None
    seed: int | None = None
    batch_size: int | None = None
    base_url: str | None = None
    use_cache: bool | None = None


class VerdictOrder(BaseModel):
    """Two evaluations of one suite to compare."""

    baseline_evaluation_id: UUID
    candidate_evaluation_id: UUID
    reading: str = INTERVAL
    family: str | None = None
    judge: bool = False
    """Whether the judges of the settings are asked as well, before the verdict is answered."""
