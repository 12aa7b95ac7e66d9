"""Simulated drilling traces, and the training and evaluation of the depth network on them."""
