"""Copies of calls: which are made, and how many at once."""

import asyncio
from uuid import UUID

import pytest

from foundation.errors import BadSetting
from router.shadow import Mirror, Shadows, read_mirror


def test_a_share_of_the_calls_is_copied_always_the_same_ones():
    ids = [UUID(int=number << 64) for number in range(4000)]
    tenth = Mirror("m", 0.1)
    taken = [one for one in ids if tenth.takes(one)]
    assert 320 <= len(taken) <= 480
    assert taken == [one for one in ids if tenth.takes(one)]
    assert all(Mirror("m").takes(one) for one in ids)
    half = Mirror("m", 0.5)
    assert all(half.takes(one) for one in taken)  # a larger share takes those too


def test_copies_beyond_the_bound_are_left_out_and_counted():
    async def all_of_it() -> tuple[list[bool], int, int]:
        shadows, go = Shadows(most=2), asyncio.Event()

        async def copy() -> None:
            await go.wait()

        begun = [shadows.begin(copy) for _ in range(3)]
        go.set()
        await asyncio.sleep(0.01)
        begun.append(shadows.begin(copy))
        await shadows.close()
        return begun, shadows.sent, shadows.left_out

    assert asyncio.run(all_of_it()) == ([True, True, False, True], 3, 1)


def test_closing_ends_what_is_under_way():
    ended = []

    async def all_of_it() -> None:
        shadows = Shadows()

        async def copy() -> None:
            try:
                await asyncio.sleep(3600)
            finally:
                ended.append(True)

        shadows.begin(copy)
        await asyncio.sleep(0)
        await shadows.close()

    asyncio.run(all_of_it())
    assert ended == [True]


def test_the_section_is_read_strictly():
    assert read_mirror("coder", None) is None
    assert read_mirror("coder", {"model": "v2", "share": 0.25}) == Mirror("v2", 0.25)
    for raw, said in (
        ({"share": 0.5}, "mirror.model"),
        ({"model": "m", "share": 0}, "share: expected"),
        ({"model": "m", "share": 1.5}, "share: expected"),
        ({"model": "m", "rate": 1}, "mirror.rate"),
    ):
        with pytest.raises(BadSetting, match=said):
            read_mirror("coder", raw)
