"""The records of calls: read quickly from their raw lines, and never otherwise than slowly."""

import json

import pytest

from collector.spool.prepare import Preparer
from foundation.ids import new_id
from router.recording import CallPreparer


def raw(request: bytes, response: bytes = b"null") -> bytes:
    head = {"kind": "interaction", "id": str(new_id()), "role": "coder", "at": 1.8e9, "columns": {}}
    return json.dumps(head).encode()[:-1] + b',"request":%b,"response":%b}' % (request, response)


@pytest.mark.parametrize(
    "request_body",
    [
        b'{"model": "m", "temperature": 0.2, "messages": [{"role": "user", "content": "hello"}]}',
        b'{"content": "\\u00fc \xc3\xbc \\ud83d\\ude00", "seed": 18446744073709551615}',
        b'{"long": 123456789012345678901234567890, "small": 1e-7, "twice": 1, "twice": 2}',
        b'{"nul": "a\\u0000b", "half": "\\ud83d", "NaN": NaN, "least": -Infinity}',
        b'{"secret": "password = \'hunter2abc9\'", "mail": "jo@x.org"}',
        b'{"temperature": 1e999, "top_p": -1e999}',
    ],
    ids=["plain", "characters", "numbers", "what JSON lacks", "secrets", "infinite"],
)
def test_the_quick_way_reads_and_writes_what_the_slow_one_does(request_body: bytes) -> None:
    line = raw(request_body, b'{"choices": [], "usage": {"prompt_tokens": 3}}')
    quick, slow = json.loads(CallPreparer()(line)), json.loads(Preparer()(line))
    assert quick == slow


def test_what_is_no_json_is_not_passed_on() -> None:
    with pytest.raises(ValueError, match="delimiter|property name|Expecting"):
        CallPreparer()(raw(b'{"half": '))
