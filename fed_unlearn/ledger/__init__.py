"""The server's durable record of forget requests, clients and accepted models."""

from fed_unlearn.ledger.chain import Fact, LedgerEvent, Verification
from fed_unlearn.ledger.entries import LedgerEntry
from fed_unlearn.ledger.ledger import Ledger

__all__ = ["Fact", "Ledger", "LedgerEntry", "LedgerEvent", "Verification"]
