"""Seeds derived by name, so that nothing depends on order of arrival or on global generators."""

from __future__ import annotations

import hashlib
import random
from collections.abc import Iterator
from contextlib import contextmanager

import numpy as np
import torch


def derive_seed(*parts: str | int) -> int:
    """Derive a seed from the names of what it is for.

    Parameters
    ----------
    *parts : str or int
        For instance ``(seed, "train", round, client)``. The same parts give the same seed on
        every machine; ``("a", "bc")`` and ``("ab", "c")`` give different ones.

    Returns
    -------
    int
        In [0, 2**63).
    """
    text = "\x1f".join(f"{type(part).__name__}:{part}".replace("\x1f", "\x1f\x1f") for part in parts)
    return int.from_bytes(hashlib.sha256(text.encode()).digest()[:8], "big") >> 1


def seeded_generator(*parts: str | int) -> torch.Generator:
    """CPU generator seeded by :func:`derive_seed` of the same parts."""
    return torch.Generator().manual_seed(derive_seed(*parts))


@contextmanager
def isolated_random(seed: int) -> Iterator[None]:
    """Run code that draws from torch's global generators (initialisers, dropout) reproducibly.

    The global state is as before afterwards, on the CPU and on every CUDA device in use.
    """
    on_cuda = torch.cuda.is_initialized()
    with torch.random.fork_rng(devices=range(torch.cuda.device_count()) if on_cuda else []):
        torch.default_generator.manual_seed(seed)  # torch.manual_seed costs 3 ms for devices not in use
        if on_cuda:
            torch.cuda.manual_seed_all(seed)
        yield


@contextmanager
def isolated_numpy(seed: int) -> Iterator[None]:
    """Run code that draws from NumPy's global generator reproducibly; the generator is as before afterwards.

    Parameters
    ----------
    seed : int
        In [0, 2**64).
    """
    state = np.random.get_state()
    np.random.seed([seed & 0xFFFFFFFF, seed >> 32])
    try:
        yield
    finally:
        np.random.set_state(state)


@contextmanager
def isolated_globals(seed: int) -> Iterator[None]:
    """Run code of others, which may draw from any global generator: torch's, NumPy's or Python's own; all restored."""
    state = random.getstate()
    with isolated_random(seed), isolated_numpy(seed):
        random.seed(seed)
        try:
            yield
        finally:
            random.setstate(state)
