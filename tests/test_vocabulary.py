"""One word for one thing: what the parameters and verbs of all public modules are called, and their defaults."""

import importlib
import inspect

import pytest

torch = pytest.importorskip("torch", reason="half of the public modules need torch")

PUBLIC = (
    "annvq",
    "annvq.codebooks",
    "annvq.evaluation",
    "annvq.interop.faiss",
    "annvq.io",
    "annvq.learn",
    "annvq.multivector",
    "annvq.tables",
    "annvq.tokenizers",
)

# What else these are called elsewhere, and are not here.
SYNONYMS = {
    "n_lists": "nlist",
    "n_probe": "nprobe",
    "nprobes": "nprobe",
    "n_bits": "nbits",
    "n_jobs": "threads",
    "num_threads": "threads",
    "n_threads": "threads",
    "workers": "threads",
    "random_state": "seed",
    "rng": "seed",
    "top_k": "k",
    "topk": "k",
    "space": "metric",
    "distance": "metric",
    "similarity": "metric",
    "n_iter": "niter",
    "iters": "niter",
    "dtype_": "dtype",
    "filename": "path",
    "fname": "path",
    "verbose": "progress",
    "show_progress": "progress",
}

# First words of names that mean what another one means here.
VERBS = {
    "write_index": "save",
    "read_index": "open",
    "dump": "save",
    "restore": "open",
    "quantise": "quantize",
    "query": "search",
    "knn": "search",
    "learn": "train",
    "delete": "remove",
    "insert": "add",
    "convert": "to_",
    "as": "to_",
}


def public():
    """Yield the names of all public functions and methods, and these."""
    for module in PUBLIC:
        home = importlib.import_module(module)
        for name in home.__all__:
            thing = getattr(home, name)
            if inspect.ismodule(thing):
                continue
            if inspect.isclass(thing):
                yield f"{module}.{name}", thing
                for member, value in vars(thing).items():
                    function = value.__func__ if isinstance(value, classmethod | staticmethod) else value
                    if not member.startswith("_") and inspect.isfunction(function):
                        yield f"{module}.{name}.{member}", function
            elif callable(thing):
                yield f"{module}.{name}", thing


FUNCTIONS = sorted(dict(public()).items())
each = pytest.mark.parametrize(("name", "function"), FUNCTIONS, ids=[name for name, _ in FUNCTIONS])


def parameters_of(function):
    try:
        return inspect.signature(function).parameters
    except ValueError:  # of an enumeration or a type alias
        return {}


def test_there_is_much_to_look_at():
    assert len(FUNCTIONS) > 300


@each
def test_parameters_have_the_names_that_they_have_everywhere(name, function):
    assert {one: SYNONYMS[one] for one in parameters_of(function) if one in SYNONYMS} == {}


@each
def test_verbs_are_those_of_the_table(name, function):
    last = name.rpartition(".")[2]
    assert [verb for verb in VERBS if last == verb or last.startswith(f"{verb}_")] == []


@each
def test_defaults_are_the_same_everywhere(name, function):
    parameters = parameters_of(function)
    if "threads" in parameters and not name.endswith("_trusted"):
        threads = parameters["threads"]
        assert threads.default is None
        assert threads.kind is inspect.Parameter.KEYWORD_ONLY
    if "seed" in parameters and parameters["seed"].default is not inspect.Parameter.empty:
        assert parameters["seed"].default == 0
    for word in ("nprobe", "rerank"):
        if word in parameters and parameters[word].kind is inspect.Parameter.KEYWORD_ONLY:
            assert parameters[word].default is None


@each
def test_everything_public_says_what_it_is_and_takes(name, function):
    assert inspect.getdoc(function)
    plain = [one for one in parameters_of(function).values() if one.name not in ("self", "cls", "args", "kwargs")]
    if inspect.isfunction(function) and function.__module__.startswith("annvq"):
        assert [one.name for one in plain if one.annotation is inspect.Parameter.empty] == []
        assert function.__annotations__.get("return", "missing") != "missing"
