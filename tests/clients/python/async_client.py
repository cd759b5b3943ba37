"""redis-py, asyncio: the same in one loop, with a blocking pop beside it. Argument: protocol version."""

import asyncio
import sys

import redis
import redis.asyncio as aioredis
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff

from common import PORT, Ledger, going

PROTOCOL = int(sys.argv[1])
NAME = f"py-async-{PROTOCOL}"
ERRORS = (redis.RedisError, OSError, asyncio.TimeoutError, AssertionError)


def client():
    return aioredis.Redis(port=PORT, protocol=PROTOCOL, decode_responses=True, retry=Retry(NoBackoff(), 0), socket_timeout=20)


async def looped(ledger, act):
    r, n = client(), 0
    while going():
        n += 1
        try:
            await act(r, n)
        except ERRORS as error:
            ledger.failed(error)
        await asyncio.sleep(0.003)
    await r.aclose()


async def transactions(ledger):
    async def act(r, n):
        async with r.pipeline(transaction=True) as pipe:
            _, counted, back = await pipe.rpush(f"{NAME}:ledger", f"t{n}").incr(f"{NAME}:c").get(f"{NAME}:c").execute()
        ledger.done(f"t{n}", 5)
        assert int(back) == counted
    await looped(ledger, act)


async def pipelines(ledger):
    async def act(r, n):
        async with r.pipeline(transaction=False) as pipe:
            replies = await pipe.set(f"{NAME}:own", n).get(f"{NAME}:own").rpush(f"{NAME}:ledger", f"p{n}").execute()
        ledger.done(f"p{n}", 3)
        assert replies[1] == str(n), replies
    await looped(ledger, act)


async def producer(ledger):
    async def act(r, n):
        await r.lpush(f"{NAME}:queue", f"q{n}")
        ledger.done(f"q{n}")
    await looped(ledger, act)


async def consumer(ledger, taken):
    """Moves what the producer pushed into the ledger's list: BLMOVE, so that no element is ever only on the wire."""
    async def act(r, n):
        entry = await r.blmove(f"{NAME}:queue", f"{NAME}:ledger", 1, "RIGHT", "LEFT")
        if entry:
            taken.append(entry)
            ledger.done()
    await looped(ledger, act)


INSIDE = []


async def locks(ledger):
    async def act(r, n):
        async with r.lock(f"{NAME}:lock", timeout=30, blocking_timeout=20):
            assert not INSIDE, "two hold the lock"
            INSIDE.append(n)
            try:
                await r.set(f"{NAME}:guarded", int(await r.get(f"{NAME}:guarded") or 0) + 1)
                ledger.done(None, 4)
            finally:
                INSIDE.clear()
    await looped(ledger, act)


async def subscriber(ledger, heard):
    pubsub = client().pubsub(ignore_subscribe_messages=True)
    await pubsub.subscribe(f"{NAME}:news")
    while going():
        try:
            message = await pubsub.get_message(timeout=0.2)
            if message:
                heard.append(int(message["data"]))
        except ERRORS as error:
            ledger.failed(error)
            await asyncio.sleep(0.05)
    await pubsub.aclose()


async def publisher(ledger, said):
    async def act(r, n):
        await r.publish(f"{NAME}:news", n)
        said.append(n)
        ledger.done()
    await looped(ledger, act)


async def main():
    ledger, taken, heard, said = Ledger(f"redis-py asyncio RESP{PROTOCOL}", 8), [], [], []
    await asyncio.gather(
        transactions(ledger), pipelines(ledger), producer(ledger), consumer(ledger, taken), locks(ledger), locks(ledger), subscriber(ledger, heard),
        publisher(ledger, said),
    )
    there = []
    # A read may come from a replica that is a moment behind.
    await asyncio.sleep(1)
    for attempt in range(100):
        try:
            r = client()
            there = await r.lrange(f"{NAME}:ledger", 0, -1) + await r.lrange(f"{NAME}:queue", 0, -1)
            break
        except ERRORS:
            await asyncio.sleep(0.2)
    ledger.check(there)
    assert heard == sorted(set(heard)), "messages out of order or twice"
    ledger.report(f"pipelines, transactions, BLMOVE, locks, pub/sub {len(heard)} of {len(said)}", heard=len(heard), said=len(said))


asyncio.run(main())
