"""A server that stays: it sleeps until the ledger, a node or the clock has something, and serves it."""
