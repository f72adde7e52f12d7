"""What `fed-unlearn launch` refuses before it starts anything."""

import socket
from pathlib import Path

import pytest

from fed_unlearn.simulations.cli import run_command
from fed_unlearn.simulations.deployment.layout import Layout

TINY = str(Path(__file__).parents[2] / "support" / "tiny.toml")


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (["--nodes", "3"], "--nodes 3: scenario tiny has 2 clients; give --nodes 2, or --set clients.count=3"),
        (["--nodes", "0"], "'--nodes': 0 is not in the range x>=1"),
        (["--auth"], "--auth without --tls: a SuperLink takes keys over TLS alone; give both"),
        (["--gpus", "0,one"], "--gpus '0,one': expected numbers of GPUs, such as 0,1"),
        (["--port", "70000"], "'--port': 70000 is not in the range 1<=x<=65535"),
        (["--print"], "--print without --host: give the address at which nodes reach the SuperLink"),
        (["--print", "--host", "a:1"], "--host 'a:1': expected a name or an IP address, without port"),
        (["--print", "--host", "a", "--keep"], "--print with --keep: leave it out"),
        (["--host", "a"], "--host without --print: all is on this machine"),
    ],
)
def test_what_does_not_fit_is_refused_and_nothing_is_written(
    options: list[str], said: str, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    assert run_command(["launch", TINY, *options]) == 2
    assert said in capsys.readouterr().err
    assert list(tmp_path.iterdir()) == []


def test_a_port_in_use_is_refused_and_nothing_is_written(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    with socket.socket() as other:
        other.bind(("127.0.0.1", 0))
        other.listen()
        port = other.getsockname()[1]
        assert run_command(["launch", TINY, "--port", str(port)]) == 2
    assert f"--port {port}: Address already in use; give another, or leave it out" in capsys.readouterr().err
    assert list(tmp_path.iterdir()) == []


def test_gpus_are_given_to_nodes_in_turn() -> None:
    assert [Layout(nodes=5, gpus=(3, 1)).gpu_of(node) for node in range(5)] == [3, 1, 3, 1, 3]
