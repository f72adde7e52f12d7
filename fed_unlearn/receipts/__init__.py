"""Signed receipts of requests that ended, which anybody can check with the public key."""
