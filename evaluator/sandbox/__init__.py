"""Running untrusted Python without Docker: `Sandbox.run(Call(...))` gives an `Outcome`.

The tiers, best first, chosen by a self-test at start; the active one stands in every report:

- `A` a warm worker inside bubblewrap (namespaces, read-only system, sized scratch) that forks one
  process per execution, each with Landlock, seccomp and resource limits.
- `C` the same worker inside gVisor's `runsc`, where that is installed: a kernel of its own in user
  space instead of the host's, without Landlock.
- `D` the same worker and the same per-process walls without namespaces. Files and directories of
  the host can be seen to exist (not read), and the scratch folder is limited by watching it.
- `weak` resource limits only (plus the seatbelt on macOS); refused unless `allow_weak=True`.

Beside them `B`, for projects of files under pytest: a fresh sandbox of bubblewrap for each round,
which may have processes of its own. It needs namespaces and is tested when it is first asked for.

Files: `calls` (the words), `pool` (Sandbox), `launch` (starting workers), `probes` (the self-test);
`worker`, `confine`, `wire` and `cases` also run inside, on the standard library alone (`cases` with
pytest and coverage where the service has them).
"""

from evaluator.sandbox.calls import (
    Call,
    Cases,
    Limits,
    Outcome,
    Project,
    ProjectOutcome,
    SandboxUnavailable,
    Script,
    Status,
)
from evaluator.sandbox.pool import Sandbox
from evaluator.sandbox.wire import same

__all__ = [
    "Call",
    "Cases",
    "Limits",
    "Outcome",
    "Project",
    "ProjectOutcome",
    "Sandbox",
    "SandboxUnavailable",
    "Script",
    "Status",
    "same",
]
