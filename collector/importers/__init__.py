"""Ways to bring in work that agents did elsewhere: one module per format, one loop for all.

`get(format)` returns a format's reader, `formats()` their names, `run_import` reads files through
one of them into a sink. To add a format, write a reader and name it in `registry`.
"""

from collector.importers.registry import formats, get
from collector.importers.run import ImportReport, run_import

__all__ = ["ImportReport", "formats", "get", "run_import"]
