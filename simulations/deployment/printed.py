"""The commands of a federation whose SuperLink and nodes have machines of their own, for people to run there."""

from __future__ import annotations

import shlex
from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from fed_unlearn.simulations.deployment.certificates import DAYS, alternative_name
from fed_unlearn.simulations.deployment.federation import CLIENT_APP
from fed_unlearn.simulations.deployment.layout import Layout
from fed_unlearn.simulations.engines.commands import CONNECTION, connection_file, toml_value

PORT = 9093
"""The SuperLink's port where none is given."""

_APP = '"$(python -c \'from importlib.resources import files; print(files("fed_unlearn.simulations"))\')"'
_SERVER_MACHINE = "the SuperLink's machine"


@dataclass(frozen=True)
class Part:
    """What is run on one machine at one time, by bash.

    Attributes
    ----------
    machine : str
    purpose : str
    lines : tuple of str
        Commands and comments.
    stays : bool
        Whether the last command runs on.
    """

    machine: str
    purpose: str
    lines: tuple[str, ...]
    stays: bool = False


@dataclass(frozen=True, kw_only=True)
class Plan:
    """What a federation on several machines is to run.

    Attributes
    ----------
    layout : Layout
    host : str
        The name or IP address at which nodes reach the SuperLink.
    folder : str
        What each machine needs is below this folder of its user's home.
    settings : mapping of str to str, bool or int
        Settings of the app: the scenario and changes to it.
    """

    layout: Layout
    host: str
    folder: str
    settings: Mapping[str, object]

    def parts(self) -> list[Part]:
        """All parts, in the order in which they are run."""
        layout, nodes = self.layout, range(self.layout.nodes)
        parts = [Part(_SERVER_MACHINE, "certificates", tuple(self._certificates()))] if layout.tls else []
        parts.append(Part(_SERVER_MACHINE, "the SuperLink", tuple(self._superlink()), stays=True))
        if layout.auth:
            parts += [Part(_machine(node), "its key", tuple(self._key(node))) for node in nodes]
        parts.append(Part(_SERVER_MACHINE, "the connection of flwr", tuple(self._connection())))
        if layout.auth:
            parts.append(Part(_SERVER_MACHINE, "registration", tuple(self._registration())))
        parts += [Part(_machine(node), "the node", tuple(self._node(node)), stays=True) for node in nodes]
        parts.append(Part(_SERVER_MACHINE, "the run", tuple(self._run())))
        return parts

    @property
    def _address(self) -> str:
        return f"{f'[{self.host}]' if ':' in self.host else self.host}:{self._port}"

    @property
    def _port(self) -> int:
        return PORT if self.layout.port is None else self.layout.port

    def _enter(self) -> str:
        place = f'"$HOME"/{shlex.quote(self.folder)}'
        return f"umask 077 && mkdir -p {place} && cd {place}"

    def _certificates(self) -> Iterator[str]:
        new_key = "-newkey ec -pkeyopt ec_paramgen_curve:secp384r1 -nodes"
        subject, names = shlex.quote(f"/CN={self.host}"), shlex.quote(f"subjectAltName={alternative_name(self.host)}")
        yield self._enter()
        yield f'openssl req -x509 {new_key} -days 3650 -subj "/CN=fed-unlearn" -keyout ca.key -out ca.crt'
        yield f"openssl req {new_key} -subj {subject} -keyout server.key -out server.csr"
        yield (
            f"openssl x509 -req -in server.csr -CA ca.crt -CAkey ca.key -CAcreateserial -days {DAYS}"
            f" -extfile <(printf '%s\\n' {names} 'extendedKeyUsage=serverAuth') -out server.crt"
        )
        yield f"# server.crt is valid for {DAYS} days: run the last two lines again before, and restart the SuperLink."
        yield "# Copy ca.crt, and nothing else, into this folder on every node's machine. Move ca.key off this machine."

    def _superlink(self) -> Iterator[str]:
        secured = "--insecure"
        if self.layout.tls:
            secured = "--ssl-ca-certfile ca.crt --ssl-certfile server.crt --ssl-keyfile server.key"
        auth = " --enable-supernode-auth" if self.layout.auth else ""
        yield f"# Whoever reaches port {self._port} can start runs: open it to the nodes' addresses alone."
        yield self._enter()
        yield (
            f"flower-superlink {secured}{auth} --host {shlex.quote(self.host)} --port {self._port}"
            " --database state.db --disable-runtime-dependency-installation"
        )

    def _key(self, node: int) -> Iterator[str]:
        yield self._enter()
        yield f"ssh-keygen -q -t ecdsa -b 384 -N '' -C {_name(node)} -f {_name(node)}.key"
        yield f"# Copy {_name(node)}.key.pub, and never {_name(node)}.key, into this folder on the SuperLink's machine."

    def _connection(self) -> Iterator[str]:
        text = connection_file(self._address, "$PWD/ca.crt" if self.layout.tls else None)
        yield self._enter()
        yield "mkdir -p flower"
        yield f"cat > flower/config.toml <<END\n{text.rstrip()}\nEND"

    def _registration(self) -> Iterator[str]:
        yield self._enter()
        yield 'export FLWR_HOME="$PWD/flower"'
        for node in range(self.layout.nodes):
            yield f"flwr supernode register {_name(node)}.key.pub {CONNECTION}"
        yield "sleep 6  # a node that starts sooner counts as one that nobody registered"

    def _node(self, node: int) -> Iterator[str]:
        layout = self.layout
        secured = "--root-certificates ca.crt" if layout.tls else "--insecure"
        gpu = f" --gpu {layout.gpu_of(node)}" if layout.gpus else ""
        key = f" --auth-supernode-private-key {_name(node)}.key" if layout.auth else ""
        config = f'partition-id={node} num-partitions={layout.nodes} client-dir=\\"$PWD/client-{node}\\"'
        yield "# flower-supernode takes these flags too, but --gpu and --preload; a message takes seconds more then."
        yield self._enter()
        yield (
            f"fed-unlearn node{gpu} --preload {CLIENT_APP} {secured}{key} --superlink {shlex.quote(self._address)}"
            f' --node-config "{config}"'
        )

    def _run(self) -> Iterator[str]:
        yield self._enter()
        yield 'export FLWR_HOME="$PWD/flower"'
        given = " ".join(f"-c {_quoted(f'{key}={toml_value(value)}')}" for key, value in self.settings.items())
        yield f"flwr run {_APP} {CONNECTION} --stream {given} -c \"out='$PWD/run'\""
        yield 'fed-unlearn ledger verify "$PWD/run"'


def as_text(plan: Plan) -> str:
    """The parts of a plan as text that people read, and bash runs part by part."""
    lines = [
        "# Each part is for bash on the machine that it names, in this order. One that stays needs a shell of its own.",
        "# All have fed-unlearn in the same version. The file of a scenario, if it is one, has one path on all.",
    ]
    if not plan.layout.tls:
        lines.append(
            "# Nothing is encrypted, and anyone may be a node: give --tls --auth where others reach the network."
        )
    for number, part in enumerate(plan.parts(), start=1):
        lines += ["", f"# {number}. {part.machine}: {part.purpose}{', which stays' if part.stays else ''}", *part.lines]
    return "\n".join(lines)


def _quoted(text: str) -> str:
    """A text in double quotes where bash takes it so, and else as safe and less readable."""
    return shlex.quote(text) if set(text) & set('"$`\\!') else f'"{text}"'


def _machine(node: int) -> str:
    return f"the machine of node {node}"


def _name(node: int) -> str:
    return f"node-{node}"
