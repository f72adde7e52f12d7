"""Whether edits of a ledger are found: ``python -m tests.trials.tamper``, from the repository's root.

Writes a ledger in which everything happened once, makes each edit on a copy of it, and verifies the copy. Prints what was
found. An edit that needs the key, or puts a whole older file back, must be found by the head of the events.
"""

import argparse
import shutil
import sys
import tempfile
from contextlib import closing
from pathlib import Path

from fed_unlearn.errors import FedUnlearnError
from fed_unlearn.ledger import Ledger

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "support"))

from edit_kinds import EDITS
from ledger_edits import Edit, write_ledger


def found(edit: Edit, base: Path, folder: Path, head: str) -> str | None:
    """Make an edit on a copy of a ledger; what its verification says, or the refusal to open it. None if nothing.

    Parameters
    ----------
    edit : Edit
        The edit.
    base : Path
        Folder of the ledger, its key and its older copy.
    folder : Path
        Folder of the copy. It must not exist.
    head : str
        Head of the ledger, as somebody keeps it elsewhere.
    """
    shutil.copytree(base, folder)
    path = folder / "ledger.db"
    edit.change(path)
    try:
        with closing(Ledger(path, create=False)) as ledger:
            problem = ledger.verify().problem
            if edit.by_head and problem is None:
                problem = ledger.verify(head).problem
            return problem
    except FedUnlearnError as error:
        return str(error)


def main() -> None:
    """Run the trial; exit code 1 if an edit was not found."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", default="", help="only edits whose names hold this text")
    wanted = parser.parse_args().only
    edits, missed = [edit for edit in EDITS if wanted in edit.name], 0
    with tempfile.TemporaryDirectory() as place:
        base = Path(place) / "base"
        head = write_ledger(base / "ledger.db")
        for number, edit in enumerate(edits):
            problem = found(edit, base, Path(place) / str(number), head)
            missed += problem is None
            print(f"{edit.name:60} {'NOT FOUND' if problem is None else problem.replace(place, '')[:110]}")
    print(
        f"{len(edits) - missed} of {len(edits)} edits found, {sum(edit.by_head for edit in edits)} of them by the head"
    )
    sys.exit(1 if missed or not edits else 0)


if __name__ == "__main__":
    main()
