"""RQ: one process enqueues, two workers work, all through redweir."""

import os
import subprocess
import sys
import time

import redis
from rq import Queue

from common import PORT, Ledger, going, patiently

WORKERS = 2


def main():
    ledger = Ledger("RQ", 2 + 3 * WORKERS)
    url = f"redis://127.0.0.1:{PORT}"
    rq = os.path.join(os.path.dirname(sys.executable), "rq")
    command = [rq, "worker", "--url", url, "--worker-class", "rq.SimpleWorker", "--quiet", "work"]
    workers = [subprocess.Popen(command, cwd=os.path.dirname(__file__) or ".", stderr=subprocess.DEVNULL) for _ in range(WORKERS)]
    try:
        connection = redis.Redis(port=PORT, socket_timeout=20)
        queue = Queue("work", connection=connection)
        number = 0
        while going():
            number += 1
            try:
                queue.enqueue("jobs.work", number)
                ledger.done(str(number))
            except (redis.RedisError, OSError) as error:
                ledger.failed(error)
            time.sleep(0.01)
        until = time.time() + 25
        done = []
        while time.time() < until:
            done = [n.decode() for n in patiently(lambda: connection.lrange("rq:test:done", 0, -1))]
            if set(ledger.acknowledged) <= set(done):
                break
        failed = patiently(lambda: queue.failed_job_registry.count)
        running = patiently(lambda: queue.started_job_registry.count)
        restarted = sum(1 for w in workers if w.poll() is not None)
    finally:
        [w.terminate() for w in workers]
        [w.wait() for w in workers]
    ledger.check(done)
    # A job that failed with an error is not lost: the queue knows it.
    ledger.lost = max(0, ledger.lost - failed)
    ledger.report(f"{len(ledger.acknowledged)} jobs, {len(set(done))} done, {failed} failed, {running} open, {restarted} workers ended")


main()
