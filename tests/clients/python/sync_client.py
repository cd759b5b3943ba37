"""redis-py, blocking: pipelines with and without a transaction, optimistic locking, locks, pub/sub. Argument: protocol version."""

import sys
import threading
import time

import redis
from redis.backoff import NoBackoff
from redis.retry import Retry

from common import PORT, Ledger, going, patiently

PROTOCOL = int(sys.argv[1])
NAME = f"py-sync-{PROTOCOL}"


def client():
    # A write whose outcome is unknown is not to be sent again by the library: this counts what the proxy does.
    return redis.Redis(port=PORT, protocol=PROTOCOL, decode_responses=True, retry=Retry(NoBackoff(), 0), socket_timeout=20)


def looped(ledger, act):
    """Calls `act(r, n)` until the time is up; an error is counted and gone on from."""
    r = client()
    n = 0
    while going():
        n += 1
        try:
            act(r, n)
        except (redis.RedisError, OSError, AssertionError) as error:
            ledger.failed(error)
        time.sleep(0.002)


def transactions(ledger):
    def act(r, n):
        entry = f"t{n}"
        with r.pipeline(transaction=True) as pipe:
            pushed, counted, back = pipe.rpush(f"{NAME}:ledger", entry).incr(f"{NAME}:count").get(f"{NAME}:count").execute()
        ledger.done(entry, 5)
        assert int(back) == counted, f"INCR said {counted}, GET in the same transaction {back}"
    looped(ledger, act)


def pipelines(ledger):
    def act(r, n):
        entry = f"p{n}"
        pipe = r.pipeline(transaction=False)
        replies = pipe.set(f"{NAME}:own", n).get(f"{NAME}:own").rpush(f"{NAME}:ledger", entry).hset(f"{NAME}:h", "f", n).hgetall(f"{NAME}:h").execute()
        ledger.done(entry, 5)
        assert replies[1] == str(n) and replies[4] == {"f": str(n)}, replies
    looped(ledger, act)


def optimistic(ledger):
    def act(r, n):
        entry = f"w{n}"
        with r.pipeline() as pipe:
            pipe.watch(f"{NAME}:watched")
            now = int(pipe.get(f"{NAME}:watched") or 0)
            pipe.multi()
            pipe.set(f"{NAME}:watched", now + 1).rpush(f"{NAME}:ledger", entry)
            try:
                pipe.execute()
                ledger.done(entry, 6)
            except redis.WatchError:
                ledger.done(None, 6)
    looped(ledger, act)


INSIDE = threading.Lock()


def locks(ledger):
    def act(r, n):
        lock = r.lock(f"{NAME}:lock", timeout=30, blocking_timeout=20)
        if not lock.acquire():
            return
        try:
            assert INSIDE.acquire(blocking=False), "two hold the lock"
            try:
                # What the lock is for: read, then write.
                r.set(f"{NAME}:guarded", int(r.get(f"{NAME}:guarded") or 0) + 1)
                ledger.done(None, 4)
            finally:
                INSIDE.release()
        finally:
            lock.release()
    looped(ledger, act)


def subscriber(ledger, heard):
    pubsub = client().pubsub(ignore_subscribe_messages=True)
    pubsub.subscribe(f"{NAME}:news")
    while going():
        try:
            message = pubsub.get_message(timeout=0.2)
            if message:
                heard.append(int(message["data"]))
        except (redis.RedisError, OSError) as error:
            ledger.failed(error)
            time.sleep(0.05)
    pubsub.close()


def publisher(ledger, said):
    def act(r, n):
        r.publish(f"{NAME}:news", n)
        said.append(n)
        ledger.done()
    looped(ledger, act)


def main():
    ledger, heard, said = Ledger(f"redis-py sync RESP{PROTOCOL}", 7), [], []
    deeds = [(transactions, ()), (pipelines, ()), (optimistic, ()), (locks, ()), (locks, ()), (subscriber, (heard,)), (publisher, (said,))]
    threads = [threading.Thread(target=deed, args=(ledger, *more)) for deed, more in deeds]
    [t.start() for t in threads]
    [t.join() for t in threads]
    ledger.check(patiently(lambda: client().lrange(f"{NAME}:ledger", 0, -1)))
    assert heard == sorted(set(heard)), "messages out of order or twice"
    ledger.report(f"pipelines, transactions, WATCH, locks, pub/sub {len(heard)} of {len(said)}", heard=len(heard), said=len(said), watching=1)


main()
