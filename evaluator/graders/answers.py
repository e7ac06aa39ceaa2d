"""Finding the code in what a model answered."""

import ast
import re
import textwrap
from collections.abc import Iterable, Iterator

_FENCE = re.compile(
    r"^(?P<indent>[ \t]*)(?P<mark>(?:[-*+>]|\d{1,3}[.)])[ \t]+)?"
    r"```[ \t]*+(?P<language>[\w+-]*+)[^\n]*+\n"  # possessive: an endless line costs one look
    r"(?P<code>.*?)(?:^(?P=indent)[ \t]{0,3}```|\Z)",
    re.M | re.S,
)
_PYTHON = {"", "py", "python", "python3", "py3"}
_THOUGHTS_END = "</think>"


def final_text(answer: str) -> str:
    """Return an answer without the thoughts that a reasoning model wrote before it."""
    return answer.rpartition(_THOUGHTS_END)[2]


def extract_code(answer: str, entry_point: str = "") -> str:
    """Takes the Python code out of an answer.

    Drafts among a model's thoughts do not count. Among fenced blocks (a missing closing fence ends
    at the end of the text) the first that defines `entry_point` wins, else the longest. Without a
    fence the whole answer is the code.

    Returns:
        The code; empty when the answer holds none.
    """
    text = final_text(answer)
    fences = list(_FENCE.finditer(text))
    blocks = [_inside(fence) for fence in fences if fence["language"].lower() in _PYTHON]
    if not fences:
        blocks = [text.strip("\n")]
    if entry_point:
        candidates = _each_also_moved_left(blocks, entry_point)
        found = next((block for block in candidates if defines(block, entry_point)), None)
        if found is not None:
            return found
    return max(blocks, key=lambda block: len(block.strip()), default="")


def _inside(fence: re.Match[str]) -> str:
    """The lines in a fence, without the indentation that they share with the fence."""
    lines = fence["code"].splitlines(keepends=True)
    own = len(fence["indent"]) + len(fence["mark"] or "")
    shared = min((len(line) - len(line.lstrip()) for line in lines if line.strip()), default=0)
    return "".join(line[min(own, shared) :] if line.strip() else line for line in lines)


def _each_also_moved_left(blocks: Iterable[str], name: str) -> Iterator[str]:
    """Each block as it is, and moved to the left where all of it stands to the right.

    A body that is to continue a prompt stands there for good reason, and may use the name of its
    function for a variable: moved is only what then defines the function and returns nothing else.
    """
    for block in blocks:
        yield block
        moved = textwrap.dedent(block) if block.startswith((" ", "\t")) else ""
        if _definition(name).search(moved) and not re.search(r"^return\b", moved, re.M):
            yield moved


def _definition(name: str) -> re.Pattern[str]:
    return re.compile(rf"^(?:async +def|def|class)\s+{re.escape(name)}\b", re.M)


def defines(code: str, name: str) -> bool:
    """Tells whether the code binds this name outside of functions and classes.

    Text that does not parse is searched for its def.
    """
    try:
        return name in _top_names(ast.parse(code))
    except (SyntaxError, ValueError, RecursionError, MemoryError):
        return _definition(name).search(code) is not None


def _top_names(tree: ast.Module) -> set[str]:
    """The names that a module binds itself, also in the branches of its `if` and `try`."""
    names: set[str] = set()
    waiting: list[ast.AST] = list(tree.body)
    for node in waiting:
        names |= _bound_by(node)
        if not isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef | ast.Lambda):
            waiting += ast.iter_child_nodes(node)
    return names


def bound_names(tree: ast.AST) -> set[str]:
    """All names that a tree binds, in any scope."""
    return set().union(*map(_bound_by, ast.walk(tree)))


def _bound_by(node: ast.AST) -> set[str]:
    """The names that a node binds by itself."""
    if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
        return {node.name}
    if isinstance(node, ast.Name) and not isinstance(node.ctx, ast.Load):
        return {node.id}
    if isinstance(node, ast.arg):
        return {node.arg}
    if isinstance(node, ast.alias):
        return {(node.asname or node.name).split(".")[0]}
    if isinstance(node, ast.ExceptHandler) and node.name:
        return {node.name}
    return set()


def loaded_names(tree: ast.AST) -> set[str]:
    """All names that a tree reads."""
    return {
        node.id
        for node in ast.walk(tree)
        if isinstance(node, ast.Name) and isinstance(node.ctx, ast.Load)
    }
