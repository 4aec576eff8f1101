"""What tells a user's own network apart from the shipped ones."""

from __future__ import annotations

import pytest
from torch import nn

from sfrbench.components.backbone.interface import in_parts
from sfrbench.errors import InputError


def test_a_network_without_the_parts_is_named() -> None:
    with pytest.raises(InputError, match=r"encode, decode of Conv3d"):
        in_parts(nn.Conv3d(1, 2, 1))
