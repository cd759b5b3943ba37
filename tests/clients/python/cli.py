"""redis-cli: repeated commands, each by a new process and by one that goes on; what it prints is what counts."""

import subprocess
import time

from common import PORT, UNTIL, Ledger

CLI = ["redis-cli", "-p", str(PORT)]


def run(words):
    return subprocess.run(CLI + words, capture_output=True, text=True, timeout=30).stdout.strip()


def main():
    ledger = Ledger("redis-cli", 4)
    times = int((UNTIL - time.time()) / 0.02)
    repeated = subprocess.Popen(CLI + ["-r", str(times), "-i", "0.02", "INCR", "cli:count"], stdout=subprocess.PIPE, text=True)
    n = 0
    while time.time() < UNTIL:
        n += 1
        said = run(["RPUSH", "cli:ledger", f"c{n}"])
        if said.isdigit():
            ledger.done(f"c{n}")
        else:
            ledger.failed(RuntimeError(said))
        time.sleep(0.05)
    for line in repeated.communicate(timeout=40)[0].splitlines():
        if line.isdigit():
            ledger.done()
        elif line:
            ledger.failed(RuntimeError(line))
    # A read may come from a replica that is a moment behind.
    time.sleep(1)
    ledger.check(run(["LRANGE", "cli:ledger", "0", "-1"]).split())
    ledger.report(f"RPUSH by {n} processes, INCR by one: counted to {run(['GET', 'cli:count'])}")


main()
