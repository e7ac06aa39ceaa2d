import pytest

from curation.language import code_language, prose_language


@pytest.mark.parametrize(
    ("text", "language"),
    [
        ("Write a function that returns the sum of the numbers in a list.", "en"),
        ("Schreibe eine Funktion, die die Summe der Zahlen in einer Liste zurückgibt.", "de"),
        ("Écris une fonction qui renvoie la somme des nombres dans la liste.", "fr"),
        ("Escribe una función que devuelve la suma de los números en una lista.", "es"),
        ("请写一个函数，返回列表的和。", "zh"),
        ("リストの合計を返す関数を書いてください。", "ja"),
        ("숫자의 합을 반환하는 함수를 작성하세요.", "ko"),
        ("Напиши функцию, которая возвращает сумму.", "ru"),
        ("Напиши функцію, яка повертає суму її чисел.", "uk"),
        ("Mend it:\n```python\nfor der in die: das(und, nicht)\n```", None),
        ("fix", None),
        ("x = y + z", None),
        ("", None),
        ("12 + 30 = 42", None),
    ],
)
def test_prose(text, language):
    assert prose_language(text) == language


@pytest.mark.parametrize(
    ("answer", "language"),
    [
        ("Here:\n```py\nx = 1\n```", "python"),
        ("```rust\nfn main() {}\n```\nand\n```bash\ncargo run\n```", "rust"),
        ("```\ndef f(a):\n    return a\n```", "python"),
        ("#!/usr/bin/env python3\nx", "python"),
        ("#!/bin/bash\nls", "shell"),
        ("def f(a):\n    return a", "python"),
        ("fn main() {\n    let mut x = vec![1];\n}", "rust"),
        ("package main\n\nfunc main() {\n\tx := 1\n}", "go"),
        ("const x = 1;\nconsole.log(x);", "javascript"),
        ("interface A {\n}\nconst x: string = 'a'", "typescript"),
        ("public class A { public static void main(String[] a) { } }", "java"),
        ("#include <vector>\nstd::vector<int> x;", "cpp"),
        ("#include <stdio.h>\nint main() {", "c"),
        ("diff --git a/x.py b/x.py\n@@ -1 +1 @@\n+def f():\n", "diff"),
        ("select a from b where c = 1", "sql"),
        ('{"a": 1}', "json"),
        ("I think that it is right.", None),
        ("aggregate sum sum same\ncorrect", None),
        ("", None),
    ],
)
def test_code(answer, language):
    assert code_language(answer) == language


@pytest.mark.parametrize("piece", ["```", "def f(", "select ", "`", "#!", " ", "func (", "\ud800"])
def test_a_huge_text_is_looked_at_in_its_beginning(piece):
    huge = piece * 2_000_000
    prose_language(huge)
    code_language(huge)
