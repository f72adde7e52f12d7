"""``python -m fed_unlearn.simulations.cli`` is the command ``fed-unlearn``."""

from fed_unlearn.simulations.cli import main

main()
