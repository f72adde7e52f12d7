"""Seeds derived from names, so that nothing depends on the order of arrival or on global generators."""

from __future__ import annotations

import hashlib
import random
from collections.abc import Iterator
from contextlib import contextmanager

import numpy as np
import torch


def derive_seed(*parts: str | int) -> int:
    """Derive a seed from the names of its purpose.

    Parameters
    ----------
    *parts : str or int
        Parts of the name of the purpose, for instance ``(seed, "train", round, client)``. The same parts give the same
        seed on every machine. Parts such as ``("a", "bc")`` and ``("ab", "c")`` give different seeds.

    Returns
    -------
    int
        The seed, in [0, 2**63).
    """
    text = "\x1f".join(f"{type(part).__name__}:{part}".replace("\x1f", "\x1f\x1f") for part in parts)
    return int.from_bytes(hashlib.sha256(text.encode()).digest()[:8], "big") >> 1


def seeded_generator(*parts: str | int) -> torch.Generator:
    """A generator on the CPU, seeded with :func:`derive_seed` of the same parts."""
    return torch.Generator().manual_seed(derive_seed(*parts))


@contextmanager
def isolated_random(seed: int) -> Iterator[None]:
    """Seed torch's global generators, which initialisers and dropout use, and restore their states at the end.

    This concerns the CPU and, if CUDA is in use, all CUDA devices.
    """
    on_cuda = torch.cuda.is_initialized()
    with torch.random.fork_rng(devices=range(torch.cuda.device_count()) if on_cuda else []):
        torch.default_generator.manual_seed(seed)  # torch.manual_seed takes 3 ms for devices that are not in use
        if on_cuda:
            torch.cuda.manual_seed_all(seed)
        yield


@contextmanager
def isolated_numpy(seed: int) -> Iterator[None]:
    """Seed NumPy's global generator and restore its state at the end.

    Parameters
    ----------
    seed : int
        The seed, in [0, 2**64).
    """
    state = np.random.get_state()
    np.random.seed([seed & 0xFFFFFFFF, seed >> 32])
    try:
        yield
    finally:
        np.random.set_state(state)


@contextmanager
def isolated_globals(seed: int) -> Iterator[None]:
    """Seed the global generators of torch, NumPy and Python, for foreign code, and restore their states at the end."""
    state = random.getstate()
    with isolated_random(seed), isolated_numpy(seed):
        random.seed(seed)
        try:
            yield
        finally:
            random.setstate(state)


def seed_globals(seed: int) -> None:
    """Seed the global generators of torch, NumPy and Python. Call it inside of :func:`isolated_globals` only.

    Parameters
    ----------
    seed : int
        The seed, in [0, 2**63).
    """
    torch.default_generator.manual_seed(seed)
    np.random.seed([seed & 0xFFFFFFFF, seed >> 32])
    random.seed(seed)
