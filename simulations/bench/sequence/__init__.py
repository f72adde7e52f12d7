"""Sequences of requests: is each one as deeply forgotten as by retraining, after every later event?"""
