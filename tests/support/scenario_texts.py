"""Scenario files as tests write them."""

MINIMAL = """
name = "small"
[data]
dataset = "digits"
[clients]
count = 3
[model]
name = "small-cnn"
[[timeline]]
train = { rounds = 2 }
[[timeline]]
forget = { class = 3 }
"""
