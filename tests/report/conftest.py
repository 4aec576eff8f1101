"""A small synthetic experiment: a tidy frame, what goes with it, and volumes for slices."""

from __future__ import annotations

import pytest

from tests.support.demos import Demo, axis_demo, demo


@pytest.fixture(scope="session")
def small() -> Demo:
    return demo()


@pytest.fixture(scope="session")
def scales() -> Demo:
    return axis_demo()
