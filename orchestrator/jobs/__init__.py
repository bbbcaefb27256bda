"""Sweeps on a cluster that this machine is no part of, through Ray Jobs."""
