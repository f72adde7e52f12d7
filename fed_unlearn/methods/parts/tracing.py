"""A model's computation as a graph, the points that divide it in two, and both parts as modules.

A point is a *cut* if everything behind it depends on everything before it through one tensor alone, with one row for
each sample. Residual connections, shapes that are read before and used behind, and layers or tensors that both sides
use leave no cut between them.
"""

from __future__ import annotations

import inspect
import operator
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, fx, nn
from torch.nn import functional

from fed_unlearn.logits import evaluation_mode
from fed_unlearn.model_copies import copied

_MULTIPLYING = frozenset(
    {
        functional.linear,
        functional.embedding,
        functional.conv1d,
        functional.conv2d,
        functional.conv3d,
        torch.conv1d,
        torch.conv2d,
        torch.conv3d,
        torch.matmul,
        torch.mm,
        torch.bmm,
        torch.einsum,
        operator.matmul,
    }
)
"""Functions that make a layer of a parameter that no module of torch's own holds."""


@dataclass(frozen=True)
class Segment:
    """What lies between a cut and the next.

    Attributes
    ----------
    cut : fx.Node
        Node whose value is all that the segment reads.
    layers : tuple of str
        Names of the modules and of the single parameters that it uses, in order.
    weighted : str or None
        The first of them that multiplies its inputs by a weight of two or more dimensions.
    """

    cut: fx.Node
    layers: tuple[str, ...]
    weighted: str | None


@dataclass(frozen=True)
class Traced:
    """A model's graph, divided at its cuts.

    Attributes
    ----------
    graph : fx.Graph
        Graph of the model in evaluation mode.
    segments : tuple of Segment
        Segments from input to output.
    """

    graph: fx.Graph
    segments: tuple[Segment, ...]


def traced(model: nn.Module, inputs: Tensor) -> Traced | None:
    """Trace a model symbolically. None if that fails, or the graph gives other logits than the model.

    Parameters
    ----------
    model : nn.Module
        The model, without wrappers. It stays as it is.
    inputs : Tensor of shape (n, ...)
        Inputs of at least one sample, as the model reads them.
    """
    try:
        twin = copied(model).eval()
        graph = _OpenTracer().trace(twin, concrete_args=_defaults(model))
        _drop_other_inputs(graph)
        cuts = _batched(model, graph, _cuts(graph), inputs)
    except Exception:  # a user's forward may raise anything where it gets no tensors
        return None
    return None if cuts is None else Traced(graph, tuple(_segments(model, graph, cuts)))


def is_whole(module: nn.Module) -> bool:
    """Whether a module is taken as one layer: one of torch's own that is no list of others."""
    of_torch = type(module).__module__.startswith("torch.nn")
    return of_torch and not isinstance(module, nn.Sequential | nn.ModuleList | nn.ModuleDict | nn.TransformerEncoder)


def below(model: nn.Module, graph: fx.Graph, cut: fx.Node) -> fx.GraphModule:
    """The part of a graph up to a cut, from the model's inputs to the cut's value. It shares the model's layers."""
    part, copies = fx.Graph(), dict[fx.Node, fx.Node]()
    for node in graph.nodes:
        copies[node] = part.node_copy(node, lambda used: copies[used])
        if node is cut:
            break
    part.output(copies[cut])
    return _module(model, part)


def above(model: nn.Module, graph: fx.Graph, cut: fx.Node) -> fx.GraphModule:
    """The part of a graph behind a cut, from the cut's value to the logits. It shares the model's layers."""
    part, constant = fx.Graph(), _constants(graph)
    copies = {cut: part.placeholder("activations")}
    is_behind = False
    for node in graph.nodes:
        if (is_behind or node in constant) and node is not cut:
            copies[node] = part.node_copy(node, lambda used: copies[used])
        is_behind = is_behind or node is cut
    return _module(model, part)


def _module(model: nn.Module, graph: fx.Graph) -> fx.GraphModule:
    part = fx.GraphModule(model, graph)
    part.graph.eliminate_dead_code()
    part.delete_all_unused_submodules()
    part.recompile()
    return part


class _OpenTracer(fx.Tracer):
    """A tracer that looks into :class:`nn.TransformerEncoder`, whose own forward branches on shapes."""

    def call_module(self, m: nn.Module, forward: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        """Go through the layers of an encoder that gets neither a mask nor padding, as it does itself."""
        if type(m) is nn.TransformerEncoder and len(args) == 1 and not any(map(bool, kwargs.values())):
            [hidden] = args
            for layer in m.layers:
                hidden = layer(hidden)
            return hidden if m.norm is None else m.norm(hidden)
        return super().call_module(m, forward, args, kwargs)


def _defaults(model: nn.Module) -> dict[str, object]:
    """The arguments beside the first that a model's forward takes, at their defaults."""
    others = list(inspect.signature(model.forward).parameters.values())[1:]
    return {each.name: each.default for each in others if each.default is not each.empty}


def _drop_other_inputs(graph: fx.Graph) -> None:
    """Take arguments at their defaults, and what checks them, out of the graph."""
    _, *others = [node for node in graph.nodes if node.op == "placeholder"]
    dropped = set(others)
    for node in graph.nodes:
        if any(used in dropped for used in node.all_input_nodes):
            dropped.add(node)
    for node in reversed(list(graph.nodes)):
        if node in dropped:
            graph.erase_node(node)  # raises if something uses it


def _constants(graph: fx.Graph) -> frozenset[fx.Node]:
    """Nodes that depend on parameters and buffers alone."""
    found = set[fx.Node]()
    for node in graph.nodes:
        if node.op == "get_attr" or (
            node.op == "call_function" and node.all_input_nodes and found.issuperset(node.all_input_nodes)
        ):
            found.add(node)
    return frozenset(found)


def _cuts(graph: fx.Graph) -> list[fx.Node]:
    """Nodes that no use of an earlier one passes by."""
    nodes, constant = list(graph.nodes), _constants(graph)
    place = {node: index for index, node in enumerate(nodes)}
    found, reach = [], 0
    for index, node in enumerate(nodes[:-1]):
        if node in constant:
            continue
        if reach <= index:
            found.append(node)
        reach = max([reach, *(place[user] for user in node.users)])
    return found


def _batched(model: nn.Module, graph: fx.Graph, cuts: list[fx.Node], inputs: Tensor) -> list[fx.Node] | None:
    """The cuts whose value has one row for each sample. None if the graph gives other logits than the model."""
    runner = _Rows(fx.GraphModule(model, graph), cuts)
    for count in (2, 3):
        rows = torch.cat([inputs[:1]] * count)
        with evaluation_mode(model), torch.no_grad():
            found, expected = runner.run(rows), model(rows)
        if not torch.allclose(found.float(), expected.float(), rtol=1e-3, atol=1e-4, equal_nan=True):
            return None
        cuts = [cut for cut in cuts if runner.rows.get(cut) == count]
    return cuts


class _Rows(fx.Interpreter):
    """Runs a graph and notes how many rows the values of some nodes have."""

    def __init__(self, module: fx.GraphModule, watched: Sequence[fx.Node]) -> None:
        super().__init__(module)
        self.rows: dict[fx.Node, int] = {}
        by_name = {node.name: node for node in watched}
        self._watched = {node: by_name[node.name] for node in module.graph.nodes if node.name in by_name}

    def run_node(self, n: fx.Node) -> Any:
        """As the base does, with a note."""
        value = super().run_node(n)
        if n in self._watched and isinstance(value, Tensor) and value.ndim:
            self.rows[self._watched[n]] = len(value)
        return value


def _segments(model: nn.Module, graph: fx.Graph, cuts: Sequence[fx.Node]) -> Iterator[Segment]:
    constant, starts = _constants(graph), set(cuts)
    modules, parameters = dict(model.named_modules()), dict(model.named_parameters(remove_duplicate=False))
    cut: fx.Node | None = None
    layers, weighted = dict[str, None](), None
    for node in graph.nodes:
        if node not in constant and node.op not in ("placeholder", "output"):
            used = [name for name in _attributes(node, constant) if name in parameters]
            if node.op == "call_module" and any(True for _ in modules[node.target].parameters()):
                layers[node.target] = None
                multiplies = any(part.ndim > 1 for part in modules[node.target].parameters())
                weighted = weighted or (node.target if multiplies else None)
            layers |= dict.fromkeys(used)
            if node.op == "call_function" and node.target in _MULTIPLYING:
                weighted = weighted or next((name for name in used if parameters[name].ndim > 1), None)
        if node in starts or node.op == "output":
            if cut is not None:
                yield Segment(cut, tuple(layers), weighted)
            cut, layers, weighted = node, {}, None


def _attributes(node: fx.Node, constant: frozenset[fx.Node]) -> Mapping[str, None]:
    """Names of the parameters and buffers that a node reads itself, or by way of constants."""
    found, open_nodes = dict[str, None](), [used for used in node.all_input_nodes if used in constant]
    while open_nodes:
        used = open_nodes.pop()
        if used.op == "get_attr":
            found[str(used.target)] = None
        open_nodes += used.all_input_nodes
    return found
