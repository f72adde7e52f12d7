"""What ``fed-unlearn methods NAME`` prints: one method in full, its parameters read from its docstrings."""

from __future__ import annotations

import dataclasses
import inspect
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from rich.console import Console
from rich.padding import Padding
from rich.text import Text

from fed_unlearn.methods import METHODS, Method
from fed_unlearn.registry import Registry
from fed_unlearn.strategies.methods_by_name import method_named, served_scopes
from fed_unlearn.strategies.server_methods import SERVER_METHODS, ServerMethod

AnyMethod = type[Method] | type[ServerMethod[Any]]


@dataclass(frozen=True, kw_only=True)
class ParameterDetails:
    """One hyper-parameter of a method.

    Attributes
    ----------
    name, kind : str
        ``kind`` as its docstring has it, else as it is annotated.
    default : str
        Default in TOML syntax; ``none`` for None, and empty where there is no default.
    description : str
        Description in one paragraph; empty where nobody wrote one.
    """

    name: str
    kind: str
    default: str
    description: str


def print_method(name: str) -> None:
    """Print a method's summary, paper, scopes, needs and parameters; first as the server runs it, where there are two.

    Parameters
    ----------
    name : str

    Raises
    ------
    InvalidParameterError
        If there is no such method.
    """
    found: list[AnyMethod] = [of[name] for of in (SERVER_METHODS.available(), METHODS.available()) if name in of]
    if not found:  # a name that an error explains
        found = [method_named(name)]
    console = Console()
    for number, cls in enumerate(found):
        if number:
            console.print()
        _print_details(console, name, cls, at_the_holders=len(found) == 1)


def _print_details(console: Console, name: str, cls: AnyMethod, *, at_the_holders: bool) -> None:
    distribution = registry_of(cls).distribution_of(name)
    retain = " (cannot do without retained samples)" if issubclass(cls, Method) and cls.requires_retain else ""
    facts = {
        "paper": cls.paper,
        "serves": ", ".join(served_scopes(cls)) + " requests",
        "runs": ("at the holders" if at_the_holders else "without a federation")
        if issubclass(cls, Method)
        else "at the server, over rounds",
        "needs": cls.needs + retain,
        "inputs": cls.inputs if issubclass(cls, Method) else "any",
        "from": "fed_unlearn" if distribution is None else distribution,
    }
    console.print(Text(name, style="bold"), Text(plain(summary(cls))), sep="\n")
    if issubclass(cls, Method) and cls.is_control:
        console.print("A control: it only looks like forgetting.", highlight=False)
    for key, value in facts.items():
        console.print(Text(f"{key:<8}{value}"))
    console.print("\nparameters", style="bold")
    for parameter in parameter_details(cls):
        line = Text(parameter.name, style="bold")
        line.append(f" : {parameter.kind}", style="not bold")
        line.append(f", default {parameter.default}" if parameter.default else "", style="not bold")
        console.print(Padding(line, (0, 0, 0, 2)))
        if parameter.description:
            console.print(Padding(Text(parameter.description), (0, 0, 0, 6)))


def registry_of(cls: AnyMethod) -> Registry[Any]:
    """The registry that a method stands in."""
    return METHODS if issubclass(cls, Method) else SERVER_METHODS


def parameter_details(cls: AnyMethod) -> list[ParameterDetails]:
    """Every parameter of a method, its own before those that it inherits.

    A description is the nearest one among the class and its bases that says more than "As in ...", and what such
    sections add to that.
    """
    sections = [(base, _documented(base)) for base in cls.__mro__ if issubclass(base, Method | ServerMethod)]
    fields = {field.name: field for field in dataclasses.fields(cls)}
    own = [name for name in inspect.get_annotations(cls) if name in fields]
    rest = [name for base, _ in sections[1:] for name in inspect.get_annotations(base) if name in fields]
    return [_details(fields[name], [section for _, section in sections]) for name in dict.fromkeys([*own, *rest])]


def plain(text: str) -> str:
    """One paragraph of reStructuredText without its roles and backticks."""
    text = re.sub(r":\w+:`~?(?:[\w.]*\.)?(\w+)`", r"\1", text)
    return " ".join(text.replace("`", "").split())


def _details(field: dataclasses.Field[object], sections: list[Mapping[str, tuple[str, str]]]) -> ParameterDetails:
    kind, descriptions = "", list[str]()
    for section in sections:
        documented_kind, text = section.get(field.name, ("", ""))
        kind = kind or documented_kind
        reference = re.match(r"As in [^.`]*(?:`[^`]*`)?\.(?:\s|$)", text)
        descriptions.append(text if reference is None else text[reference.end() :])
        if text and reference is None:
            break
    # What the base says comes first, then what the classes below it add.
    words = " ".join(plain(text) for text in reversed(descriptions) if text)
    annotation = field.type if isinstance(field.type, str) else inspect.formatannotation(field.type)
    return ParameterDetails(
        name=field.name, kind=plain(kind) or _annotated(annotation), default=_default(field), description=words
    )


def _documented(cls: type) -> dict[str, tuple[str, str]]:
    """Type without its default, and description, of every entry in the Parameters section of a class's docstring."""
    found = dict[str, tuple[str, str]]()
    section = re.search(r"^Parameters\n-+\n(.*?)(?=^\w[^\n]*\n-+\n|\Z)", _docstring(cls), re.DOTALL | re.MULTILINE)
    if section is None:
        return found
    for entry in re.split(r"\n(?=\S)", section[1].strip("\n")):
        header, _, body = entry.partition("\n")
        names, _, kind = header.partition(" : ")
        kind = re.sub(r",\s*(default.*|optional)$", "", kind)
        for name in names.split(","):
            found[name.strip()] = (kind, inspect.cleandoc(body))
    return found


def _docstring(cls: type) -> str:
    written = cls.__dict__.get("__doc__") or ""
    # A dataclass without a docstring has its signature for one.
    return "" if written.startswith(f"{cls.__name__}(") else inspect.cleandoc(written)


def summary(cls: type) -> str:
    """What a class's docstring says before its parameters or attributes."""
    return re.split(r"\n(?:Parameters|Attributes)\n", _docstring(cls), maxsplit=1)[0]


def _annotated(annotation: str) -> str:
    choices = re.fullmatch(r"Literal\[(.*)\]", annotation)
    return "{" + choices[1] + "}" if choices else annotation.replace(" | None", " or none")


def _default(field: dataclasses.Field[object]) -> str:
    default = field.default
    if default is dataclasses.MISSING:
        if field.default_factory is dataclasses.MISSING:
            return ""
        default = field.default_factory()
    match default:
        case None:
            return "none"
        case bool():
            return str(default).lower()
        case float():
            return f"{default:.6g}"
        case str():
            return f'"{default}"'
        case tuple():
            return str(list(default))
    return str(default)
