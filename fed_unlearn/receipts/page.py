"""A receipt as a page that the person who asked can read."""

from __future__ import annotations

from html import escape

from fed_unlearn.receipts.signing import SignedReceipt


def receipt_page(signed: SignedReceipt) -> str:
    """A receipt as one page of HTML, which loads nothing and prints on one sheet of A4.

    Parameters
    ----------
    signed : SignedReceipt
    """
    return f"<!doctype html><meta charset=utf-8><title>Receipt</title><pre>{escape(signed.content.decode())}</pre>"
