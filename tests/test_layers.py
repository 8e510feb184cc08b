"""What the source must look like: layers, dependencies, file names, nothing that runs code from files."""

import ast
import re
import subprocess
import sys
from pathlib import Path

import pytest

from annvq.index.rows.extension import EXTENSIONS

ROOT = Path(__file__).parents[1]
PACKAGE = ROOT / "annvq"
SOURCES = sorted(PACKAGE.rglob("*.py"))

# From the top down; docs/design.md draws the same. "annvq" is the root module.
LAYERS = (
    ("__main__", "cli"),
    ("bench", "demo", "integrations"),
    ("tables", "tokenizers"),
    ("learn",),
    ("evaluation", "hybrid", "interop", "multivector"),
    ("annvq", "recipes"),
    ("collection",),
    ("gpu",),
    ("index",),
    ("hits",),
    ("codebooks",),
    ("vectors",),
    ("storage", "io"),
    ("kernels",),
    ("arguments", "arrays", "metrics", "progress", "renamed"),
    ("errors",),
)
RANK = {part: rank for rank, parts in enumerate(LAYERS) for part in parts}

# What may be imported at the top of a file; all else only inside the function that needs it.
EVERYWHERE = {"annvq", "numpy", "tomli", *sys.stdlib_module_names}
ALSO = {
    "kernels": {"numba", "llvmlite"},
    "index": {"pyarrow"},
    "io": {"pyarrow"},
    "cli": {"pyarrow", "typer", "rich"},
    "bench": {"numba", "rich"},
    "demo": {"rich"},
    # Whoever imports such a module uses that library.
    "integrations": {"beir", "haystack", "langchain_core", "llama_index", "pylate", "scipy", "sklearn", "txtai"},
    "gpu": {"torch", "triton"},  # device.py, which looks for both, imports neither
    "learn": {"torch"},
    "tables": {"torch"},
}
# Without scipy: Numba itself looks at it where it is installed.
HEAVY = "faiss h5py hnswlib matplotlib pandas ray rich scann sentence_transformers sklearn torch typer".split()
RUNS_CODE_FROM_FILES = {"pickle", "cPickle", "marshal", "shelve", "dill", "cloudpickle", "joblib"}


def name_of(path):
    parts = path.relative_to(ROOT).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


def part_of(module):
    """Return the part of annvq that a module belongs to: annvq.kernels.compile.jit is in kernels."""
    return "annvq" if module == "annvq" else module.split(".")[1]


def tree_of(path):
    return ast.parse(path.read_text(encoding="utf-8"))


def without_type_checking(tree):
    """Walk a tree, leaving out `if TYPE_CHECKING:` blocks."""
    waiting = [tree]
    while waiting:
        node = waiting.pop()
        yield node
        if isinstance(node, ast.If) and ast.unparse(node.test) == "TYPE_CHECKING":
            waiting.extend(node.orelse)
        else:
            waiting.extend(ast.iter_child_nodes(node))


def imported(nodes):
    """Yield the full names of the modules that import statements name."""
    for node in nodes:
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, "imports are absolute"
            for alias in node.names:
                inner = ROOT / node.module.replace(".", "/") / alias.name
                is_module = inner.is_dir() or inner.with_suffix(".py").is_file()
                yield f"{node.module}.{alias.name}" if is_module else node.module


def test_every_part_has_a_layer():
    parts = {part_of(name_of(path)) for path in SOURCES}
    assert parts <= set(RANK), f"name the layer of {parts - set(RANK)} in docs/design.md and here"


def test_layers_are_those_of_the_design():
    design = (ROOT / "docs/design.md").read_text(encoding="utf-8")
    drawn = re.search(r"## Layers.*?\n\n((?:    .*\n)+)", design)[1]
    order = []
    for line in drawn.splitlines():
        head = line.strip().split("  ")[0]
        order += [part for part in re.findall(r"\w+", head) if part in RANK]
    assert {"cli", "evaluation", "index", "storage", "codebooks", "kernels", "errors"} <= set(order)
    assert [RANK[part] for part in order] == sorted(RANK[part] for part in order)


@pytest.mark.parametrize("path", SOURCES, ids=name_of)
def test_imports_point_down_only(path):
    own = part_of(name_of(path))
    for name in imported(without_type_checking(tree_of(path))):
        if name == "annvq" or name.startswith("annvq."):
            assert RANK[part_of(name)] >= RANK[own], f"{name_of(path)} imports {name}, which is above it"


def test_benchmarks_are_for_commands_only():
    """They are installed because the commands are, and whatever else is installed works without them."""
    above = {"cli": {"cli"}, "demo": {"cli", "demo"}, "bench": {"bench", "cli", "demo"}}
    for path in SOURCES:
        parts = {part_of(name) for name in imported(ast.walk(tree_of(path))) if name.startswith("annvq.")}
        for part in parts & set(above):
            assert part_of(name_of(path)) in {*above[part], "__main__"}, f"{name_of(path)} imports {part}"


def test_integrations_are_imported_by_nothing():
    for path in SOURCES:
        parts = {part_of(name) for name in imported(ast.walk(tree_of(path))) if name.startswith("annvq.")}
        assert "integrations" not in parts, name_of(path)


def named_in_text(tree):
    """Yield the modules within packages of annvq that strings name which are nothing but such a name."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Constant) and re.fullmatch(r"annvq(\.\w+){2,}", str(node.value)):
            yield node.value


@pytest.mark.parametrize("path", SOURCES, ids=name_of)
def test_modules_that_are_imported_by_their_names_are_not_above(path):
    """Exceptions are extensions of rows, which an index on disk brings with it, and devices, which a user names."""
    own = RANK[part_of(name_of(path))]
    above = {name for name in named_in_text(tree_of(path)) if RANK[part_of(name)] < own}
    extensions = {home for home, _ in EXTENSIONS.values()}
    exceptions = {
        "annvq.index.rows.extension": extensions,
        "annvq.index.index": {"annvq.gpu.index"},
        "annvq.index.build": {"annvq.gpu.accelerator"},
    }
    assert above == exceptions.get(name_of(path), set())


def circles_of(imports):
    """Return the sets of modules that import each other, of what each imports: modules in order, circles in order."""

    def reached(start):
        seen, waiting = set(), [start]
        while waiting:
            new = imports[waiting.pop()] - seen
            seen |= new
            waiting += new
        return seen

    reachable = {module: reached(module) for module in imports}
    circles = {
        tuple(sorted(other for other in reachable[module] if module in reachable[other]))
        for module in imports
        if module in reachable[module]
    }
    return sorted(circles)


def test_circles_are_found():
    assert circles_of({"a": {"b"}, "b": {"c"}, "c": set()}) == []
    assert circles_of({"a": {"b"}, "b": {"c"}, "c": {"b"}, "d": {"e", "a"}, "e": {"d"}}) == [("b", "c"), ("d", "e")]


def test_modules_do_not_import_each_other_in_a_circle():
    """Imports inside functions and those for types count as well: a reader follows these, too."""
    modules = {name_of(path) for path in SOURCES}
    imports = {name_of(path): set(imported(ast.walk(tree_of(path)))) & modules for path in SOURCES}
    assert circles_of(imports) == []


def is_private(name):
    return name.startswith("_") and not name.endswith("__")


def private_names_made(nodes):
    """Yield the private names that are defined or assigned to, as attributes as well."""
    for node in nodes:
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
            name = node.name
        elif isinstance(node, ast.Name | ast.Attribute) and isinstance(node.ctx, ast.Store):
            name = node.id if isinstance(node, ast.Name) else node.attr
        else:
            continue
        if is_private(name):
            yield name


def private_names_used(nodes):
    """Yield the private names that are imported, or looked up on anything but self and cls."""
    for node in nodes:
        if isinstance(node, ast.ImportFrom):
            yield from (alias.name for alias in node.names if is_private(alias.name))
        elif isinstance(node, ast.Attribute) and is_private(node.attr):
            if not (isinstance(node.value, ast.Name) and node.value.id in ("self", "cls")):
                yield node.attr


def test_uses_of_private_names_are_found():
    tree = ast.parse(
        "from a import _b, c\nclass D:\n    def _e(self):\n        self._f = x._g(self._h, y.__class__, cls._i)"
    )
    assert sorted(private_names_used(ast.walk(tree))) == ["_b", "_g"]
    assert sorted(private_names_made(ast.walk(tree))) == ["_e", "_f"]


def test_no_package_uses_private_names_of_another():
    """What is private to others' libraries is named nowhere in annvq, but for what torch's modules keep."""
    torch_modules = {"_buffers", "_modules", "_parameters"}
    made = {}
    for path in SOURCES:
        made.setdefault(part_of(name_of(path)), set()).update(private_names_made(ast.walk(tree_of(path))))
    every = set().union(*made.values()) - torch_modules
    for path in SOURCES:
        foreign = every - made[part_of(name_of(path))]
        used = set(private_names_used(ast.walk(tree_of(path))))
        assert not used & foreign, f"{name_of(path)} uses what is private to another package: {used & foreign}"


@pytest.mark.parametrize("path", SOURCES, ids=name_of)
def test_optional_packages_are_imported_where_they_are_used(path):
    allowed = EVERYWHERE | ALSO.get(part_of(name_of(path)), set())
    tree = tree_of(path)
    inside = {
        inner
        for node in ast.walk(tree)
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)
        for inner in ast.walk(node)
    }
    top = [node for node in without_type_checking(tree) if node not in inside]
    assert {name.split(".")[0] for name in imported(top)} <= allowed


@pytest.mark.parametrize("path", SOURCES, ids=name_of)
def test_nothing_runs_code_from_files(path):
    tree = tree_of(path)
    names = {name.split(".")[0] for name in imported(ast.walk(tree))}
    assert not names & RUNS_CODE_FROM_FILES
    for call in (node for node in ast.walk(tree) if isinstance(node, ast.Call)):
        called = ast.unparse(call.func)
        given = {keyword.arg: ast.unparse(keyword.value) for keyword in call.keywords}
        assert given.get("allow_pickle", "False") == "False"
        assert called not in ("eval", "exec", "torch.save")
        if called == "torch.load":
            assert given.get("weights_only") == "True"
        if called in ("np.load", "numpy.load"):
            assert part_of(name_of(path)) not in ("storage", "index"), "index files are never read by np.load"


@pytest.mark.parametrize("path", SOURCES, ids=name_of)
def test_files_are_named_by_their_concept(path):
    assert path.stem not in ("utils", "util", "helpers", "helper", "common", "misc", "shared")


@pytest.mark.parametrize("path", SOURCES, ids=name_of)
def test_what_is_public_says_what_it_is(path):
    undocumented = []
    waiting = [(tree_of(path), name_of(path))]
    while waiting:
        node, name = waiting.pop()
        if not ast.get_docstring(node):
            undocumented.append(name)
        if isinstance(node, ast.Module | ast.ClassDef):
            named = (ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef)
            public = (child for child in node.body if isinstance(child, named) and not child.name.startswith("_"))
            waiting += [(child, f"{name}.{child.name}") for child in public]
    assert not undocumented


def test_importing_annvq_loads_nothing_heavy():
    code = f"import sys, annvq; print(*(set({HEAVY!r}) & set(sys.modules)))"
    ran = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=ROOT)
    assert ran.stdout.split() == []


@pytest.mark.parametrize("path", SOURCES, ids=name_of)
def test_files_are_put_in_place_by_one_mechanism(path):
    """Renaming without syncing loses files when the power fails: `storage.filesystem` renames, `io.replacing` syncs."""
    calls = {ast.unparse(node.func) for node in ast.walk(tree_of(path)) if isinstance(node, ast.Call)}
    if name_of(path) != "annvq.storage.filesystem":
        assert not calls & {"os.replace", "os.rename", "os.renames", "shutil.move"}
