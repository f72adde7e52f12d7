"""Methods of other packages, as pip installs them: a dist-info folder on the path, in a process of its own."""

import os
import subprocess
import sys
from pathlib import Path

METHOD = '''
from dataclasses import dataclass
from fed_unlearn.methods import register
from fed_unlearn.methods.base import Applied, Method


{decorator}@dataclass(frozen=True, kw_only=True)
class {name}(Method):
    """Does nothing, slowly.

    Parameters
    ----------
    patience : int, default 3
        How slowly, in :class:`~somewhere.Hours`.
    """

    paper = "Nobody et al., 2026"
    scopes = ("class",)
    needs = "forget"
    patience: int = 3

    def _apply(self, work):
        return Applied(converged=False, steps=0, guard_labels=None)

    def stronger(self):
        return self
'''


def install(site: Path, distribution: str, entry_points: str, modules: dict[str, str]) -> None:
    """What ``pip install`` leaves behind."""
    folder = site / f"{distribution.replace('-', '_')}-1.0.dist-info"
    folder.mkdir(parents=True)
    (folder / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {distribution}\nVersion: 1.0\n")
    (folder / "entry_points.txt").write_text(f"[fed_unlearn.methods]\n{entry_points}\n")
    for name, code in modules.items():
        (site / f"{name}.py").write_text(code)


def run(site: Path, code: str) -> list[str]:
    """Lines that a new interpreter prints."""
    environment = {**os.environ, "PYTHONPATH": str(site), "COLUMNS": "120"}
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, env=environment, check=False)
    assert done.returncode == 0, done.stderr
    assert "Traceback" not in done.stdout + done.stderr
    return [*done.stdout.splitlines(), *done.stderr.splitlines()]


COMMANDS = "from fed_unlearn.simulations.cli import run_command\n"


def method(name: str, registered_as: str | None = None) -> str:
    decorator = "" if registered_as is None else f'@register("{registered_as}")\n'
    return METHOD.format(name=name, decorator=decorator)


def test_methods_of_other_packages_are_listed_and_a_broken_one_stands_in_nobodys_way(tmp_path: Path) -> None:
    by_class = "patient-forgetting = patient:Patient"
    install(tmp_path, "patient-methods", by_class, {"patient": method("Patient")})
    by_module = "anything = sloth_module"
    half_way = method("Half", "half-way") + "import no_such_library\n"
    install(tmp_path, "sloths", by_module, {"sloth_module": method("Sloth", "sloth")})
    wrong = "wrecked = wreck\nno-method = json:dumps"
    install(tmp_path, "wrecks", wrong, {"wreck": half_way})
    lines = run(
        tmp_path,
        COMMANDS
        + "from fed_unlearn.methods import available, create, distribution_of\n"
        + "codes = [run_command(['methods'])]\n"
        + "codes.append(run_command(['methods', 'patient-forgetting']))\n"
        + "codes.append(run_command(['methods', 'wrecked']))\n"
        + "codes.append(run_command(['methods', 'half-way']))\n"
        + "print(codes, create('sloth', patience=5).patience, create('boundary-shrink').name)\n"
        + "print(distribution_of('sloth'), distribution_of('boundary-shrink'), 'half-way' in available())\n",
    )
    rows = [line.split() for line in lines]
    for name, distribution in (("patient-forgetting", "patient-methods"), ("sloth", "sloths")):
        start = rows.index([name])
        assert rows[start + 1 : start + 8] == [
            ["does", "Does", "nothing,", "slowly."],
            ["serves", "class", "requests"],
            ["needs", "forget"],
            ["inputs", "any"],
            ["paper", "Nobody", "et", "al.,", "2026"],
            ["parameters", "patience,", "precision"],
            ["from", distribution],
        ]
    assert any(row[:1] == ["boundary-shrink"] for row in rows)
    wreck = "entry point 'wrecked' (wreck) of distribution 'wrecks' cannot be loaded (ModuleNotFoundError: No module"
    assert any(line.startswith(wreck) for line in lines)
    assert any(line.startswith("entry point 'no-method' (json:dumps) of distribution 'wrecks'") for line in lines)
    assert any(line.startswith(f"fed-unlearn: method 'wrecked': {wreck}") for line in lines)
    assert any(line.startswith("fed-unlearn: method 'half-way' is unknown; known are") for line in lines)
    assert "  patience : int, default 3" in [line.rstrip() for line in lines]
    assert "      How slowly, in Hours." in [line.rstrip() for line in lines]
    assert "[0, 0, 2, 2] 5 boundary-shrink" in lines
    assert "sloths None False" in lines


def test_a_name_that_a_built_in_method_has_is_refused_naming_both(tmp_path: Path) -> None:
    install(tmp_path, "copycats", "boundary-shrink = copycat:Copycat", {"copycat": method("Copycat")})
    code = COMMANDS + "print([run_command(['methods']), run_command(['methods', 'boundary-shrink'])])"
    codes, first, second = run(tmp_path, code)
    assert codes == "[2, 2]" and first == second
    built_in = "fed_unlearn.methods.boundary_shrink.BoundaryShrink of distribution 'fed-unlearn'"
    assert f"method name 'boundary-shrink' is taken: {built_in} and" in first
    assert "copycat.Copycat of distribution 'copycats' both register it" in first
