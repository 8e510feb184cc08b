import gc

import pytest


@pytest.fixture(autouse=True, scope="module")
def few_objects_to_collect():
    """Keep the garbage collector from what is there before a module's tests: modules, and the items of the whole suite.

    With these, nearly a million objects, a full collection takes half a second. Benchmarks collect before they time
    anything, some dozens of times a test, and compilers make so many objects that Python itself collects often.
    """
    gc.collect()
    gc.freeze()
