import gc
import os

import pytest

# torch's and Faiss's threads wait asleep. By default they spin, which takes what as many tests as there are CPUs need:
# learning took twice the CPU time. Results depend on the number of threads, which stays what it is.
os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")


@pytest.fixture(autouse=True, scope="module")
def few_objects_to_collect():
    """Keep the garbage collector from what is there before a module's tests: modules, and the items of the whole suite.

    With these, nearly a million objects, a full collection takes half a second. Benchmarks collect before they time
    anything, some dozens of times a test, and compilers make so many objects that Python itself collects often.
    """
    gc.collect()
    gc.freeze()
