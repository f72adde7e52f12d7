"""The reasons of requests that the code can write, read out of the code itself."""

from __future__ import annotations

import ast
from collections.abc import Iterable, Iterator
from itertools import product
from pathlib import Path

ROOT = Path(__file__).parents[2]
ROOMS = ("fed_unlearn", "strategies")
SAYING = (
    "fed_unlearn/gate/failures.py",
    "fed_unlearn/gate/gate.py",
    "strategies/serving/",
    "strategies/server_methods/",
)
"""Where what a function says in words may become the reason of a request."""

FAILURES = frozenset({
    "AggregationFailedError", "AttemptFailedError", "CommitFailedError", "MethodFailedError", "RequestRejectedError",
})  # fmt: skip
"""Errors whose text becomes a reason, as does that of all errors below them."""

VALUE = "\0"
"""Stands in a text for a value of which nothing is known; a number that is formatted is 0.7."""

_SAID = ("str", "str | None", "tuple[str, ...]", "list[str]", "Iterator[str]")


def written_reasons(root: Path = ROOT) -> dict[str, str]:
    """The texts, and the files that they stand in. Texts that are values alone are left out."""
    trees = {path: ast.parse(path.read_text()) for room in ROOMS for path in sorted((root / room).rglob("*.py"))}
    failures, found = with_those_below(FAILURES, list(trees.values())), dict[str, str]()
    for path, tree in trees.items():
        place = path.relative_to(root).as_posix()
        for function in (node for node in ast.walk(tree) if isinstance(node, ast.FunctionDef)):
            names = {**_assigned(tree.body), **_assigned(ast.walk(function))}
            said = [text for error in _raised(function, failures) for text in _texts(error.args[0], names)]
            if place.startswith(SAYING) and function.returns is not None and _says(ast.unparse(function.returns)):
                said += [text for value in _said_by(function) for text in _texts(value, names)]
            found |= {text: place for text in said if any(map(str.isalpha, text)) and " " in text.strip()}
    return found


def with_those_below(names: frozenset[str], trees: list[ast.Module]) -> frozenset[str]:
    """Names of classes, and of all classes below them."""
    bases = {
        node.name: {base.id for base in node.bases if isinstance(base, ast.Name)}
        for tree in trees
        for node in ast.walk(tree)
        if isinstance(node, ast.ClassDef)
    }
    while new := {name for name, above in bases.items() if above & names} - names:
        names |= new
    return names


def _says(annotation: str) -> bool:
    return annotation in _SAID or "Decision" in annotation or "PlacedRequest" in annotation


def _assigned(nodes: Iterable[ast.AST]) -> dict[str, list[ast.expr]]:
    """What variables are set to."""
    found: dict[str, list[ast.expr]] = {}
    for node in nodes:
        for target in node.targets if isinstance(node, ast.Assign) else ():
            if isinstance(target, ast.Name):
                found.setdefault(target.id, []).append(node.value)
    return found


def _raised(function: ast.FunctionDef, failures: frozenset[str]) -> Iterator[ast.Call]:
    for node in ast.walk(function):
        error = node.exc if isinstance(node, ast.Raise) else None
        if isinstance(error, ast.Call) and isinstance(error.func, ast.Name) and error.func.id in failures:
            yield error


def _said_by(function: ast.FunctionDef) -> Iterator[ast.expr]:
    """What a function returns, yields, and appends to what it returns."""
    for node in ast.walk(function):
        if isinstance(node, ast.Return | ast.Yield | ast.YieldFrom | ast.AugAssign) and node.value is not None:
            yield node.value
        elif isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute):
            yield from node.args if node.func.attr in ("append", "extend") else ()


def _texts(node: ast.expr, names: dict[str, list[ast.expr]]) -> list[str]:
    """All texts that an expression can be, as far as they stand in the function."""
    match node:
        case ast.Constant(value=str(text)):
            return [text]
        case ast.JoinedStr(values=parts):
            return ["".join(words) for words in product(*(_texts(part, names) or [VALUE] for part in parts))]
        case ast.FormattedValue(value=value, format_spec=None):
            return _texts(value, names)
        case ast.FormattedValue():
            return ["0.7"]
        case ast.Name(id=name) if name in names:
            others = {known: values for known, values in names.items() if known != name}
            return [text for value in names[name] for text in _texts(value, others)]
        case ast.IfExp(body=one, orelse=other):
            return _texts(one, names) + _texts(other, names)
        case ast.BoolOp(values=parts) | ast.Tuple(elts=parts) | ast.List(elts=parts):
            return [text for part in parts for text in _texts(part, names)]
        case ast.Starred(value=value) | ast.GeneratorExp(elt=value) | ast.ListComp(elt=value):
            return _texts(value, names)
        case ast.DictComp(value=value):
            return _texts(value, names)
        case ast.BinOp(left=left, right=right):
            return [
                "".join(words) for words in product(_texts(left, names) or [VALUE], _texts(right, names) or [VALUE])
            ]
        case ast.Call(args=args, keywords=keywords):
            return [text for part in (*args, *(item.value for item in keywords)) for text in _texts(part, names)]
    return []
