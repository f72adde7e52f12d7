"""A real federation: nodes on their own machines, a server that stays, and everything on one machine for a trial."""
