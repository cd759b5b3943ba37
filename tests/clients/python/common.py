"""What the Python clients share: where redweir is, how long to go on, and the line that the driver reads.

A ledger holds what was acknowledged; what the set holds in the end is compared with it. Nothing here retries a write.
"""

import json
import os
import threading
import time

PORT = int(os.environ["REDWEIR_PORT"])
UNTIL = time.time() + float(os.environ["REDWEIR_SECONDS"])


class Ledger:
    """Counts operations and errors, and knows which writes were acknowledged."""

    def __init__(self, client, connections):
        self.client, self.connections = client, connections
        self.lock = threading.Lock()
        self.operations, self.errors, self.error_times, self.acknowledged = 0, [], [], []
        self.lost = self.twice = 0

    def done(self, entry=None, operations=1):
        with self.lock:
            self.operations += operations
            if entry is not None:
                self.acknowledged.append(entry)

    def failed(self, error):
        with self.lock:
            self.errors.append(f"{type(error).__name__}: {error}")
            self.error_times.append(time.time())

    def check(self, there):
        """`there`: everything the list holds now."""
        gone = sorted(set(self.acknowledged) - set(there))
        self.lost += len(gone)
        if gone:
            self.errors.insert(0, f"of {len(self.acknowledged)} acknowledged are gone: {gone[:8]}")
        self.twice += len(there) - len(set(there))

    def report(self, did, **more):
        print(json.dumps(more | {
            "client": self.client, "did": did, "operations": self.operations, "errors": len(self.errors), "lost": self.lost,
            "twice": self.twice, "connections": self.connections, "first_errors": self.errors[:5], "error_times": self.error_times,
        }), flush=True)


def going():
    return time.time() < UNTIL


def patiently(act):
    """For the check in the end: the set may still be electing, and a read may come from a replica that is a moment behind."""
    time.sleep(1)
    until = time.time() + 20
    while True:
        try:
            return act()
        except Exception:
            if time.time() > until:
                raise
            time.sleep(0.2)
