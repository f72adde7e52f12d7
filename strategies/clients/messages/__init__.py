"""How messages reach clients over the runtime's Grid, and how their answers are matched."""
