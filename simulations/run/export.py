"""Copies the served model out of a run folder, with a card that says what it has forgotten."""

from __future__ import annotations

from contextlib import closing
from pathlib import Path

from fed_unlearn.checkpoints import CheckpointStore, write_atomically
from fed_unlearn.errors import InvalidModelError
from fed_unlearn.ledger import Ledger

ENDING = ".safetensors"
"""How the name of a model's file ends."""

HUB_NAME = "README.md"
"""Name of the card that the Hugging Face Hub shows."""


def export_model(
    folder: Path, target: Path, ledger_key: Path | None = None, *, card: Path | None = None, labels: bool = True
) -> str:
    """Copy the model that a run accepted last, after checking its digest, and write its card.

    Parameters
    ----------
    folder : Path
        A run folder, or any folder with ``ledger.db`` and ``checkpoints`` of an app's server.
    target : Path
        The safetensors file to write; its name ends in ``.safetensors``. It must not exist, and its folder must.
    ledger_key : Path, optional
        The file of the ledger's key, if it is not beside the ledger.
    card : Path, optional
        The file of the model card. It must not exist, and its folder must. Without it no card is written.
    labels : bool
        Whether the card calls classes as the data does; if not, by their index alone.

    Returns
    -------
    str
        The SHA-256 digest of the file.

    Raises
    ------
    InvalidModelError
        If the folder holds no run or no accepted model, the file's name ends in another way, or a file cannot be
        written. None is written then.
    """
    if not folder.exists():
        raise InvalidModelError(f"{folder}: does not exist; the folder of a run was expected")
    if not (folder / "ledger.db").is_file():
        raise InvalidModelError(f"{folder}: holds no ledger.db; the folder of a run was expected")
    if target.suffix.lower() != ENDING:
        raise InvalidModelError(
            f"{target}: is written in the format safetensors; expected a name that ends in {ENDING}"
        )
    files = [target] if card is None else [target, card]
    _check_free(files)
    with closing(Ledger(folder / "ledger.db", create=False, key=ledger_key)) as ledger:
        digest = ledger.served_model()
        if digest is None:
            raise InvalidModelError(f"{folder}: this run has accepted no model yet")
        store = CheckpointStore(folder / "checkpoints")
        store.load(digest)
        contents = [store.path(digest).read_bytes()]
        if card is not None:
            contents.append(_card(folder, ledger, digest, target, labels=labels).encode())
    written: list[Path] = []
    try:
        for file, content in zip(files, contents, strict=True):
            written.append(file)
            write_atomically(file, content)
    except OSError as error:
        for file in written:
            file.unlink(missing_ok=True)
        raise InvalidModelError(f"{written[-1]}: cannot be written: {error.strerror}; choose another folder") from None
    return digest


def card_beside(target: Path) -> Path:
    """Where the card of a model goes if nobody says it.

    ``README.md`` in a folder that has nothing else yet, as for an upload to the Hugging Face Hub; elsewhere the name of
    the model with the ending ``.md``, so that the models of a folder have a card each.

    Parameters
    ----------
    target : Path
        The model's file.
    """
    folder = target.absolute().parent
    is_empty = folder.is_dir() and not any(folder.iterdir())
    return target.with_name(HUB_NAME) if is_empty else target.with_suffix(".md")


def _check_free(files: list[Path]) -> None:
    for file in files:
        if file.exists():
            raise InvalidModelError(f"{file}: exists already; expected the name of a new file")
        if not file.absolute().parent.is_dir():
            raise InvalidModelError(f"{file}: there is no folder {file.absolute().parent}; make it first")
    if len({file.absolute() for file in files}) < len(files):
        raise InvalidModelError(f"{files[0]}: is to be the model and its card; expected two names")


def _card(folder: Path, ledger: Ledger, digest: str, target: Path, *, labels: bool) -> str:
    from fed_unlearn.simulations.run.card import card_facts, model_card

    return model_card(card_facts(folder, ledger, digest, target.name, labels=labels))
