"""What is believed and shown of one client: its share, figures that fit those of the others, and its faults."""
