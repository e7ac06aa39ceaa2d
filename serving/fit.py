"""Does an adapter fit a base? Asked of the files, before a model in service is touched.

peft builds its layers into the model and only then finds that the weights have other shapes; what
is left then is neither the base nor the adapter.
"""

from pathlib import Path

from safetensors import safe_open

from foundation.errors import BadInput, NotFound

ADAPTER_WEIGHTS = "adapter_model.safetensors"
_PREFIX = "base_model.model."
_SIDES = {".lora_A.weight": 1, ".lora_B.weight": 0}
"""LoRA matrices, and the axis on which each must be as wide as the base's weight (out, in)."""

Shapes = dict[str, tuple[int, ...]]


def shapes_of(folder: Path) -> Shapes:
    """Return the shape of every tensor in the folder's safetensors files, reading headers only."""
    shapes: Shapes = {}
    for file in sorted(folder.glob("*.safetensors")):
        with safe_open(file, framework="numpy") as tensors:
            for name in tensors.keys():
                shapes[name] = tuple(tensors.get_slice(name).get_shape())
    return shapes


def require_model(folder: Path) -> None:
    """Check that a folder holds a base model.

    Raises:
        NotFound: it does not.
    """
    if not (folder / "config.json").is_file():
        raise NotFound(
            "base model",
            str(folder),
            "a folder with config.json and weights",
            "Build it (flywheel demo does), or correct the path.",
        )


def require_fit(name: str, adapter: Path, base: Shapes) -> None:
    """Check that a LoRA adapter's matrices belong to layers of the base.

    Raises:
        NotFound: the folder holds no safetensors adapter.
        BadInput: a layer that the base lacks, or of another width.
    """
    if not (adapter / ADAPTER_WEIGHTS).is_file():
        raise NotFound(
            f"adapter {name!r}",
            str(adapter),
            f"a folder with {ADAPTER_WEIGHTS} on the engine's machine",
            "Correct the path.",
        )
    for tensor, shape in shapes_of(adapter).items():
        for side, axis in _SIDES.items():
            if not tensor.endswith(side):
                continue
            weight = tensor.removeprefix(_PREFIX).removesuffix(side) + ".weight"
            if weight not in base:
                raise _misfit(name, weight, "a layer of the base model")
            if base[weight][axis] != shape[axis]:
                raise _misfit(name, f"{tensor} {shape}", f"the width of {weight} {base[weight]}")


def _misfit(name: str, found: str, expected: str) -> BadInput:
    return BadInput(f"adapter {name!r}", found, expected, "It was trained on another base model.")
