"""Measurements on an NVIDIA GPU, against targets: ``python -m ro_fast.benchmarks.gpu``."""
