"""`make clients`: unmodified clients through redweir, in front of a master, two replicas and three Sentinels.

All clients work at once. After a third of the time Sentinel is told to fail over, after two thirds the master is killed (-9) and
comes back as a replica later. Prints a table; exits 1 when a write that was acknowledged is gone, one was done twice, a client
saw an error before the kill (other than of an open WATCH) or more than its connections were cut by it, missed more than the messages of the two switches, or
did not finish. Ends only what it started, by its process id.

Environment: REDWEIR (the binary, target/release/redweir), SECONDS (24), CLIENTS (a part of the names to run), KEEP=1 (logs stay).
"""

import json
import os
import shutil
import socket
import subprocess
import sys
import tempfile
import time

HERE = os.path.dirname(os.path.abspath(__file__))
ROOT = os.path.dirname(os.path.dirname(HERE))
TARGET = os.path.join(ROOT, "target", "clients")
REDWEIR = os.path.abspath(os.environ.get("REDWEIR", os.path.join(ROOT, "target", "release", "redweir")))
SECONDS = float(os.environ.get("SECONDS", "24"))
# For what a client still does when its time is up: compare what is there with what was acknowledged.
GRACE = 60
# What is published while a subscriber is between two masters is nobody's; so many seconds' worth, for both switches.
MISSED = 1
PYTHON = os.path.join(TARGET, "venv", "bin", "python")
RUST = os.path.join(TARGET, "rust", "debug", "redweir-clients")


def clients():
    python, node = os.path.join(HERE, "python"), os.path.join(HERE, "node")
    found = {
        "redis-py sync RESP2": [PYTHON, os.path.join(python, "sync_client.py"), "2"],
        "redis-py sync RESP3": [PYTHON, os.path.join(python, "sync_client.py"), "3"],
        "redis-py asyncio RESP2": [PYTHON, os.path.join(python, "async_client.py"), "2"],
        "redis-py asyncio RESP3": [PYTHON, os.path.join(python, "async_client.py"), "3"],
        "RQ": [PYTHON, os.path.join(python, "rq_queue.py")],
        "redis-cli": [PYTHON, os.path.join(python, "cli.py")],
        "node-redis RESP2": ["node", os.path.join(node, "node_redis.js"), "2"],
        "node-redis RESP3": ["node", os.path.join(node, "node_redis.js"), "3"],
        "ioredis": ["node", os.path.join(node, "io_redis.js")],
        "BullMQ": ["node", os.path.join(node, "bull_mq.js")],
    }
    if os.path.exists(RUST):
        found |= {"redis-rs": [RUST, "redis"], "fred": [RUST, "fred"]}
    else:
        print(f"SKIPPED: the Rust clients: there is no {RUST}", flush=True)
    part = os.environ.get("CLIENTS", "")
    return {name: command for name, command in found.items() if part in name}


def free_port():
    with socket.socket() as s:
        s.bind(("127.0.0.1", 0))
        return s.getsockname()[1]


def ask(port, *words):
    """One command, one reply, decoded; an error reply is a RuntimeError."""
    with socket.create_connection(("127.0.0.1", port), timeout=3) as s:
        s.sendall(b"*%d\r\n" % len(words) + b"".join(b"$%d\r\n%s\r\n" % (len(w), w) for w in (str(w).encode() for w in words)))
        return read(s.makefile("rb"))


def read(stream):
    line = stream.readline().rstrip(b"\r\n")
    kind, rest = line[:1], line[1:]
    if kind == b"-":
        raise RuntimeError(rest.decode())
    if kind == b"$":
        return None if rest == b"-1" else stream.read(int(rest) + 2)[:-2].decode()
    if kind == b"*":
        return [read(stream) for _ in range(int(rest))]
    if not line:
        raise RuntimeError("closed")
    return rest.decode()


def wait(what, check, limit=40):
    until = time.time() + limit
    while True:
        try:
            if check():
                return
            why = "not yet"
        except (OSError, RuntimeError) as error:
            why = error
        if time.time() > until:
            raise SystemExit(f"{what}: not within {limit} s: {why}")
        time.sleep(0.05)


class Stage:
    """The servers and redweir: processes of this one, in one directory."""

    def __init__(self):
        self.dir = tempfile.mkdtemp(prefix="redweir-clients-")
        self.processes = []
        self.nodes = {}

    def start(self, name, command, config=None):
        where = os.path.join(self.dir, name)
        os.makedirs(where, exist_ok=True)
        if config is not None:
            with open(os.path.join(where, "node.conf"), "w") as file:
                file.write(config)
        log = open(os.path.join(where, "log"), "ab")
        process = subprocess.Popen(command, cwd=where, stdin=subprocess.DEVNULL, stdout=log, stderr=log)
        self.processes.append(process)
        return process

    def node(self, port):
        """Starts a node, or starts it again with the configuration that Sentinel last had it write."""
        self.nodes[port] = self.start(f"node-{port}", [os.environ.get("REDIS_SERVER", "redis-server"), "node.conf"])

    def up(self):
        ports = [free_port() for _ in range(3)]
        for port in ports:
            config = f"port {port}\nbind 127.0.0.1\nsave \"\"\nrepl-diskless-sync-delay 0\nreplica-announce-ip 127.0.0.1\n"
            config += f"replicaof 127.0.0.1 {ports[0]}\n" if port != ports[0] else ""
            os.makedirs(os.path.join(self.dir, f"node-{port}"))
            with open(os.path.join(self.dir, f"node-{port}", "node.conf"), "w") as file:
                file.write(config)
            self.node(port)
        wait("replication", lambda: ask(ports[0], "ROLE")[2].__len__() == 2)
        self.sentinels = [free_port() for _ in range(3)]
        for port in self.sentinels:
            config = (
                f"port {port}\nbind 127.0.0.1\nsentinel monitor clients 127.0.0.1 {ports[0]} 2\n"
                "sentinel down-after-milliseconds clients 1000\nsentinel failover-timeout clients 6000\n"
            )
            self.start(f"sentinel-{port}", [os.environ.get("REDIS_SENTINEL", "redis-sentinel"), "node.conf"], config)

        def all_known():
            def fields(port):
                flat = ask(port, "SENTINEL", "MASTER", "clients")
                return dict(zip(flat[::2], flat[1::2]))
            known = [fields(port) for port in self.sentinels]
            return all(k["num-slaves"] == "2" and k["num-other-sentinels"] == "2" for k in known)

        wait("the Sentinels", all_known)
        self.port, admin = free_port(), free_port()
        sentinels = ",".join(f"127.0.0.1:{p}" for p in self.sentinels)
        self.redweir = self.start("redweir", [
            REDWEIR, "--listen", f"127.0.0.1:{self.port}", "--admin", f"127.0.0.1:{admin}", "--sentinel", sentinels,
            "--master-name", "clients", "--workers", "1",
        ])
        wait("redweir", lambda: ask(self.port, "PING") == "PONG")

    def master(self):
        return int(ask(self.sentinels[0], "SENTINEL", "GET-MASTER-ADDR-BY-NAME", "clients")[1])

    def new_master(self, old):
        def switched():
            port = self.master()
            return port != old and ask(port, "ROLE")[0] == "master" and ask(self.port, "SET", "driver", "1") == "OK"
        wait("a new master", switched)

    def down(self):
        for process in reversed(self.processes):
            if process.poll() is None:
                process.kill()
            process.wait()
        if os.environ.get("KEEP"):
            print("logs:", self.dir)
        else:
            shutil.rmtree(self.dir, ignore_errors=True)


def disturb(stage, began):
    """The planned failover and the kill."""
    time.sleep(max(0, began + SECONDS / 3 - time.time()))
    old = stage.master()
    ask(stage.sentinels[0], "SENTINEL", "FAILOVER", "clients")
    stage.new_master(old)
    print(f"planned failover {time.time() - began:.1f} s into the run: {old} -> {stage.master()}", flush=True)
    time.sleep(max(0, began + 2 * SECONDS / 3 - time.time()))
    old = stage.master()
    stage.nodes[old].kill()
    stage.nodes[old].wait()
    killed = time.time()
    stage.killed = killed
    stage.new_master(old)
    print(f"kill -9 of the master: {old} -> {stage.master()} after {time.time() - killed:.1f} s", flush=True)
    stage.node(old)


def verdict(result, killed):
    # A write in flight when its master is killed has an unknown outcome, and the connection is closed: one error for each
    # connection, and one more for the command that finds it closed.
    allowed = 2 * result["connections"]
    faults = [name for name in ("lost", "twice") if result[name] > 0]
    early = sum(at < killed for at in result["error_times"])
    # An open WATCH ends with its master, as on a direct connection.
    if early > result.get("watching", 0):
        faults.append(f"{early} errors before the kill")
    if result["errors"] > allowed:
        faults.append(f"more than {allowed} errors")
    said, heard = result.get("said"), result.get("heard")
    if said is not None and heard < said - MISSED * said / SECONDS:
        faults.append(f"heard {heard} of {said} messages")
    if result["operations"] < 50:
        faults.append("hardly any operations")
    return ", ".join(faults)


def collect(name, process, until):
    """What a client reported; a client that said nothing or goes on counts as failed."""
    try:
        out, err = process.communicate(timeout=max(1, until - time.time()))
    except subprocess.TimeoutExpired:
        process.kill()
        out, err = process.communicate()
        err += b"\nkilled: it did not finish"
    for line in out.decode(errors="replace").splitlines():
        if line.startswith("{"):
            return json.loads(line) | {"client": name}
    did = "ended without a report: " + err.decode(errors="replace")[-600:]
    return {"client": name, "did": did, "operations": 0, "errors": 0, "lost": 0, "twice": 0, "connections": 0, "first_errors": [], "error_times": []}


def main():
    stage = Stage()
    started = {}
    try:
        stage.up()
        env = os.environ | {
            "REDWEIR_PORT": str(stage.port), "REDWEIR_SECONDS": str(SECONDS), "PYTHONPATH": os.path.join(HERE, "python"),
            "NODE_PATH": os.path.join(TARGET, "node", "node_modules"), "PYTHONDONTWRITEBYTECODE": "1",
        }
        for name, command in clients().items():
            started[name] = subprocess.Popen(
                command, env=env, cwd=os.path.join(HERE, "python"), stdout=subprocess.PIPE, stderr=subprocess.PIPE)
        began = time.time()
        disturb(stage, began)
        results = [collect(name, process, began + SECONDS + GRACE) for name, process in started.items()]
    finally:
        for process in started.values():
            if process.poll() is None:
                process.kill()
        stage.down()
    faulty = 0
    print(f"\n{'client':24} {'operations':>10} {'errors':>6} {'lost':>5} {'twice':>5}  what was done")
    for result in results:
        fault = verdict(result, stage.killed)
        faulty += bool(fault)
        did = result["did"] + (f"  << {fault}" if fault else "")
        print(f"{result['client']:24} {result['operations']:>10} {result['errors']:>6} {result['lost']:>5} {result['twice']:>5}  {did}")
        if result["first_errors"] and (fault or os.environ.get("VERBOSE")):
            [print(f"{'':27}{error}") for error in result["first_errors"]]
    print(f"\n{len(results) - faulty} passed, {faulty} failed")
    sys.exit(1 if faulty or not results else 0)


main()
