from __future__ import annotations

import sys
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

import pytest

from fed_unlearn.errors import InvalidParameterError
from fed_unlearn.registry import Registry, imported_callable

GROUP = "fed_unlearn.bells"


@dataclass(frozen=True, kw_only=True)
class Bell(ABC):
    name: ClassVar[str]
    metal: ClassVar[str]
    notes: ClassVar[tuple[str, ...]]
    is_cracked: ClassVar[bool] = False

    weight: int = 1

    @abstractmethod
    def ring(self) -> str: ...


class Brass(Bell):
    metal, notes = "brass", ("c", "e")

    def ring(self) -> str:
        return "ding"


CODE = """
from {contract} import BELLS, Bell
class {name}(Bell):
    metal, notes = "tin", ()
    def ring(self):
        return "clank"
"""

Install = Callable[[str, str, dict[str, str]], None]


@pytest.fixture
def install(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Install]:
    """Puts packages on the path as pip does; they are imported anew in every test."""
    monkeypatch.syspath_prepend(tmp_path)
    before = set(sys.modules)

    def put(distribution: str, entry_points: str, modules: dict[str, str]) -> None:
        folder = tmp_path / f"{distribution}-1.0.dist-info"
        folder.mkdir()
        (folder / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {distribution}\nVersion: 1.0\n")
        (folder / "entry_points.txt").write_text(f"[{GROUP}]\n{entry_points}\n")
        for name, code in modules.items():
            (tmp_path / f"{name}.py").write_text(code)

    yield put
    for name in set(sys.modules) - before:
        del sys.modules[name]


def new_registry(*built_in: str) -> Registry[Bell]:
    return Registry("bell", contract=f"{__name__}:Bell", group=GROUP, built_in=built_in)


def bell(name: str, registered_as: str | None = None) -> str:
    code = CODE.format(contract=__name__, name=name)
    return code if registered_as is None else f"{code}BELLS.register({registered_as!r})({name})\n"


@pytest.fixture
def bells(monkeypatch: pytest.MonkeyPatch) -> Registry[Bell]:
    """The registry that modules of other packages import."""
    registry = new_registry()
    monkeypatch.setattr(sys.modules[__name__], "BELLS", registry, raising=False)
    return registry


def test_built_in_modules_are_imported_at_the_first_look_up(install: Install) -> None:
    install("nobody", "", {"lazy_bells": "raise LookupError('imported')"})
    registry = new_registry("lazy_bells")
    with pytest.raises(LookupError, match="imported"):
        registry.available()
    with pytest.raises(LookupError, match="imported"):  # a built-in module that fails is no small matter
        registry.find("anything")


def test_a_class_is_found_by_its_name_and_made_with_parameters() -> None:
    registry = new_registry()
    assert registry.register("brass")(Brass) is Brass and Brass.name == "brass"
    registry.register("brass")(Brass)
    assert registry.available() == {"brass": Brass} and registry.find("brass") is Brass
    assert "brass" in registry and "tin" not in registry
    assert registry.create("brass", weight=3) == Brass(weight=3)
    assert registry.distribution_of("brass") is None
    with pytest.raises(InvalidParameterError, match=r"^bell 'brass' has no parameter 'size'; it has weight$"):
        registry.create("brass", size=1)
    with pytest.raises(InvalidParameterError, match=r"^bell 'tin' is unknown; known are brass$"):
        registry.create("tin")
    with pytest.raises(InvalidParameterError, match=r"^bell 'bras' is unknown; did you mean brass\? known are brass$"):
        registry.find("bras")
    with pytest.raises(
        InvalidParameterError, match=r"^bell 'tin' is unknown; did you mean tine\? known are tine, cup$"
    ):
        registry.find("tin", expected=("tine", "cup"))


def test_a_class_must_fulfil_the_contract() -> None:
    class Silent(Bell):
        metal, notes = "brass", ("c",)

    class Nameless(Bell):
        notes = ("c",)

        def ring(self) -> str:
            return ""

    class OneNote(Brass):
        notes = "c"  # type: ignore[assignment]

    for cls, said in (
        (Silent, "Silent does not implement ring"),
        (Nameless, "Nameless has no 'metal'; every bell has metal and notes"),
        (OneNote, "OneNote has notes = 'c'; expected a tuple of notes"),
        (dict, f"builtins.dict is no subclass of {__name__}.Bell"),
    ):
        registry = new_registry()
        with pytest.raises(InvalidParameterError) as caught:
            registry.register("bad")(cls)
        assert str(caught.value).startswith("bell 'bad': ") and str(caught.value).endswith(said)
        assert not registry.available()


def test_other_packages_give_classes_or_modules(bells: Registry[Bell], install: Install) -> None:
    install("foundry", "tin = tin_bell:Tin", {"tin_bell": bell("Tin")})
    install("belfry", "whatever = old_bell", {"old_bell": bell("Old", "old")})
    assert list(bells.available()) == ["old", "tin"]
    assert (bells.distribution_of("tin"), bells.distribution_of("old")) == ("foundry", "belfry")
    assert not bells.unavailable()


def test_a_module_that_another_group_has_imported_already_has_its_distribution(
    bells: Registry[Bell], install: Install
) -> None:
    install("belfry", "old = old_bell", {"old_bell": bell("Old", "old"), "older_bell": bell("Older", "older")})
    imported_callable("old_bell:Old")
    imported_callable("older_bell:Older")
    assert list(bells.available()) == ["old", "older"]
    assert (bells.distribution_of("old"), bells.distribution_of("older")) == ("belfry", None)


def test_a_name_taken_twice_is_refused_naming_both_distributions(bells: Registry[Bell], install: Install) -> None:
    install("foundry", "tin = tin_bell:Tin", {"tin_bell": bell("Tin")})
    install("recycler", "zzz = used_bell", {"used_bell": bell("Used", "tin")})
    both = (
        r"^bell name 'tin' is taken: tin_bell\.Tin of distribution 'foundry' and used_bell\.Used of distribution"
        r" 'recycler' both register it; rename one, or uninstall its distribution$"
    )
    for look_up in (bells.available, lambda: bells.find("tin"), lambda: bells.find("other")):
        with pytest.raises(InvalidParameterError, match=both):
            look_up()


def test_a_broken_entry_point_is_an_error_only_where_its_name_is_asked_for(
    bells: Registry[Bell], install: Install
) -> None:
    half_way = bell("Half", "half") + "import no_such_library"
    wrong = "half = half_bell\nnumber = half_numbers:NUMBER\nlost = lost_bell:Lost"
    install("wrecks", wrong, {"half_bell": half_way, "half_numbers": "NUMBER = 5"})
    install("foundry", "tin = tin_bell:Tin", {"tin_bell": bell("Tin")})
    assert list(bells.available()) == ["tin"]
    assert list(bells.unavailable()) == ["half", "lost", "number"]
    assert "half" in bells and bells.distribution_of("half") is None
    half = (
        r"^bell 'half': entry point 'half' \(half_bell\) of distribution 'wrecks' cannot be loaded"
        r" \(ModuleNotFoundError: No module named 'no_such_library'\); update or uninstall wrecks$"
    )
    with pytest.raises(InvalidParameterError, match=half):
        bells.create("half")
    with pytest.raises(InvalidParameterError, match=r"TypeError: 5 is neither a module nor a class"):
        bells.find("number")
    with pytest.raises(InvalidParameterError, match=r"known are tin; entry points half, lost, number cannot be loaded"):
        bells.find("zinc")
