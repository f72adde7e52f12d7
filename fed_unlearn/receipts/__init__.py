"""Signed receipts of requests that ended, which anybody can check with the public key."""

from fed_unlearn.receipts.document import Figure, Receipt, Signature
from fed_unlearn.receipts.issuing import issue, receipt_file_name, receipt_of
from fed_unlearn.receipts.keys import default_receipt_key, public_key_file, public_pem, read_public_key, signing_key
from fed_unlearn.receipts.ledger_check import LedgerCheck, check_in_ledger
from fed_unlearn.receipts.page import receipt_page
from fed_unlearn.receipts.signing import RefusedReceiptError, SignedReceipt, read_receipt, sign, verify

__all__ = [
    "Figure",
    "LedgerCheck",
    "Receipt",
    "RefusedReceiptError",
    "Signature",
    "SignedReceipt",
    "check_in_ledger",
    "default_receipt_key",
    "issue",
    "public_key_file",
    "public_pem",
    "read_public_key",
    "read_receipt",
    "receipt_file_name",
    "receipt_of",
    "receipt_page",
    "sign",
    "signing_key",
    "verify",
]
