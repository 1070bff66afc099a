"""What is kept of large bodies while they wait for their turn."""

import asyncio

import pytest
from fastapi import HTTPException

from exemplar.server import bodies
from exemplar.server.bodies import Body, Room

LARGE = Body([b"[" * 10_000], n_values=10_000)
SMALL = Body([b"[]"], n_values=1)


async def hold(room: Room, ends: asyncio.Event) -> None:
    async with room.work(LARGE, "/predict"):
        await ends.wait()


def test_bodies_that_wait_for_their_turn_are_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(bodies, "WORKING", LARGE.weight + SMALL.weight)
    monkeypatch.setattr(bodies, "WAITING", 2 * LARGE.length)
    monkeypatch.setitem(bodies.MOST_VALUES, "/predict", 10_000)

    async def four_at_once() -> None:
        room, ends = Room(), asyncio.Event()
        taken = [asyncio.create_task(hold(room, ends)) for _ in range(3)]  # one is worked on, two wait
        await asyncio.sleep(0)
        assert (room.working, room.waiting) == (LARGE.weight, 2 * LARGE.length)
        with pytest.raises(HTTPException, match="Too many large requests"):
            await hold(room, ends)
        async with room.work(SMALL, "/predict"):  # what needs not wait passes them
            assert room.working == LARGE.weight + SMALL.weight
        ends.set()
        await asyncio.gather(*taken)
        assert (room.working, room.waiting) == (0, 0)

    asyncio.run(asyncio.wait_for(four_at_once(), 5))


def test_who_waits_for_too_long_leaves_its_place(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(bodies, "WORKING", LARGE.weight)
    monkeypatch.setattr(bodies, "WAIT_AT_MOST", 0.01)

    async def two_at_once() -> None:
        room, ends = Room(), asyncio.Event()
        first = asyncio.create_task(hold(room, ends))
        await asyncio.sleep(0)
        with pytest.raises(HTTPException, match="Too many large requests"):
            await hold(room, ends)
        assert room.waiting == 0
        ends.set()
        await first

    asyncio.run(asyncio.wait_for(two_at_once(), 5))
