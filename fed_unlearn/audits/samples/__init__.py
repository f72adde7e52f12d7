"""Membership of single samples, by shadow models."""
