"""What the evaluator found, handed to active collection: a campaign drafted from knowledge gaps."""

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from sqlmodel import Session

from collector import campaign
from collector.campaign.spec import read_spec
from collector.tables import Campaign
from evaluator.gaps import Gap, difficulties_for, topics_for
from foundation.errors import BadInput


def draft_campaign(session: Session, path: Path, role: str, gaps: Sequence[Gap]) -> Campaign:
    """Plan the campaign of a file with the topics and difficulties of the gaps; it does not start.

    Raises:
        BadInput: the file is no campaign, is of another role, gives its tasks one by one, or there
            is no gap by task type or difficulty to collect for.
        Conflict: a campaign of this name has started already.
    """
    spec = read_spec(path)
    if spec.role != role:
        raise BadInput("role of the campaign", spec.role, role, "Name a campaign of this role.")
    if spec.task.items is not None:
        raise BadInput(
            "task of the campaign", "items", "template or generator", "Given tasks have no topics."
        )
    topics, difficulties = topics_for(gaps), difficulties_for(gaps)
    if not topics and not difficulties:
        raise BadInput(
            "gaps",
            f"none of {role} by task type or difficulty",
            "a kind of task that fails",
            "Give calls a task_type, or evaluate on a suite whose tasks have attributes.",
        )
    asked = replace(
        spec, topics=topics or spec.topics, difficulties=difficulties or spec.difficulties
    )
    return campaign.create(session, asked)
