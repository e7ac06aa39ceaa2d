"""Memory for arrays that live a moment: returned to the system each time, it costs page faults."""

from typing import Final

import numpy as np

_LARGEST: Final = 8 << 20


def keep_freed_memory() -> None:
    """Have the C library keep what is freed, as it does once it saw a block of 8 MiB come and go.

    Before, glibc maps blocks over 128 KiB anew and returns the top of its heap at every turn;
    measured, elementwise passes over 300 KB took 20 µs in place of 3. Costs microseconds; elsewhere
    it does nothing.
    """
    np.empty(_LARGEST, dtype=np.uint8)
