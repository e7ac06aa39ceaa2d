"""What an answer took, told from bytes that may say anything."""

import pytest

from router.spending import Spent, spent_on


@pytest.mark.parametrize(
    "usage",
    [
        b"[" * 4000,
        b'{"prompt_tokens": ' + b"9" * 400 + b', "completion_tokens": "x"}',
        b'{"prompt_tokens": -5, "completion_tokens": NaN}',
        b'{"prompt_tokens": 1e999, "completion_tokens": []}',
    ],
    ids=["deep", "huge", "negative", "infinite"],
)
def test_usage_that_is_nonsense_counts_as_estimated(usage: bytes) -> None:
    stream = [b'data: {"usage": ' + usage + b"}\n\n"]
    assert spent_on(None, stream, is_stream=True, input_tokens=3) == Spent(3, 1)
