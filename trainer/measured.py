"""What a training measured on held-out rows at one of its checkpoints."""

import json
from pathlib import Path


def measured_at(checkpoint: Path, name: str) -> float | None:
    """Return a measurement of the last look before a checkpoint by TRL's name for it, if any."""
    state = json.loads((checkpoint / "trainer_state.json").read_text())
    found = [float(line[name]) for line in state["log_history"] if name in line]
    return found[-1] if found else None
