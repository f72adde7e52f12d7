"""Works out which samples each request of a stream forgets."""

from __future__ import annotations

import copy
from collections.abc import Collection, Mapping, Sequence

import torch
from torch import Tensor

from fed_unlearn.avalanche.streams.arrivals import Arrivals
from fed_unlearn.avalanche.streams.claims import Claims
from fed_unlearn.data.draws import drawn
from fed_unlearn.errors import InvalidDataError, InvalidRequestError
from fed_unlearn.requests import ClassScope, ClientScope, ForgetRequest, SampleScope


class ForgetSets:
    """The forget sets of a stream of requests. Each request finds the samples that earlier ones have left.

    Parameters
    ----------
    arrivals : Arrivals
        The samples of the training stream.
    clients : mapping of str to sequence of str, optional
        Ids of each client's samples, in the client's order. Without it a single client holds all samples in their
        original order, and requests may call it by any name.
    seed : int
        Seed of the samples that are drawn.

    Raises
    ------
    InvalidDataError
        If a client holds a sample that is unknown or that another client holds.
    """

    def __init__(self, arrivals: Arrivals, clients: Mapping[str, Sequence[str]] | None, seed: int) -> None:
        self.arrivals = arrivals
        self._seed = seed
        self._position = {name: position for position, name in enumerate(arrivals.ids)}
        self._held = None if clients is None else self._positions_of(clients)
        self._sequence = self._in_order()
        self._claims = Claims(len(arrivals.ids))

    def members(self, request: ForgetRequest) -> frozenset[str]:
        """Return all samples of the client of a client request, later ones included; none for other scopes."""
        if not isinstance(request.scope, ClientScope) or self._held is None:
            return frozenset()
        return frozenset(self.arrivals.ids[position] for position in self._held[request.scope.client].tolist())

    def extend(self, arrivals: Arrivals) -> None:
        """Add the samples of an experience that nobody announced. No client holds them by name."""
        self.arrivals = self.arrivals.followed_by(arrivals)
        self._position = {name: position for position, name in enumerate(self.arrivals.ids)}
        self._sequence = self._in_order()
        self._claims.extend(len(arrivals.ids))

    def forked(self) -> ForgetSets:
        """Return forget sets that begin with the requests of these and do not share later ones."""
        fork = copy.copy(self)
        fork._claims = self._claims.forked()
        return fork

    def take_over(self, request_id: str, other: ForgetSets, *, committed: bool | None = None) -> None:
        """Note a request of other forget sets over the same samples; see :meth:`Claims.take_over`."""
        self._claims.take_over(request_id, other._claims, committed=committed)

    def awaited(self, request: ForgetRequest, arrived: Tensor, *, announced: bool) -> bool:
        """Return whether a request must wait, since samples that it names have not arrived.

        A request for classes or a client waits until one sample arrives, and one for a number of samples until one that
        may be drawn does. A request for samples by id waits until all of them have arrived. A request that names all
        that has arrived waits for something that can be retained.

        Parameters
        ----------
        request : ForgetRequest
            The request.
        arrived : Tensor of shape (n,), bool
            Which samples have arrived.
        announced : bool
            Whether the arrivals are all that will come. Otherwise a request waits for what is unknown, too.
        """
        scope = request.scope
        if isinstance(scope, SampleScope) and scope.sample_ids:
            places = [self._position.get(name) for name in scope.sample_ids]
            if any(not announced if place is None else not arrived[place] for place in places):
                return True
            named = self._mask([place for place in places if place is not None])
            return self._awaits_others(named, arrived, announced=announced)
        if isinstance(scope, ClassScope):
            named = self.arrivals.of_classes(scope)
        elif scope.client not in self._held if self._held is not None else isinstance(scope, ClientScope):
            return False  # it is refused: nothing says what the client holds
        else:
            named = self._mask(self._of_client(request, scope.client))
            if isinstance(scope, SampleScope) and scope.of_class is not None:
                named &= self.arrivals.labels == scope.of_class
        if not bool((named & arrived).any()):
            return bool(named.any()) or not announced
        return not isinstance(scope, SampleScope) and self._awaits_others(named, arrived, announced=announced)

    def next(
        self, request: ForgetRequest, after: int, *, arrived: Tensor | None = None, commits: bool = True
    ) -> Tensor:
        """Return D_f of the next request as positions among the arrivals, in the order of clients and their samples.

        Parameters and errors are those of :meth:`~fed_unlearn.avalanche.streams.GrowingForgetStream.add`. Until
        :meth:`commit` the samples of a request are not drawn for others, but are still among those of a class or client
        that is asked for. A client's store does the same.

        Returns
        -------
        Tensor of shape (m,), int64
            Positions of the samples of D_f, at least one.
        """
        if arrived is None:
            arrived = self.arrivals.after(after)
        named = self._named(request, after, arrived)
        by_id = isinstance(request.scope, SampleScope)
        claimed = self._claims.claimed
        wanted = named & arrived & ~(claimed if by_id else self._claims.forgotten)
        if not wanted.any():
            raise InvalidRequestError(
                f"request {request.id} has nothing to forget after experience {after}: what it names has not arrived"
                " yet, or is forgotten already"
            )
        if not (arrived & ~claimed & ~named).any():
            raise InvalidRequestError(
                f"request {request.id} leaves none of the {int(arrived.sum())} samples that have arrived after"
                f" experience {after}; expected a request that leaves something to remember"
            )
        self._claims.add(request.id, named)
        if commits:
            self._claims.commit(request.id)
        return self._sequence[wanted[self._sequence]]

    def commit(self, request_id: str) -> None:
        """Note that a request was committed. Later requests do not forget its samples again."""
        self._claims.commit(request_id)

    def release(self, request_id: str) -> None:
        """Note that a request was taken back, or was not committed after all. Later ones may ask for its samples."""
        self._claims.release(request_id)

    def _mask(self, positions: Tensor | list[int]) -> Tensor:
        mask = torch.zeros(len(self.arrivals.ids), dtype=torch.bool)
        mask[positions] = True
        return mask

    def _awaits_others(self, named: Tensor, arrived: Tensor, *, announced: bool) -> bool:
        """Return whether nothing that has arrived would be left, and something that would be left is to come."""
        others = ~self._claims.claimed & ~named
        return not bool((others & arrived).any()) and (not announced or bool((others & ~arrived).any()))

    def _named(self, request: ForgetRequest, after: int, arrived: Tensor) -> Tensor:
        """Return a mask of the samples that a request asks for, arrived or not."""
        match request.scope:
            case ClassScope(classes=classes) as scope:
                known = set(self.arrivals.labels.unique().tolist())
                unknown = [item for item in classes if item not in known]
                if unknown:
                    raise InvalidRequestError(
                        f"request {request.id} asks for {_few('class', 'classes', unknown)}, of which the training"
                        f" stream has no sample; it has {_few('class', 'classes', sorted(known), shown=20)}"
                    )
                self._require_pairs(request, scope)
                return self.arrivals.of_classes(scope)
            case ClientScope(client=client):
                if self._held is None:
                    raise InvalidRequestError(
                        f"request {request.id} asks for client {client}, and nothing says which samples are its; give"
                        " clients= to forget_benchmark"
                    )
                positions = self._of_client(request, client)
            case SampleScope(queued=queued) if queued:
                raise InvalidRequestError(
                    f"request {request.id} names samples that a client's owner queued at its node; there is none here"
                )
            case SampleScope(client=client, sample_ids=()) as scope:
                held = self._of_client(request, client)
                available = held[arrived[held] & ~self._claims.claimed[held]]
                positions = available[
                    drawn(
                        self.arrivals.labels[available],
                        scope.count,
                        request_id=request.id,
                        client=client,
                        seed=self._seed,
                        of_class=scope.of_class,
                    )
                ]
            case SampleScope(client=client, sample_ids=names):
                positions = self._by_name(request, client, names, after, arrived)
        return self._mask(positions)

    def _require_pairs(self, request: ForgetRequest, scope: ClassScope) -> None:
        tasks = self.arrivals.tasks
        if scope.pairs and tasks is None:
            raise InvalidRequestError(
                f"request {request.id} asks for class {scope.pairs[0][1]} of task {scope.pairs[0][0]}, and the samples"
                " have no task labels; ask for the class alone, or build the benchmark with task labels"
            )
        for task, label in scope.pairs:
            if not self.arrivals.of_classes(ClassScope(pairs=((task, label),))).any():
                raise InvalidRequestError(
                    f"request {request.id} asks for class {label} of task {task}, of which the training stream has no"
                    f" sample; its tasks are {[] if tasks is None else tasks.unique().tolist()}"
                )

    def _by_name(
        self, request: ForgetRequest, client: str, names: Sequence[str], after: int, arrived: Tensor
    ) -> Tensor:
        held = set(self._of_client(request, client).tolist())
        found = {name: self._position[name] for name in names if name in self._position}
        claimed = self._claims.claimed
        wrong = {
            f"not among the samples of client {client}": [name for name in names if found.get(name) not in held],
            f"not there yet after experience {after}": [name for name in found if not arrived[found[name]]],
            "forgotten already": [name for name in found if claimed[found[name]]],
        }
        for reason, which in wrong.items():
            if which:
                verb = "is" if len(which) == 1 else "are"
                raise InvalidRequestError(
                    f"request {request.id} asks for {_few('sample', 'samples', which)}, which {verb} {reason}; expected"
                    " ids of the client's samples that have arrived and are not forgotten"
                )
        return torch.tensor([found[name] for name in names])

    def _of_client(self, request: ForgetRequest, client: str) -> Tensor:
        if self._held is None:
            return self._sequence
        if client not in self._held:
            raise InvalidRequestError(
                f"request {request.id} asks for client {client}, who is unknown; known are"
                f" {_few('client', 'clients', list(self._held), shown=20)}"
            )
        return self._held[client]

    def _in_order(self) -> Tensor:
        """Return all positions: those of clients in the clients' order, then the others in their original order."""
        order = self.arrivals.originals.argsort(stable=True)
        if not self._held:
            return order
        owned = torch.cat(list(self._held.values()))
        free = torch.ones(len(order), dtype=torch.bool)
        free[owned] = False
        return torch.cat([owned, order[free[order]]])

    def _positions_of(self, clients: Mapping[str, Sequence[str]]) -> dict[str, Tensor]:
        holder: dict[str, str] = {}
        for client, given in clients.items():
            names = [str(name) for name in given]
            unknown = [name for name in names if name not in self._position]
            if unknown:
                raise InvalidDataError(
                    f"clients: client {client} was given {_few('sample', 'samples', unknown)}, which the training"
                    " stream does not have"
                )
            shared = [name for name in names if name in holder]
            if shared or len(set(names)) < len(names):
                which = _few("sample", "samples", shared) if shared else "a sample twice"
                where = f", which client {holder[shared[0]]} holds too" if shared else ""
                raise InvalidDataError(
                    f"clients: client {client} was given {which}{where}; every sample must have one holder at most"
                )
            holder.update(dict.fromkeys(names, str(client)))
        return {
            str(client): torch.tensor([self._position[name] for name in names], dtype=torch.int64)
            for client, names in clients.items()
        }


def _few(one: str, many: str, items: Collection[object], shown: int = 3) -> str:
    text = ", ".join(str(item) for item in list(items)[:shown])
    more = f" and {len(items) - shown} more" if len(items) > shown else ""
    return f"{one if len(items) == 1 else many} {text}{more}"
