"""Settings of all tests."""

import hypothesis

# No deadline: the first example of a test compiles. The same examples at every run: a test that
# fails fails again.
hypothesis.settings.register_profile("tests", deadline=None, derandomize=True)
hypothesis.settings.load_profile("tests")
