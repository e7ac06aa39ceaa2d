"""Training runs: a log of figures, a keeper of the best state, and a rule for stopping early.

After each epoch a run is told its figure and its state. It logs the figure, keeps the state where
the figure is the best so far, and is done once that was not the case for `patience` epochs in a
row. Epochs count from 1; a run that is done takes nothing more. A run resumed from a log has its
best figure and its patience, and no state until the next best one.
"""

LOWER = True
TIES = True


class Log:
    """The figures of a run, by epoch."""

    def __init__(self) -> None:
        self.figures: list[float] = []

    def add(self, figure: float) -> int:
        """Notes a figure and returns its epoch."""
        self.figures.append(figure)
        return len(self.figures)


class Best:
    """The best figure so far, its epoch and its state."""

    def __init__(self) -> None:
        self.figure: float | None = None
        self.epoch = 0
        self.state = ""

    def offer(self, epoch: int, figure: float, state: str) -> bool:
        """Keeps what is better; returns whether it was."""
        if self.figure is not None and not is_better(figure, self.figure):
            return False
        self.figure, self.epoch, self.state = figure, epoch, state
        return True


def is_better(one: float, other: float) -> bool:
    """Whether one figure beats another."""
    if TIES and one == other:
        return True
    return one < other if LOWER else one > other


class Patience:
    """Counts epochs without a gain."""

    def __init__(self, most: int) -> None:
        self.most = most
        self.waited = 0

    def saw(self, gained: bool) -> None:
        """Notes how an epoch ended."""
        self.waited = 0 if gained else self.waited + 1

    @property
    def is_over(self) -> bool:
        """Whether there were too many."""
        return self.waited >= self.most


class Run:
    """One training run."""

    def __init__(self, patience: int) -> None:
        self.log = Log()
        self.best = Best()
        self.patience = Patience(patience)

    def report(self, figure: float, state: str) -> bool:
        """Takes the result of an epoch; returns whether to go on."""
        if self.patience.is_over:
            return False
        epoch = self.log.add(figure)
        self.patience.saw(self.best.offer(epoch, figure, state))
        return not self.patience.is_over


def resume(log: Log, patience: int) -> Run:
    """A run that goes on after those figures."""
    run = Run(patience)
    for figure in log.figures:
        run.report(figure, "")
    return run
