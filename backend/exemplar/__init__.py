"""Exemplar: label fifty exemplars in Label Studio and get the rest of the pool nearly right."""

__version__ = "0.1.0"
