"""A receipt as a page that the person who asked can read."""

from __future__ import annotations

import base64
from importlib.resources import files

from fed_unlearn.receipts import wording
from fed_unlearn.receipts.signing import SignedReceipt

_MOST_OTHERS = 6
"""Greatest number of other figures on the page; all of them are in the receipt's file."""


def receipt_page(signed: SignedReceipt) -> str:
    """A receipt as one page of HTML, which loads nothing and prints on one sheet of A4.

    The page itself is not signed. It carries the signed file, and says how to check that.

    Parameters
    ----------
    signed : SignedReceipt
        The receipt, as :func:`~fed_unlearn.receipts.issuing.issue` makes it.
    """
    from jinja2 import Environment, StrictUndefined

    receipt = signed.receipt
    others = wording.other_figures(receipt)
    template = files(__package__).joinpath("page.html.jinja").read_text(encoding="utf-8")
    page = Environment(autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True)
    return page.from_string(template).render(
        receipt=receipt,
        signature=signed.signature,
        file_name=receipt.file_name,
        document=base64.b64encode(signed.content).decode(),
        heading=wording.HEADINGS[receipt.status],
        asked_for=wording.what_was_asked(receipt),
        done=wording.what_was_done(receipt),
        is_changed=wording.is_changed(receipt),
        mislabelling=wording.MISLABELLING,
        why=wording.why(receipt),
        known=wording.how_it_is_known(receipt),
        asked=wording.date_and_time(receipt.asked),
        ended=wording.date_and_time(receipt.ended),
        issued=wording.date_and_time(receipt.issued),
        rows=wording.rows_of(receipt),
        after="after" if receipt.status == "committed" else "last try",
        others=others[:_MOST_OTHERS],
        others_left_out=len(others[_MOST_OTHERS:]),
    )
