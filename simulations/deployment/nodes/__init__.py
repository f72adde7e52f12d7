"""A node: a SuperNode, a warm executor, and what keeps both running."""
