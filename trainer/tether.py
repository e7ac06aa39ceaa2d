"""Runs a command that ends when the process that started it does, however that one dies.

python -m trainer.tether COMMAND ARGUMENT…
"""

import ctypes
import os
import signal
import sys


def end_with_parent(number: int = signal.SIGTERM) -> None:
    """Ask Linux to send this process a signal when its parent dies; elsewhere nothing is asked."""
    if sys.platform == "linux":
        pr_set_pdeathsig = 1
        ctypes.CDLL(None).prctl(pr_set_pdeathsig, number)


if __name__ == "__main__":
    end_with_parent()
    os.execv(sys.argv[1], sys.argv[1:])
