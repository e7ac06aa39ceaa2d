"""What a migration may not do to a database that is in use, by the SQL that it comes to.

Code of the version before works on with the new schema while a deployment is rolled over, and big
tables are read and written all the time. So a migration may add what is empty, and take away only
what no code has used for a version. PostgreSQL's own dangers are `squawk`'s to tell.
"""

import json
import re
import subprocess
import sys
from io import StringIO
from pathlib import Path

from alembic import command

from flywheel.schema import alembic_config

BIG = (
    *("interaction", "interaction_payload", "feedback", "example", "preference_pair"),
    *("indexed_text", "text_band", "text_edge", "shard_row", "embedding", "sample"),
    *("assignment", "decision", "run_log", "run_measure", "judge_call", "cached_answer"),
)
"""Tables that grow with use: none of them may be read whole, or rewritten, under a lock."""

SQUAWK = Path(sys.executable).with_name("squawk")
LEFT_OUT = (
    # The upgrade sets both times itself; see flywheel.schema.
    *("require-lock-timeout", "require-statement-timeout", "require-timeout-settings"),
    # Alembic runs each revision once, in a transaction.
    *("prefer-robust-stmts", "transaction-nesting", "prefer-text-field"),
    *("prefer-bigint-over-int", "prefer-identity", "prefer-timestamptz"),
)

_BIG = "|".join(BIG)
_RULES = (
    ("renamed: code of the version before still asks for it", r"ALTER TABLE .* RENAME"),
    ("dropped: code of the version before still asks for it", r"ALTER TABLE .* DROP COLUMN"),
    ("dropped: code of the version before still asks for it", r"^DROP TABLE"),
    (
        "an index of a big table holds its writers up while it is made: CONCURRENTLY",
        rf'^CREATE (?:UNIQUE )?INDEX (?!CONCURRENTLY).* ON (?:ONLY )?"?(?:{_BIG})"?[ (]',
    ),
    (
        "code of the version before writes rows without it: give it a server default",
        r"ALTER TABLE .* ADD COLUMN (?=.*\bNOT NULL\b)(?!.*\bDEFAULT\b)",
    ),
    (
        "a default that is computed for each row rewrites the table: add it empty, fill it later",
        r"ALTER TABLE .* ADD COLUMN .*DEFAULT (?!now\(\)|CURRENT_)[\w.]+\(",
    ),
    (
        "the type of a big table's column is changed by rewriting it: add another column",
        rf'ALTER TABLE "?(?:{_BIG})"? ALTER COLUMN \S+ (?:SET DATA )?TYPE',
    ),
    (
        "a big table is read whole under a lock: a CHECK … NOT VALID first, validated later",
        rf'ALTER TABLE "?(?:{_BIG})"? ALTER COLUMN \S+ SET NOT NULL',
    ),
    (
        "a big table is read whole under a lock: NOT VALID, validated in a later revision",
        rf'ALTER TABLE "?(?:{_BIG})"? ADD (?:CONSTRAINT \S+ )?(?:FOREIGN KEY|CHECK)(?!.*NOT VALID)',
    ),
    (
        "its index is made under a lock: make it CONCURRENTLY, then ADD … USING INDEX",
        rf'ALTER TABLE "?(?:{_BIG})"? ADD (?:CONSTRAINT \S+ )?(?:UNIQUE|PRIMARY)(?!.*USING INDEX)',
    ),
    (
        "a big table is written whole in one transaction: fill it in batches",
        rf"^UPDATE (?:{_BIG})\b",
    ),
    (
        "nobody may read meanwhile",
        r"^(?:VACUUM FULL|CLUSTER|LOCK TABLE|REINDEX (?!.*CONCURRENTLY))",
    ),
)


def sql_of(revisions: str) -> str:
    """Return the SQL of an upgrade, such as `0007:0008`; no database is asked."""
    said = StringIO()
    config = alembic_config()
    config.output_buffer = said
    command.upgrade(config, revisions, sql=True)
    return said.getvalue()


def faults(sql: str) -> list[str]:
    """Return what our own rules have against the statements; tables made in them are free; pure."""
    statements = [" ".join(one.split()) for one in re.sub(r"--.*", "", sql).split(";")]
    new = {
        match[1] for one in statements if (match := re.match(r'CREATE TABLE "?(\w+)"?', one, re.I))
    }
    return [
        f"{why}: {one}"
        for one in statements
        for why, rule in _RULES
        if re.search(rule, one, re.IGNORECASE) and not _is_of(one, new)
    ]


def _is_of(statement: str, tables: set[str]) -> bool:
    named = re.search(r'(?:TABLE|UPDATE|\bON)\s+(?:ONLY\s+)?"?(\w+)"?', statement, re.IGNORECASE)
    return named is not None and named[1] in tables


def warnings(sql: str, folder: Path) -> list[str]:
    """Return what squawk warns of."""
    file = folder / "migration.sql"
    file.write_text(sql)
    options = ["--reporter", "json", f"--exclude={','.join(LEFT_OUT)}"]
    done = subprocess.run([SQUAWK, *options, file], capture_output=True, text=True)
    assert not done.stderr, done.stderr
    return [f"{one['rule_name']}: {one['message']}" for one in json.loads(done.stdout or "[]")]
