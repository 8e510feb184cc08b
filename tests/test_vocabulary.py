"""One word for one thing: what the parameters and verbs of all public modules are called, and their defaults."""

import ast
import importlib
import inspect
import re
import textwrap
from pathlib import Path

import pytest

import annvq

pytest.importorskip("torch", reason="half of the public modules need torch")

PUBLIC = (
    "annvq",
    "annvq.codebooks",
    "annvq.evaluation",
    "annvq.hybrid",
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
    "num_bits": "nbits",
    "bits": "nbits",
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
                bases = [base for base in inspect.getmro(thing) if base.__module__.startswith("annvq.")]
                for member, value in (pair for base in reversed(bases) for pair in vars(base).items()):
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
    def is_wrong(name, one):
        is_number = name == "annvq.Record"  # its similarity
        are_bits = name.startswith("annvq.tokenizers.") and name.endswith(".values")  # and not how many
        return one.name in SYNONYMS and not is_number and not are_bits

    assert all_that(is_wrong) == []


def test_verbs_are_those_of_the_table():
    begun = tuple(f"{verb}_" for verb in VERBS)
    lasts = {name: name.rpartition(".")[2] for name in FUNCTIONS}
    assert [name for name, last in lasts.items() if last in VERBS or last.startswith(begun)] == []


def test_threads_are_all_by_default_and_said_by_name():
    def is_wrong(name, parameter):
        wanted = parameter.default is None and parameter.kind is inspect.Parameter.KEYWORD_ONLY
        return parameter.name == "threads" and not wanted and not name.endswith("_trusted")

    assert all_that(is_wrong) == []


# What a metric compares, what says how it is laid out, and how many neighbours it is to find.
COMPARED = {
    "base", "centroids", "codes", "d", "encoded", "k", "labels", "n", "queries", "rows", "self", "tokenizer", "vectors",
}  # fmt: skip


def test_metrics_stand_right_behind_what_they_compare_or_are_said_by_name():
    def is_wrong(name, one):
        words = list(parameters_of(FUNCTIONS[name]))
        is_second = one.name != "metric" or set(words[: words.index("metric")]) <= COMPARED
        return not is_second and one.kind is not inspect.Parameter.KEYWORD_ONLY

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


SECTIONS = ("Parameters", "Attributes", "Returns", "Yields", "Raises", "Examples")


HEADING = rf"(?m)^({'|'.join(SECTIONS)})\n-+$"
ERRORS = {name for name, value in vars(annvq.errors).items() if isinstance(value, type) and name.endswith("Error")}
CHECKS = {"as_choice", "as_count", "as_flag", "as_number", "as_weight"}  # of annvq.arguments
MANY = 3  # parameters, from which on each is described


def headings_of(function):
    return re.findall(HEADING, inspect.getdoc(function) or "")


def section(text, heading):
    """Return what stands under a heading of a docstring."""
    found = re.search(rf"(?ms)^{heading}\n-+\n(.*?)(?=^\w+\n-+$|\Z)", text)
    return found[1] if found else ""


def words_under(text, heading):
    """Return the names that a section describes, which begin its lines."""
    lines = re.findall(r"(?m)^(\S.*)$", section(text, heading))
    return [word.strip(" *") for line in lines for word in line.split(",")]


def taken_by(function):
    return [word for word in parameters_of(function) if word not in ("self", "cls")]


def docstrings_of(name):
    """Return the docstrings that say what a public name takes: its own, and those of what it derives from."""
    thing = FUNCTIONS[name]
    if inspect.isclass(thing):
        held = [one for base in inspect.getmro(thing) for one in (base, base.__init__)]
    elif name.rpartition(".")[0] in FUNCTIONS:
        owner, _, member = name.rpartition(".")
        held = [vars(base)[member] for base in inspect.getmro(FUNCTIONS[owner]) if member in vars(base)]
    else:
        held = [thing]
    return [inspect.cleandoc(one.__doc__ or "") for one in held]


def test_sections_of_docstrings_come_once_and_in_one_order():
    headings = {name: headings_of(function) for name, function in FUNCTIONS.items()}
    wrong = {name: found for name, found in headings.items() if found != [one for one in SECTIONS if one in found]}
    assert sum(map(bool, headings.values())) > 150
    assert wrong == {}


def test_all_parameters_are_described_or_none():
    wrong = {}
    for name, function in FUNCTIONS.items():
        if not inspect.isfunction(function) or "Parameters" not in headings_of(function):
            continue
        described, taken = words_under(inspect.getdoc(function), "Parameters"), taken_by(function)
        if sorted(described) != sorted(taken):
            wrong[name] = set(described) ^ set(taken)
    assert wrong == {}


def test_what_takes_several_parameters_describes_each():
    """A subclass or an override need not repeat what is said of the other; nor a ``*_trusted``, of its checked twin."""
    wrong = {}
    for name, function in FUNCTIONS.items():
        twin = name.removesuffix("_trusted")
        if twin != name and inspect.getdoc(function).startswith(f"Do what `{twin.rpartition('.')[2]}` does"):
            continue
        texts, taken = docstrings_of(name), [word for word in taken_by(function) if not word.startswith("_")]
        described = {word for text in texts for part in SECTIONS[:2] for word in words_under(text, part)}
        if len(taken) >= MANY and not described.issuperset(taken):
            wrong[name] = set(taken) - described
    assert wrong == {}


def raised_by(thing):
    """Return the names of annvq's errors that the code of a function or a constructor raises, itself or by a check."""
    if inspect.isclass(thing):
        made = [vars(thing)[name] for name in ("__init__", "__post_init__") if name in vars(thing)]
        made = [function for function in made if inspect.isfunction(function) and not is_generated(function)]
        return set().union(*(raised_by(function) for function in made))
    tree = ast.parse(textwrap.dedent(inspect.getsource(inspect.unwrap(thing))))
    called = {node.func.id for node in ast.walk(tree) if isinstance(node, ast.Call) and isinstance(node.func, ast.Name)}
    return ERRORS & called | ({"ParameterError"} if called & CHECKS else set())


def is_generated(function):
    """Return whether a dataclass made a method, which has no source."""
    return inspect.unwrap(function).__code__.co_filename.startswith("<")


def test_errors_are_named():
    """Whatever takes several parameters has a section for them, or its class has; the prose of others may name them."""
    wrong = {}
    for name, function in FUNCTIONS.items():
        is_code = inspect.isfunction(function) or inspect.isclass(function)
        if not is_code or not function.__module__.startswith("annvq."):
            continue
        texts = docstrings_of(name)
        if len(taken_by(function)) >= MANY:
            texts = [section(text, "Raises") for text in texts]
        of_class = FUNCTIONS.get(name.rpartition(".")[0])
        said = "\n".join([*texts, section(inspect.getdoc(of_class) or "", "Raises") if of_class else ""])
        if unnamed := {error for error in raised_by(function) if error not in said}:
            wrong[name] = unnamed
    assert wrong == {}


def test_metrics_are_inner_products_by_default():
    """K-means is of distances; None stands for a default that will go."""
    of_kmeans = all_that(lambda name, one: one.name == "metric" and one.default == "l2")
    assert of_kmeans == ["annvq.codebooks.KMeans(metric)", "annvq.codebooks.KMeans.train(metric)"]
    accepted = ("ip", "l2", None, inspect.Parameter.empty)
    # The vectors of texts come from models that are trained with cosine.
    of_texts = ("annvq.Collection.create", "annvq.Collection.open_or_create")
    others = all_that(lambda name, one: one.name == "metric" and one.default not in accepted and name not in of_texts)
    assert others == []


def test_everything_public_is_typed():
    ours = {n: f for n, f in FUNCTIONS.items() if inspect.isfunction(f) and f.__module__.startswith("annvq")}
    assert [name for name, function in ours.items() if "return" not in function.__annotations__] == []
    passed_on = ("self", "cls", "args", "kwargs")
    untyped = all_that(
        lambda name, one: name in ours and one.name not in passed_on and one.annotation is inspect.Parameter.empty
    )
    assert untyped == []


# Names that several modules define, for one thing in each: nothing else may be defined twice.
SAME = {
    "of a command's file": {"command"},
    "of a format's file": {"open_file", "read_single", "write_file"},
    "of a peer's file": {"variants"},
    "of a kernel for one kind of codes": {"pack", "unpack", "rescore", "scan_all", "scan_lists", "scan_rows"},
    "of a kernel that runs a whole search": {"search_block", "search_planned"},
    "of a benchmark": {"measure", "run"},
    "a stage of a search, as a kernel and for an index": {"probe", "search"},
    "verbs, said with their module: recipe.check, manifest.read": {
        "build", "check", "encode", "load", "merge", "opened", "parse", "read", "resolve", "save",
        "train", "warmup", "write",
    },
    "of a kind of recipe": {"names"},
    "on the CPU, and on a GPU": {"encode_aware", "range_search"},
    "of tensors, and of arrays at inference": {"gathered", "nearest"},
    "a door, and the module behind it": {
        "frozen", "open_version", "read_ann_dataset", "read_ground_truth", "read_queries", "write_ground_truth",
    },
    "as Faiss packs them, and as tables do": {"pack_codes"},
    "of columns": {"joined", "widened"},
    "documents in one file, in a column of it, in many files": {"holds_documents", "open_documents"},
    "to a reader: values in messages, progress on a screen": {"shown"},
    "the arrays of one, as kernels take them": {"Rotation", "Store"},
    "as other libraries name their parts": {"Annvq", "AnnvqVectorStore"},
    "a section in a container, and what a kind of codes asks of it": {"Section"},
}  # fmt: skip


def test_no_name_is_of_two_things():
    package = Path(annvq.__file__).parent
    made = {}
    for path in sorted(package.rglob("*.py")):
        for node in ast.parse(path.read_text(encoding="utf-8")).body:
            if isinstance(node, ast.FunctionDef | ast.ClassDef) and not node.name.startswith("_"):
                made.setdefault(node.name, set()).add(path.relative_to(package).as_posix())
    repeated = {name: places for name, places in made.items() if len(places) > 1}
    allowed = set().union(*SAME.values())
    assert {name: places for name, places in repeated.items() if name not in allowed} == {}
    assert allowed - repeated.keys() == set(), "these are allowed for nothing"


def test_no_public_name_is_of_two_things():
    """A verb may be: annvq.open opens an index, annvq.tables.open a table."""
    homes = {}
    for module in PUBLIC:
        home = importlib.import_module(module)
        for name in home.__all__:
            homes.setdefault(name, []).append(getattr(home, name))
    several = {name for name, things in homes.items() if any(thing is not things[0] for thing in things)}
    assert several == {"open", "warmup"}
