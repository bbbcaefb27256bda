"""Arrays on their way to a device."""

from typing import Any

import numpy as np
import numpy.typing as npt
import torch


def upload(values: npt.NDArray[np.generic], device: torch.device) -> torch.Tensor:
    """An array as a tensor on a device; on the CPU they share memory.

    The processor does not wait for a GPU: the copy is from pinned memory (torch keeps and reuses it), and in the order
    of the current stream.
    """
    tensor: Any = torch.from_numpy(values)
    return tensor.pin_memory().to(device, non_blocking=True) if device.type == "cuda" else tensor.to(device)
