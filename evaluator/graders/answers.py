"""Finding the code in what a model answered."""

import ast
import re

_FENCE = re.compile(r"^[ \t]*```[ \t]*([\w+-]*)[^\n]*\n(.*?)(?:^[ \t]*```|\Z)", re.M | re.S)
_PYTHON = {"", "py", "python", "python3", "py3"}


def extract_code(answer: str, entry_point: str = "") -> str:
    """Takes the Python code out of an answer.

    Among fenced blocks (a missing closing fence ends at the end of the text) the first that defines
    `entry_point` wins, else the longest. Without a fence the whole answer is the code.

    Returns:
        The code; empty when the answer holds none.
    """
    blocks: list[str] = [
        code for language, code in _FENCE.findall(answer) if language.lower() in _PYTHON
    ]
    if not blocks:
        return "" if _FENCE.search(answer) else answer.strip("\n")
    if entry_point:
        for block in blocks:
            if defines(block, entry_point):
                return block
    return max(blocks, key=lambda block: len(block.strip()))


def defines(code: str, name: str) -> bool:
    """Tells whether the code binds this name; text that does not parse is searched for its def."""
    try:
        return name in bound_names(ast.parse(code))
    except (SyntaxError, ValueError, RecursionError, MemoryError):
        return re.search(rf"^\s*(def|class)\s+{re.escape(name)}\b", code, re.M) is not None


def bound_names(tree: ast.AST) -> set[str]:
    """All names that a tree binds, in any scope."""
    names: set[str] = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
            names.add(node.name)
        elif isinstance(node, ast.Name) and not isinstance(node.ctx, ast.Load):
            names.add(node.id)
        elif isinstance(node, ast.arg):
            names.add(node.arg)
        elif isinstance(node, ast.alias):
            names.add((node.asname or node.name).split(".")[0])
        elif isinstance(node, ast.ExceptHandler) and node.name:
            names.add(node.name)
    return names


def loaded_names(tree: ast.AST) -> set[str]:
    """All names that a tree reads."""
    return {
        node.id
        for node in ast.walk(tree)
        if isinstance(node, ast.Name) and isinstance(node.ctx, ast.Load)
    }
