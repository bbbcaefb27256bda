"""Greedy facility location on a GPU, with torch and Triton. Imported only where it is asked for."""

from selection.device.problems import DeviceProblem
from selection.device.solve import DeviceMapper, solve_on_device

__all__ = ["DeviceMapper", "DeviceProblem", "solve_on_device"]
