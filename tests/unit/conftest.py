"""Settings of all unit tests."""

import pytest
from hypothesis import settings

# A busy machine must not turn a correct test red: pytest's timeout is the only clock here.
settings.register_profile("farm", deadline=None)
settings.load_profile("farm")


@pytest.fixture(scope="module")
def one_thread():
    """Let torch use one thread: several on a busy machine wait for each other."""
    import torch  # noqa: PLC0415 - seconds, and most unit tests don't need it

    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)
