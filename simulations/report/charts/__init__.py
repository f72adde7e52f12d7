"""The charts of a run, each a Vega-Lite specification with a caption and a text for those who cannot see it."""
