"""Which network is it? A hash of its tensors."""

from __future__ import annotations

import hashlib

from torch import nn


def fingerprint(network: object) -> str | None:
    """Hash of a network's tensors, so that results of a retrained one are not mixed; None for what is no module."""
    if not isinstance(network, nn.Module):
        return None
    digest = hashlib.sha256()
    for name, value in sorted(network.state_dict().items()):
        digest.update(name.encode() + value.detach().cpu().contiguous().float().numpy().tobytes())
    return digest.hexdigest()[:16]
