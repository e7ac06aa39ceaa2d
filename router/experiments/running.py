"""Which experiments run: all that the gateway, which decides none, has to know of them."""

from sqlmodel import Session, col, select

from router.tables import RUNNING, Experiment


def running_experiments(session: Session) -> list[Experiment]:
    """Return the running experiments of all roles, oldest first; hold-backs are among them."""
    return list(
        session.exec(
            select(Experiment).where(Experiment.status == RUNNING).order_by(col(Experiment.id))
        ).all()
    )
