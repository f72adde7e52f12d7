from dataclasses import dataclass, replace

from fed_unlearn.strategies.server_methods import MethodState, ServerMethod
from fed_unlearn.strategies.server_methods.parts import averaged, train_staying


@dataclass(frozen=True, kw_only=True)
class TrainOn(ServerMethod):
    """Ordinary rounds of the clients that stay: a baseline, which forgets only what wears off."""

    paper, scopes, needs = "ours, 2026", ("client",), "retain"

    rounds: int = 5

    def begin(self, work):
        return MethodState(step=0, arrays=work.served)

    def advance(self, work, state):
        arrays = averaged(train_staying(work, state.arrays, state.step))
        return state.followed_by(arrays, done=state.step + 1 >= self.rounds)

    def stronger(self):
        return replace(self, rounds=2 * self.rounds)
