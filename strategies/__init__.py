"""What runs in a Flower ServerApp: strategies that make a federation forget."""
