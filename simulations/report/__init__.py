"""What a person looks at: the closing table, the figures, live progress."""
