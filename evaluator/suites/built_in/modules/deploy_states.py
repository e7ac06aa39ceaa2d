"""Deployments: a machine of states, a log of what happened, and the deployer that moves both.

A release goes from `new` to `built` to `live`; from each of these it can fail. `failed` and
`retired` are ends. Going live retires the release that was live before. The log holds
`(release, state)` in order of time.
"""

LOG_REFUSED = True
ROLL_BACK = True

STEPS = {
    "new": ("built", "failed"),
    "built": ("live", "failed"),
    "live": ("retired", "failed"),
    "retired": ("live",) if ROLL_BACK else (),
    "failed": (),
}


class Refused(Exception):
    """A release cannot go there."""


class States:
    """The state of each release."""

    def __init__(self) -> None:
        self.states: dict[str, str] = {}

    def move(self, release: str, state: str) -> None:
        """Changes a state where that is a step."""
        if state not in STEPS[self.states.get(release, "new")]:
            raise Refused(state)
        self.states[release] = state


class Log:
    """What happened."""

    def __init__(self) -> None:
        self.entries: list[tuple[str, str]] = []

    def note(self, release: str, state: str) -> None:
        """Adds an entry."""
        self.entries.append((release, state))

    def last_live(self, but: str) -> str | None:
        """The release that went live last, of all but one."""
        for release, state in reversed(self.entries):
            if state == "live" and release != but:
                return release
        return None


class Deployer:
    """Moves releases and notes it."""

    def __init__(self, states: States, log: Log) -> None:
        self.states = states
        self.log = log

    @property
    def live(self) -> str | None:
        """The release that is live."""
        return next((one for one, state in self.states.states.items() if state == "live"), None)

    def advance(self, release: str, state: str) -> None:
        """Moves a release; where that is no step, Refused."""
        before = self.live
        try:
            self.states.move(release, state)
        except Refused:
            if LOG_REFUSED:
                self.log.note(release, "refused")
            raise
        self.log.note(release, state)
        if state == "live" and before is not None:
            self.advance(before, "retired")
        if ROLL_BACK and state == "failed" and release == before:
            earlier = self.log.last_live(release)
            if earlier is not None and self.states.states[earlier] == "retired":
                self.advance(earlier, "live")
