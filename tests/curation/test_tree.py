"""A tree walked once says what walking it again and again would."""

import ast
import inspect

import pytest

from curation.score import blocks, form, style
from curation.score.tree import Function, walked


@pytest.mark.parametrize("module", [ast, blocks, form, inspect, style])
def test_all_is_found_that_a_walk_finds(module):
    parsed = ast.parse(inspect.getsource(module))
    tree = walked(parsed)
    nodes = list(ast.walk(parsed))
    for kind in (ast.Name, ast.Call, ast.arg, ast.Return, ast.If, ast.Constant, ast.alias):
        assert tree.all_of(kind) == [node for node in nodes if type(node) is kind]
    assert tree.functions == [node for node in nodes if isinstance(node, Function)]
    branches = (ast.If, ast.BoolOp, ast.For)
    counts = tree.count_inside(*branches)
    for function in tree.functions:
        assert counts[function] == sum(isinstance(node, branches) for node in ast.walk(function))


def test_outer_functions_count_what_inner_ones_hold():
    tree = walked(ast.parse("def a():\n    def b():\n        return 1\nreturn_ = a"))
    outer, inner = tree.functions
    assert tree.function_around[inner] is outer
    assert tree.count_inside(ast.Return) == {outer: 1, inner: 1}
    assert outer not in tree.function_around
    assert tree.all_of(ast.While) == []
