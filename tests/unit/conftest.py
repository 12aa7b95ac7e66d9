"""Settings of all unit tests."""

from hypothesis import settings

# A busy machine must not turn a correct test red: pytest's timeout is the only clock here.
settings.register_profile("farm", deadline=None)
settings.load_profile("farm")
