"""Benchmarks with a forget stream: which samples must be forgotten, and after which training experience."""

from fed_unlearn.avalanche.streams.forget_experience import ForgetExperience
from fed_unlearn.avalanche.streams.forget_stream import ForgetScenario, GrowingForgetStream, forget_benchmark

__all__ = ["ForgetExperience", "ForgetScenario", "GrowingForgetStream", "forget_benchmark"]
