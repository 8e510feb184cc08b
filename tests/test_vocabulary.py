"""One word for one thing: what the parameters and verbs of all public modules are called, and their defaults."""

import importlib
import inspect

import pytest

pytest.importorskip("torch", reason="half of the public modules need torch")

PUBLIC = (
    "annvq",
    "annvq.codebooks",
    "annvq.evaluation",
    "annvq.interop.faiss",
    "annvq.io",
    "annvq.learn",
    "annvq.multivector",
    "annvq.recipes",
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


FUNCTIONS = dict(public())


def parameters_of(function):
    try:
        return inspect.signature(function).parameters
    except ValueError:  # of an enumeration or a type alias
        return {}


def all_that(is_wrong):
    """Return the names of the functions and parameters of which ``is_wrong(name, parameter)`` holds."""
    return [
        f"{name}({word})"
        for name, function in FUNCTIONS.items()
        for word, parameter in parameters_of(function).items()
        if is_wrong(name, parameter)
    ]


def test_there_is_much_to_look_at():
    assert len(FUNCTIONS) > 300


def test_parameters_have_the_names_that_they_have_everywhere():
    assert all_that(lambda name, parameter: parameter.name in SYNONYMS) == []


def test_verbs_are_those_of_the_table():
    begun = tuple(f"{verb}_" for verb in VERBS)
    lasts = {name: name.rpartition(".")[2] for name in FUNCTIONS}
    assert [name for name, last in lasts.items() if last in VERBS or last.startswith(begun)] == []


def test_threads_are_all_by_default_and_said_by_name():
    def is_wrong(name, parameter):
        wanted = parameter.default is None and parameter.kind is inspect.Parameter.KEYWORD_ONLY
        return parameter.name == "threads" and not wanted and not name.endswith("_trusted")

    assert all_that(is_wrong) == []


def test_seeds_are_0_by_default():
    assert all_that(lambda name, one: one.name == "seed" and one.default not in (0, inspect.Parameter.empty)) == []


def test_depths_of_searches_are_the_index_s_own_by_default():
    named = ("nprobe", "rerank", "params")
    keyword = inspect.Parameter.KEYWORD_ONLY
    recipes_own = "annvq.recipes.SearchDefaults"  # which is where an index has these from

    def is_wrong(name, one):
        return name != recipes_own and one.name in named and one.kind is keyword and one.default is not None

    assert all_that(is_wrong) == []


def test_everything_public_says_what_it_is():
    assert [name for name, function in FUNCTIONS.items() if not inspect.getdoc(function)] == []


def test_everything_public_is_typed():
    ours = {n: f for n, f in FUNCTIONS.items() if inspect.isfunction(f) and f.__module__.startswith("annvq")}
    assert [name for name, function in ours.items() if "return" not in function.__annotations__] == []
    passed_on = ("self", "cls", "args", "kwargs")
    untyped = all_that(
        lambda name, one: name in ours and one.name not in passed_on and one.annotation is inspect.Parameter.empty
    )
    assert untyped == []
