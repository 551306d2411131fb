"""An empty account in a simulated cloud, and a stack over it."""

from __future__ import annotations

import pytest

from tests.clouds.simulator import Account, Stack


@pytest.fixture
def account() -> Account:
    return Account()


@pytest.fixture
def stack(account: Account) -> Stack:
    return Stack(account)
