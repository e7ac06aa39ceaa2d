"""The embedded engine: a base model in this process, with hot-swapped adapters.

Front desk: `Engine`. The only package of this room that loads torch.
"""

from serving.engine.model import Engine

__all__ = ["Engine"]
