"""A real federation for half an hour of mixed life: ``python -m tests.trials.mixed_life FOLDER``.

A SuperLink with TLS and node authentication, four nodes and a server that stays. Requests come from the operator and
from owners of clients' data. Meanwhile nodes leave and come back, one is added, and SIGKILL hits a node in an unlearn
round, an executor, the SuperLink and the ServerApp. At the end every request must have ended as it should and once,
the ledger must verify, nothing may be owed, no id of an owner's samples may be found outside its node's folder, and a
server that sleeps must cost next to nothing. Prints a line for each step and each check; the exit code is 1 where a
check fails.

``--short`` takes three minutes: fewer requests, one node and the ServerApp are killed.
"""

from __future__ import annotations

import argparse
import json
import os
import signal
import sys
import time
from collections.abc import Callable
from contextlib import closing
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path

from canaries import found_anywhere
from deployed import Deployed, children_of, deployed, eventually, mentioning

from fed_unlearn.ledger import Ledger, LedgerEntry
from fed_unlearn.ledger.lifecycle import FINAL, Status
from fed_unlearn.locks import who_works_on
from fed_unlearn.simulations.scenario import load_scenario
from fed_unlearn.simulations.task import data_of_client, source_of
from fed_unlearn.strategies.staying.live_status import read_live_status

NODES = 4
IDLE_SECONDS = 240.0
_LONGEST_STEP = 400.0
_KEPT_CLASSES = (2, 4, 6, 9)
"""Those that nobody asks to forget: owners choose their samples among them."""

_SCENARIO = """
name = "mixed-life"
[run]
threads = 1
[data]
dataset = "canary_digits:digits_with_uuids"
[clients]
count = 4
partition = "iid"
[model]
name = "small-cnn"
[training]
local-epochs = 3
learning-rate = 0.05
parameters = { min-available-nodes = 3 }
[unlearning]
retention = 30
guard-margin = 3
max-request-norm = 12
client-method = "fedosd"
[unlearning.parameters.boundary-shrink]
learning-rate = 0.005
epochs = 5
trained-layers = 0
[unlearning.parameters.instance-wise]
max-steps = 60
[gate.class]
max-forget-accuracy = 0.1
max-retain-drop = 0.1
max-total-retain-drop = 0.2
[gate.sample]
max-retain-drop = 0.1
max-total-retain-drop = 0.2
[gate.client]
max-retain-drop = 0.1
max-total-retain-drop = 0.2
[serve]
owner-seconds = 120.0
retry-seconds = 5.0
[[timeline]]
train = { rounds = 6 }
[[timeline]]
train = { rounds = 1, not-before = LATER }
"""
_SECOND_TRAINING_SHARE = 0.4


@dataclass
class Life:
    """What happens in the federation, and what must come of it.

    Attributes
    ----------
    federation : Deployed
    out : Path
        The server's run folder.
    """

    federation: Deployed
    out: Path
    expected: dict[str, Status] = field(default_factory=dict)
    owners: dict[int, int] = field(default_factory=dict)
    canaries: list[str] = field(default_factory=list)
    problems: list[str] = field(default_factory=list)

    @property
    def ledger_file(self) -> Path:
        return self.out / "ledger.db"

    def entries(self) -> list[LedgerEntry]:
        if not self.ledger_file.exists():
            return []
        with closing(Ledger(self.ledger_file, create=False)) as ledger:
            return ledger.entries()

    def entry(self, name: str) -> LedgerEntry | None:
        return next((entry for entry in self.entries() if entry.id == name), None)

    def status(self, name: str) -> Status | None:
        entry = self.entry(name)
        return None if entry is None else entry.status

    def wait(self, check: Callable[[], object], what: str, seconds: float = _LONGEST_STEP) -> None:
        eventually(check, seconds, what, 0.25)

    # ------------------------------------------------------------------ what happens

    def serve(self, minutes: float) -> None:
        """Start the server, which trains once more after so many minutes, and wait until it has trained."""
        scenario = self.federation.folder / "mixed-life.toml"
        later = datetime.now(UTC) + timedelta(minutes=minutes)
        scenario.write_text(_SCENARIO.replace("LATER", later.isoformat(timespec="seconds")))
        self.federation.start("serve", "fed-unlearn", "serve", str(scenario), "--out", str(self.out))
        self.wait(self.sleeps, "the server has trained and sleeps")

    def sleeps(self) -> bool:
        live = read_live_status(self.ledger_file) if self.ledger_file.exists() else None
        return live is not None and live.doing == "sleeps"

    def operator(self, name: str, *arguments: str, ends: Status = Status.COMMITTED) -> None:
        """The operator puts a request."""
        self.federation.run("fed-unlearn", "request", "add", str(self.out), "--id", name, *arguments)
        self.expected[name] = ends

    def refused(self, *arguments: str) -> None:
        """The operator's request is refused on the command line, in one line."""
        done = self.federation.run("fed-unlearn", "request", "add", str(self.out), *arguments, check=False)
        is_one_line = len(done.stderr.splitlines()) == 1
        self.check(f"{' '.join(arguments)} is refused", done.returncode == 2 and is_one_line, done.stderr.strip())

    def owner(self, client: int, *arguments: str, samples: int = 0) -> None:
        """The owner of a client's data asks at its node."""
        given = list(arguments)
        if samples:
            source = load_scenario(str(self.federation.folder / "mixed-life.toml"))
            held = data_of_client(source, source_of(source.data), client).train
            chosen = [
                str(name)
                for name, label in zip(held.ids, held.labels.tolist(), strict=True)
                if label in _KEPT_CLASSES and str(name) not in self.canaries
            ][:samples]
            self.canaries += chosen
            file = self.federation.client_dir(client) / f"ids-{len(self.canaries)}.txt"
            file.write_text("\n".join(chosen))
            given += ["--samples", str(file)]
        folder = str(self.federation.client_dir(client))
        self.federation.run("fed-unlearn", "forget", "--client-dir", folder, *given)
        self.owners[client] = self.owners.get(client, 0) + 1

    def served(self, name: str) -> None:
        self.wait(lambda: self.status(name) in FINAL, f"{name} has ended")

    def owners_served(self) -> None:
        """Wait until everything that owners have asked for so far has ended."""
        asked = sum(self.owners.values())

        def ended() -> bool:
            mine = [entry for entry in self.entries() if entry.id not in self.expected]
            return len(mine) == asked and all(entry.status in FINAL for entry in mine)

        self.wait(ended, f"{asked} requests of owners have ended")

    def unlearns(self, name: str) -> None:
        def is_there() -> bool:
            status = self.status(name)
            assert status not in FINAL, f"{name} is {status} already, and nothing was killed in its unlearn round"
            return status is Status.UNLEARNING

        self.wait(is_there, f"{name} is in its unlearn round")

    def disturbed(self, name: str, harm: Callable[[], object], *arguments: str) -> None:
        """The operator puts a request, and harm is done in its unlearn round."""
        self.operator(name, *arguments)
        self.unlearns(name)
        harm()

    def child_of_node(self, number: int, part: str) -> int:
        """The process of a node's SuperNode or executor."""
        node = self.federation.processes[f"node-{number}"].pid
        for pid in children_of(node):
            if part in Path(f"/proc/{pid}/cmdline").read_text():
                return pid
        raise AssertionError(f"node {number} has no {part}")

    def kill_server(self) -> None:
        server = who_works_on(self.ledger_file)
        assert server is not None
        os.kill(server, signal.SIGKILL)
        self.wait(lambda: who_works_on(self.ledger_file) not in (None, server), "the server is run again")

    # ------------------------------------------------------------------ what must come of it

    def check(self, what: str, holds: object, detail: object = "") -> None:
        print(f"{'ok    ' if holds else 'FAILED'} {what} {detail}", flush=True)
        if not holds:
            self.problems.append(what)

    def check_requests(self) -> None:
        entries = self.entries()
        for entry in entries:
            expected = self.expected.get(entry.id, Status.COMMITTED)
            detail = f"{entry.request.scope.kind}: {entry.status}, {entry.attempt} attempts; {entry.reason or ''}"
            self.check(f"{entry.id} ended {expected}", entry.status is expected, detail)
        asked = len(self.expected) + sum(self.owners.values())
        self.check("every request is in the ledger once", len(entries) == asked, f"{len(entries)} of {asked}")
        with closing(Ledger(self.ledger_file, create=False)) as ledger:
            events = ledger.events()
            commits = {entry.id: 0 for entry in entries}
            for event in events:
                if event.name in (Status.COMMITTED, Status.REOPENED) and event.request_id is not None:
                    commits[event.request_id] += 1 if event.name == Status.COMMITTED else -1
            again = {name: count for name, count in commits.items() if count > 1}
            self.check("nothing was committed twice", not again, again)
            self.check("the ledger is intact", ledger.verify().problem is None, f"{len(events)} events")
        trained = json.loads((self.out / "results.json").read_text())["training"]["rounds"]
        self.check("the server trained when its timeline said so", trained == 7, f"{trained} of 7 rounds")
        owed = {entry.id: entry.owed for entry in entries if entry.owed}
        self.check("nothing is owed", not owed, owed)

    def check_owners(self) -> None:
        for client, count in sorted(self.owners.items()):
            folder = str(self.federation.client_dir(client))
            told = self.federation.run("fed-unlearn", "forget", "--client-dir", folder, "--status").stdout
            self.check(f"the owner of client {client} sees {count} committed", told.count("committed") == count)

    def check_idle(self) -> None:
        """What a server that sleeps costs."""
        self.wait(self.sleeps, "the server sleeps")
        server, live = who_works_on(self.ledger_file), read_live_status(self.ledger_file)
        assert server is not None and live is not None
        before, sent, started = cpu_seconds(server), live.messages, time.monotonic()
        nodes = {name: cpu_of_tree(process.pid) for name, process in self.federation.processes.items()}
        time.sleep(IDLE_SECONDS)
        seconds = time.monotonic() - started
        share = (cpu_seconds(server) - before) / seconds
        live = read_live_status(self.ledger_file)
        assert live is not None
        per_minute = (live.messages - sent) / max(1, len(live.connected)) / seconds * 60
        self.check("the sleeping server costs under 1 % of a core", share < 0.01, f"{share:.2%}")
        self.check("under 1 message a minute and node", per_minute < 1, f"{per_minute:.2f}")
        for name, cpu in nodes.items():
            share = (cpu_of_tree(self.federation.processes[name].pid) - cpu) / seconds
            print(f"       {name}: {share:.2%} of a core", flush=True)

    def check_canaries(self) -> None:
        own = [self.federation.folder / "clients"]
        others = [path for path in self.federation.folder.iterdir() if path.name != "clients"]
        found = found_anywhere([*others, self.out], self.canaries)
        self.check(f"none of {len(self.canaries)} ids is found outside the nodes' folders", not found, found[:3])
        self.check("all of them are found inside", bool(found_anywhere(own, self.canaries)))

    def check_end(self) -> None:
        done = self.federation.run("fed-unlearn", "serve", "--stop", str(self.out), check=False)
        code = self.federation.processes["serve"].wait(60)
        self.check("the server stops in order", done.returncode == 0 and code == 0, f"exit code {code}")


def cpu_seconds(pid: int) -> float:
    """CPU time of a process so far."""
    fields = Path(f"/proc/{pid}/stat").read_text().rsplit(") ", 1)[1].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def cpu_of_tree(pid: int) -> float:
    """CPU time of a process and all that are below it now, with that of children that have ended."""
    fields = Path(f"/proc/{pid}/stat").read_text().rsplit(") ", 1)[1].split()
    own = sum(int(item) for item in fields[11:15]) / os.sysconf("SC_CLK_TCK")
    return own + sum(cpu_of_tree(child) for child in children_of(pid))


Step = tuple[str, Callable[[], object]]


def short_steps(life: Life) -> list[Step]:
    """Three minutes."""
    node_1 = lambda: os.kill(life.child_of_node(1, "supernode"), signal.SIGKILL)  # noqa: E731
    return [
        ("an owner asks for 4 samples", lambda: life.owner(0, samples=4)),
        ("a node is killed in the unlearn round of class 3", lambda: life.disturbed("q1", node_1, "--class", "3")),
        ("it is served", lambda: life.served("q1")),
        ("a class that is not there is refused at once", lambda: life.refused("--class", "99")),
        ("a class that is forgotten", lambda: life.operator("q2", "--class", "3", ends=Status.REJECTED)),
        ("the ServerApp is killed", life.kill_server),
        ("it is refused", lambda: life.served("q2")),
        ("the owner is served", life.owners_served),
    ]


def steps(life: Life) -> list[Step]:
    """Half an hour."""
    federation = life.federation
    kill = lambda number, part: os.kill(life.child_of_node(number, part), signal.SIGKILL)  # noqa: E731
    return [
        ("operator: class 3", lambda: (life.operator("q1", "--class", "3"), life.served("q1"))),
        ("owner of client 0: 4 samples", lambda: life.owner(0, samples=4)),
        ("operator: a class that is forgotten", lambda: life.operator("q2", "--class", "3", ends=Status.REJECTED)),
        ("operator: class 7; SIGKILL of node 1 in its unlearn round",
         lambda: life.disturbed("q3", lambda: kill(1, "supernode"), "--class", "7")),
        ("class 7 is served", lambda: life.served("q3")),
        ("owner of client 1: its samples of class 1", lambda: life.owner(1, "--class", "1")),
        ("all owners are served", life.owners_served),
        ("node 2 leaves", lambda: federation.terminate("node-2")),
        ("operator: 4 samples of client 2", lambda: life.operator("q4", "--client", "2", "--samples", "4")),
        ("it waits", lambda: life.wait(lambda: life.status("q4") is Status.WAITING, "q4 waits")),
        ("node 2 comes back", lambda: federation.start_node(2)),
        ("it is served", lambda: life.served("q4")),
        ("node 3 is added", lambda: federation.start_node(3)),
        ("node 3 is known", lambda: life.wait(lambda: "3" in connected(life), "node 3 takes part")),
        ("owner of client 3: 6 samples", lambda: life.owner(3, "--goal", "indistinguishable", samples=6)),
        ("operator: class 5; SIGKILL of the executor of node 0",
         lambda: life.disturbed("q5", lambda: kill(0, "executor"), "--class", "5")),
        ("class 5 is served", lambda: life.served("q5")),
        ("owner of client 0: 4 samples more", lambda: life.owner(0, samples=4)),
        ("SIGKILL of the SuperLink", lambda: (federation.kill("superlink"), time.sleep(5))),
        ("the SuperLink is started again", federation.start_superlink),
        ("all owners are served", life.owners_served),
        ("operator: class 8; SIGKILL of the ServerApp in its unlearn round",
         lambda: life.disturbed("q6", life.kill_server, "--class", "8")),
        ("class 8 is served", lambda: life.served("q6")),
        ("node 1 leaves", lambda: federation.terminate("node-1")),
        ("operator: class 0, which node 1 owes", lambda: (life.operator("q7", "--class", "0"), life.served("q7"))),
        ("node 1 comes back", lambda: federation.start_node(1)),
        ("it writes what it owes", lambda: life.wait(lambda: not owed(life), "nothing is owed")),
        ("owner of client 3: all of it", lambda: life.owner(3, "--all")),
        ("all owners are served", life.owners_served),
        ("the class that is forgotten is refused", lambda: life.served("q2")),
    ]  # fmt: skip


def connected(life: Life) -> tuple[str, ...]:
    """The clients that take part."""
    live = read_live_status(life.ledger_file)
    return () if live is None else live.connected


def owed(life: Life) -> dict[str, tuple[str, ...]]:
    """By request, the clients that owe its tombstones."""
    return {entry.id: entry.owed for entry in life.entries() if entry.owed}


def run(folder: Path, minutes: float, *, short: bool) -> int:
    """Live it; return the number of checks that failed."""
    support = str(Path(__file__).parents[1] / "support")
    os.environ["PYTHONPATH"] = os.pathsep.join(filter(None, (support, os.environ.get("PYTHONPATH"))))
    started = time.monotonic()
    with deployed(folder, NODES, auth=True) as federation:
        life = Life(federation, folder / "run")
        for number in range(3):
            federation.start_node(number)
        life.serve(minutes * _SECOND_TRAINING_SHARE)
        todo = short_steps(life) if short else steps(life)
        begun = time.monotonic()
        for number, (what, do) in enumerate(todo):
            print(f"{time.monotonic() - started:7.1f} s  {what}", flush=True)
            do()
            due = begun + (number + 1) * minutes * 60 / len(todo)
            time.sleep(max(0.0, min(due - time.monotonic(), 60.0)))
        life.wait(life.sleeps, "the server sleeps")
        life.check_requests()
        life.check_owners()
        if not short:
            life.check_idle()
        life.check_end()
        life.check_canaries()
    left = mentioning(str(folder))
    life.check("no process is left", not left, left)
    print(f"{time.monotonic() - started:.0f} s, {len(life.problems)} checks failed")
    return len(life.problems)


def main() -> int:
    """Read the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path, help="a new folder; it is kept")
    parser.add_argument("--minutes", type=float, default=30.0, help="how long the steps are spread over")
    parser.add_argument("--short", action="store_true", help="three minutes")
    options = parser.parse_args()
    folder = options.folder.absolute()
    if folder.exists():
        parser.error(f"{folder} exists; expected a new folder")
    return 1 if run(folder, 3.0 if options.short else options.minutes, short=options.short) else 0


if __name__ == "__main__":
    sys.exit(main())
