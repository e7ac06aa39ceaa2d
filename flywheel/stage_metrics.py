"""How every stage stands, asked of the database for /metrics of the service.

What happens rarely and anywhere (a build, a training, a promotion by a command) is not counted by
processes but read from its rows: tables of one row for each, of which there are thousands at most.
What is asked of the large tables goes by a partial index. The answer is kept for a while, so that
the database pays the same however many ask; a query that takes too long is left out and counted.
"""

import logging
import threading
import time
from collections.abc import Callable, Iterable
from itertools import product
from typing import Any, Final

from sqlalchemy import text
from sqlalchemy.exc import SQLAlchemyError
from sqlmodel import Session

from collector.dead_letters import open_by_code
from collector.metrics import collector_families
from collector.reconcile import reconciliation
from flywheel.leader import LOCK
from foundation import meters
from foundation.database import session_scope
from foundation.errors import FlywheelError
from foundation.meters import SERVICE, Metric, gauge
from foundation.runs import queue_of
from foundation.settings import get_settings
from foundation.tables import DONE, RUNNING
from router.promote import INITIAL, PROMOTE, ROLLBACK

log = logging.getLogger(__name__)

KEEP_S: Final = 10.0
"""Seconds for which an answer is given again."""
TIMEOUT_MS: Final = 2_000
"""Milliseconds of one query at most."""

Values = list[tuple[tuple[str, ...], float]]
Query = Callable[[Session], list[Any]]


def _gauge(name: str, stage: str, meaning: str, *labels: str) -> Metric:
    return gauge(name, stage, meaning, labels, (SERVICE,))


UP = _gauge("flywheel_database_up", "database", "1 while the database answers.")
FAILED_QUERIES = _gauge(
    "flywheel_metrics_queries_failed",
    "database",
    "Questions of this answer that the database did not answer in 2 s.",
)
SIZE = _gauge("flywheel_database_size_bytes", "database", "Bytes of the database.")
CONNECTIONS = _gauge("flywheel_database_connections", "database", "Connections that are open.")
MOST_CONNECTIONS = _gauge(
    "flywheel_database_connections_limit", "database", "Connections that may be open."
)
OLDEST = _gauge(
    "flywheel_database_oldest_transaction_seconds",
    "database",
    "Age of the oldest transaction that holds back cleaning; 0 without one.",
)
AHEAD = _gauge(
    "flywheel_partitions_ahead",
    "database",
    "Weeks after this one for which the log has partitions.",
    "table",
)
LEADS = _gauge(
    "flywheel_scheduler_leads", "scheduler", "1 while some scheduler leads, as its lock says."
)
BACKUP = _gauge(
    "flywheel_backup_last_success_timestamp_seconds",
    "backup",
    "When the newest backup was done, seconds since 1970; none before the first.",
)
RUNS = _gauge("flywheel_runs_open", "runs", "Runs that wait or run.", "queue", "kind", "status")
QUEUE_AGE = _gauge(
    "flywheel_queue_oldest_seconds", "runs", "Age of the run that waits longest.", "queue"
)
SILENT = _gauge("flywheel_runs_silent", "runs", "Running runs whose worker fell silent.")
BUILDS = _gauge("flywheel_datasets", "curation", "Dataset versions.", "role", "kind")
EXAMPLES = _gauge(
    "flywheel_examples",
    "curation",
    "Examples behind a role's newest dataset: kept, or dropped by reason.",
    "role",
    "status",
    "reason",
)
REVIEW = _gauge("flywheel_review_open", "curation", "Things that wait for a reviewer.", "role")
TRAININGS = _gauge(
    "flywheel_trainings", "trainer", "Trainings by role and status.", "role", "status"
)
SPEED = _gauge(
    "flywheel_training_tokens_per_second",
    "trainer",
    "Speed of the trainings that run, as they last said.",
    "role",
)
MEMORY = _gauge(
    "flywheel_training_memory_bytes",
    "trainer",
    "Peak memory of the trainings that run, of the GPU where they are on one.",
    "role",
)
VERSIONS = _gauge("flywheel_model_versions", "trainer", "Model versions.", "role", "stage")
EVALUATIONS = _gauge("flywheel_evaluations", "evaluator", "Evaluations stored.")
SAMPLES = _gauge(
    "flywheel_evaluation_samples", "evaluator", "Answers of all evaluations.", "outcome"
)
VERDICTS = _gauge("flywheel_verdicts", "evaluator", "Verdicts.", "role", "outcome")
EXPERIMENTS = _gauge(
    "flywheel_experiments_running", "router", "Experiments that run.", "role", "kind"
)
PHASE = _gauge(
    "flywheel_experiment_phase", "router", "Phase of the ramp of the running experiment.", "role"
)
SHARE = _gauge(
    "flywheel_experiment_treatment_share",
    "router",
    "Share of the units that its candidate gets, 0-1.",
    "role",
)
PROMOTIONS = meters.declare(
    "counter",
    "flywheel_promotions",
    "router",
    "Changes of who serves: initial, promote, rollback.",
    ("role", "kind"),
    (SERVICE,),
)
STOPPED = _gauge("flywheel_emergency_stop", "router", "1 while a role is stopped.", "role")
SERVING = _gauge(
    "flywheel_serving_info", "router", "1 for the version that serves a role.", "role", "version"
)


def _rows(sql: str, **values: Any) -> Query:
    return lambda session: list(session.execute(text(sql), values).all())


def _as_values(rows: Iterable[Any]) -> Values:
    """Return rows whose last column is the value."""
    return [(tuple(str(label) for label in row[:-1]), float(row[-1])) for row in rows]


def _simple(metric: Metric, sql: str, **values: Any) -> Callable[[Session], list[Any]]:
    return lambda session: [metric.family(_as_values(_rows(sql, **values)(session)))]


def _collector(session: Session) -> list[Any]:
    return collector_families(reconciliation(session), open_by_code(session))


def _server(session: Session) -> list[Any]:
    (row,) = session.execute(text(_SERVER)).all()
    told = zip((SIZE, CONNECTIONS, MOST_CONNECTIONS, OLDEST, LEADS), row, strict=True)
    return [metric.family([((), float(value))]) for metric, value in told]


def _runs(session: Session) -> list[Any]:
    found: dict[tuple[str, str, str], float] = {}
    oldest: dict[str, float] = {}
    for kind, status, n, age_s in session.execute(text(_OPEN_RUNS)):
        queue = queue_of(kind) or "unknown"
        found[queue, kind, status] = n
        if status != RUNNING:
            oldest[queue] = max(oldest.get(queue, 0.0), float(age_s))
    (silent,) = session.execute(text(_SILENT), {"lost": get_settings().lost_after_s}).one()
    return [
        RUNS.family(found.items()),
        QUEUE_AGE.family(((queue,), age) for queue, age in oldest.items()),
        SILENT.family([((), float(silent))]),
    ]


def _examples(session: Session) -> list[Any]:
    values: Values = []
    for role, kept, dropped in session.execute(text(_EXAMPLES)):
        values.append(((role, "kept", ""), float(kept)))
        values += [((role, "dropped", why), float(n)) for why, n in (dropped or {}).items()]
    return [EXAMPLES.family(values)]


def _under_way(session: Session) -> list[Any]:
    speed, memory = dict[tuple[str, ...], float](), dict[tuple[str, ...], float]()
    for role, tokens_per_s, memory_mb in session.execute(text(_UNDER_WAY), {"running": RUNNING}):
        speed[role,] = speed.get((role,), 0.0) + (tokens_per_s or 0.0)
        memory[role,] = max(memory.get((role,), 0.0), (memory_mb or 0.0) * 1e6)
    return [SPEED.family(speed.items()), MEMORY.family(memory.items())]


def _promotions(session: Session) -> list[Any]:
    # From 0 on: an alert on an increase would miss a role's first rollback.
    known = product(get_settings().roles, (INITIAL, PROMOTE, ROLLBACK))
    counted = _rows("SELECT role, kind, count(*) FROM promotion GROUP BY 1, 2")(session)
    found = dict.fromkeys(known, 0.0) | dict(_as_values(counted))
    return [PROMOTIONS.family(found.items())]


def _evaluations(session: Session) -> list[Any]:
    n, answered, lost = session.execute(
        text(
            "SELECT count(*), coalesce(sum(n_samples), 0), coalesce(sum(n_lost), 0) FROM evaluation"
        )
    ).one()
    outcomes = [(("answered",), float(answered)), (("lost",), float(lost))]
    return [EVALUATIONS.family([((), float(n))]), SAMPLES.family(outcomes)]


def _experiments(session: Session) -> list[Any]:
    rows = session.execute(
        text("SELECT role, kind, phase, treatment_share FROM experiment WHERE status = 'running'")
    ).all()
    return [
        EXPERIMENTS.family(((role, kind), 1.0) for role, kind, *_ in rows),
        PHASE.family(((row.role,), float(row.phase)) for row in rows),
        SHARE.family(((row.role,), float(row.treatment_share)) for row in rows),
    ]


_SERVER: Final = f"""
    SELECT pg_database_size(current_database()),
        (SELECT count(*) FROM pg_stat_activity WHERE backend_type = 'client backend'),
        current_setting('max_connections')::int,
        coalesce((SELECT extract(epoch FROM clock_timestamp() - min(xact_start))
            FROM pg_stat_activity WHERE pid <> pg_backend_pid()
            AND backend_type = 'client backend'
            AND (backend_xmin IS NOT NULL OR backend_xid IS NOT NULL)), 0),
        (SELECT count(*) FROM (SELECT FROM pg_locks WHERE locktype = 'advisory' AND granted
            AND classid = 0 AND objid = {LOCK} AND database =
                (SELECT oid FROM pg_database WHERE datname = current_database()) LIMIT 1) AS one)
"""
_AHEAD: Final = """
    SELECT parent.relname, count(*) FILTER (WHERE substring(child.relname FROM 'p(\\d{4}w\\d{2})$')
        > to_char(now() AT TIME ZONE 'UTC', 'IYYY"w"IW'))
    FROM pg_inherits JOIN pg_class AS child ON child.oid = inhrelid
    JOIN pg_class AS parent ON parent.oid = inhparent
    WHERE parent.relname IN ('interaction', 'interaction_payload')
        AND parent.relnamespace = current_schema()::regnamespace
    GROUP BY 1
"""
_OPEN_RUNS: Final = """
    SELECT kind, status, count(*), extract(epoch FROM clock_timestamp() - min(created_at))
    FROM run WHERE status IN ('queued', 'running') GROUP BY 1, 2
"""
_SILENT: Final = """
    SELECT count(*) FROM run WHERE status = 'running'
        AND heartbeat_at < clock_timestamp() - make_interval(secs => :lost)
"""
_EXAMPLES: Final = """
    SELECT role, n_train + n_validation + n_test, card->'dropped_by_reason'
    FROM dataset JOIN (SELECT role, max(number) AS number FROM dataset
        WHERE kind = 'sft' AND variant = 'default' GROUP BY role) AS newest USING (role, number)
    WHERE kind = 'sft' AND variant = 'default'
"""
_UNDER_WAY: Final = """
    SELECT t.role, (r.progress->>'tokens_per_s')::float, (r.progress->>'memory_mb')::float
    FROM run AS r JOIN training_run AS t ON t.run_id = r.id WHERE r.status = :running
"""

QUESTIONS: Final[tuple[Callable[[Session], list[Any]], ...]] = (
    _collector,
    _server,
    _runs,
    _examples,
    _under_way,
    _evaluations,
    _experiments,
    _simple(AHEAD, _AHEAD),
    _simple(
        BACKUP,
        "SELECT extract(epoch FROM finished_at) FROM run WHERE kind = 'flywheel.backup' "
        "AND status = :done AND finished_at IS NOT NULL ORDER BY id DESC LIMIT 1",
        done=DONE,
    ),
    _simple(BUILDS, "SELECT role, kind, count(*) FROM dataset GROUP BY 1, 2"),
    _simple(REVIEW, "SELECT role, count(*) FROM review_item WHERE status = 'open' GROUP BY 1"),
    _simple(
        TRAININGS,
        "SELECT t.role, r.status, count(*) FROM training_run AS t "
        "JOIN run AS r ON r.id = t.run_id GROUP BY 1, 2",
    ),
    _simple(VERSIONS, "SELECT role, stage, count(*) FROM model_version GROUP BY 1, 2"),
    _simple(VERDICTS, "SELECT role, outcome, count(*) FROM verdict GROUP BY 1, 2"),
    _promotions,
    _simple(STOPPED, "SELECT role, (emergency_since IS NOT NULL)::int FROM role_policy"),
    _simple(
        SERVING,
        "SELECT s.role, v.name, 1 FROM role_serving AS s "
        "JOIN model_version AS v ON v.id = s.model_version_id",
    ),
)


class StageMetrics:
    """The answer of a moment ago, or a new one; asked from any thread."""

    def __init__(self, keep_s: float = KEEP_S) -> None:
        self._keep_s, self._asking = keep_s, threading.Lock()
        self._answer: list[Any] = []
        self._until = 0.0

    def families(self) -> list[Any]:
        """Return all families; only that the database is down where it is."""
        with self._asking:
            if time.monotonic() >= self._until:
                self._answer = _ask()
                self._until = time.monotonic() + self._keep_s
            return self._answer


def _ask() -> list[Any]:
    found: list[Any] = []
    failed = 0
    try:
        for question in QUESTIONS:
            try:
                with session_scope() as session:
                    session.execute(text(f"SET LOCAL statement_timeout = {TIMEOUT_MS}"))
                    found += question(session)
            except SQLAlchemyError as error:
                with session_scope() as session:  # it is this question, or it is the database
                    session.execute(text("SELECT 1"))
                failed += 1
                log.warning("metrics: a question was not answered: %s", type(error).__name__)
    except (FlywheelError, SQLAlchemyError):
        return [UP.family([((), 0.0)])]
    return [UP.family([((), 1.0)]), FAILED_QUERIES.family([((), float(failed))]), *found]
