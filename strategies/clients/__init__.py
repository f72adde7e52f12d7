"""The clients of a run: who they are, what they are asked, and what they answer."""
