import dataclasses
import json
import re
from fractions import Fraction
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from annvq.errors import ParameterError, RecipeError
from annvq.index.recipe import (
    WISHES,
    CodebookSpec,
    Expectation,
    Recipe,
    SearchDefaults,
    choose,
    load,
    names,
    parse,
    rules,
    to_factory,
)
from annvq.index.recipe.choosing import ranked

INDEXES = Path(__file__).parents[2] / "indexes"
CONTRACT_NAMES = "flat ivf-flat ivf-sq8 ivf-pq-fastscan opq-ivf-pq8 ivf-rabitq small fast balanced exact-refine".split()

numbers = st.integers(1, 4096)
thorough = settings(max_examples=100, deadline=None, derandomize=True)


@st.composite
def codebooks(draw, has_lists):
    kind = draw(st.sampled_from(["fp32", "fp16", "sq8", "sq4", "pq", "rvq", "rabitq"]))
    residual = draw(st.booleans()) and has_lists and kind in ("pq", "rvq", "rabitq")
    if kind == "pq":
        return CodebookSpec(
            kind=kind,
            M=draw(numbers | st.sampled_from(["d/1", "d/2", "d/16"])),
            nbits=draw(st.sampled_from([4, 8])),
            residual=residual,
            score_aware=draw(st.none() | st.floats(0.001, 0.999)),
        )
    if kind == "rvq":
        nbits, beam = draw(st.sampled_from([4, 8])), draw(st.none() | st.integers(1, 32))
        return CodebookSpec(kind=kind, M=draw(numbers), nbits=nbits, residual=residual, beam=beam)
    if kind == "rabitq":
        return CodebookSpec(kind=kind, nbits=draw(st.integers(1, 8)), residual=residual)
    return CodebookSpec(kind=kind)


@st.composite
def recipes(draw):
    nlist = draw(st.none() | st.just("auto") | numbers)
    codebook = draw(codebooks(nlist is not None))
    stronger = {"fp32": (), "fp16": ("fp32",), "sq8": ("fp16", "fp32")}.get(codebook.kind, ("sq8", "fp16", "fp32"))
    refine = draw(st.sampled_from([None, *stronger]))
    whole = [None, "truncate"]
    rotations = {"pq": [*whole, "opq", "random", "pca"], "rabitq": ["random"], "fp32": whole, "fp16": whole}
    rotation = draw(st.sampled_from(rotations.get(codebook.kind, [*whole, "random"])))
    share = st.nothing() if isinstance(codebook.M, int) else st.floats(0.001, 0.999)
    return Recipe(
        name=draw(st.text(max_size=8)),
        summary=draw(st.text(max_size=8)),
        rotation=rotation,
        dims=draw(numbers | share if rotation == "pca" else numbers) if rotation in ("pca", "truncate") else None,
        nlist=nlist,
        codebook=codebook,
        refine=refine,
        search=SearchDefaults(
            nprobe=draw(st.integers(1, nlist)) if isinstance(nlist, int) and draw(st.booleans()) else "auto",
            rerank=draw(numbers) if refine and draw(st.booleans()) else "auto",
        ),
    )


@thorough
@given(recipes())
def test_toml_and_json_give_the_recipe_back(recipe):
    for again in (Recipe.from_toml(recipe.to_toml()), Recipe.from_json(recipe.to_json())):
        assert again == recipe
        if recipe.name:
            assert (again.name, again.summary) == (recipe.name, recipe.summary)


@thorough
@given(recipes())
def test_factory_string_gives_the_recipe_back_or_says_what_it_cannot_tell(recipe):
    try:
        text = to_factory(recipe)
    except RecipeError:
        with pytest.raises(RecipeError, match=r"cannot say (dims|codebook|search)\b"):
            to_factory(recipe)
        return
    again = parse(text)
    assert again == recipe
    assert to_factory(again) == text == again.name


@thorough
@given(recipes(), st.integers(0, 3_000_000), st.integers(1, 2000), st.sampled_from(["ip", "cosine", "l2"]))
def test_resolved_recipes_hold_numbers_only_and_resolve_to_themselves(recipe, n, d, metric):
    too_many_lists = isinstance(recipe.nlist, int) and recipe.nlist > n
    M = recipe.codebook.M
    too_many_dims = isinstance(recipe.dims, int) and recipe.dims > d
    coded = recipe.dims if isinstance(recipe.dims, int) else d
    too_many_codes = recipe.codebook.kind == "pq" and isinstance(M, int) and M > coded
    if too_many_lists or too_many_dims or too_many_codes:
        with pytest.raises(RecipeError, match=r"nlist|dims|codebook\.M"):
            recipe.resolve(n, d, metric)
        return
    resolved = recipe.resolve(n, d, metric)
    if isinstance(recipe.dims, float):
        assert resolved.dims == recipe.dims
        resolved = resolved.settle_dims(max(1, d // 2))
    assert resolved.resolve(n, d, metric) == resolved
    assert "auto" not in repr(dataclasses.replace(resolved, name="", summary=""))
    assert resolved.codebook.M is None or isinstance(resolved.codebook.M, int)
    assert (resolved.nlist is None) == (resolved.search.nprobe is None)
    assert (resolved.refine is None) == (resolved.search.rerank is None)
    if resolved.nlist is not None:
        assert 1 <= resolved.search.nprobe <= resolved.nlist <= n
    assert Recipe.from_toml(resolved.to_toml()) == resolved


PARSED = [
    ("Flat", Recipe(codebook=CodebookSpec(kind="fp32"))),
    ("SQfp16", Recipe(codebook=CodebookSpec(kind="fp16"))),
    ("SQ4", Recipe(codebook=CodebookSpec(kind="sq4"))),
    ("PQ32", Recipe(codebook=CodebookSpec(kind="pq", M=32, nbits=8))),
    ("PQ32x4fs", Recipe(codebook=CodebookSpec(kind="pq", M=32, nbits=4))),
    ("RQ8", Recipe(codebook=CodebookSpec(kind="rvq", M=8, nbits=8, beam=5))),
    ("RR,SQ4", Recipe(rotation="random", codebook=CodebookSpec(kind="sq4"))),
    ("IVF1024,Flat", Recipe(nlist=1024, codebook=CodebookSpec(kind="fp32"))),
    ("IVFauto,SQ8", Recipe(nlist="auto", codebook=CodebookSpec(kind="sq8"))),
    ("IVF,PQ8x4", Recipe(nlist="auto", codebook=CodebookSpec(kind="pq", M=8, nbits=4, residual=True))),
    ("IVF9,PQ8x4fs", Recipe(nlist=9, codebook=CodebookSpec(kind="pq", M=8, nbits=4))),
    ("IVF9,PQ8x4fsr", Recipe(nlist=9, codebook=CodebookSpec(kind="pq", M=8, nbits=4, residual=True))),
    (
        " OPQ32 , IVF1024,PQ32x4fs ,RFlat",
        Recipe(rotation="opq", nlist=1024, codebook=CodebookSpec(kind="pq", M=32, nbits=4), refine="fp32"),
    ),
    (
        "PCA64,IVF,PQ32x4fsr,Refine(SQ8)",
        Recipe(
            rotation="pca",
            dims=64,
            nlist="auto",
            codebook=CodebookSpec(kind="pq", M=32, nbits=4, residual=True),
            refine="sq8",
        ),
    ),
    (
        "IVF1024,PQ64x8,Refine( SQ8 )",
        Recipe(nlist=1024, codebook=CodebookSpec(kind="pq", M=64, nbits=8, residual=True), refine="sq8"),
    ),
    (
        "IVF1024,RaBitQ4",
        Recipe(rotation="random", nlist=1024, codebook=CodebookSpec(kind="rabitq", nbits=4, residual=True)),
    ),
    ("RaBitQ", Recipe(rotation="random", codebook=CodebookSpec(kind="rabitq", nbits=1))),
    ("SQ8,Refine(SQfp16)", Recipe(codebook=CodebookSpec(kind="sq8"), refine="fp16")),
    ("SQ8,Refine(Flat)", Recipe(codebook=CodebookSpec(kind="sq8"), refine="fp32")),
]


@pytest.mark.parametrize(("text", "recipe"), PARSED, ids=[text for text, _ in PARSED])
def test_factory_strings(text, recipe):
    assert parse(text) == recipe
    assert parse(text).name == text.strip()
    assert load(text) == recipe
    assert parse(to_factory(recipe)) == recipe


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("", r"unknown part '' at character 1"),
        ("   ", r"unknown part ''"),
        ("flat", r"'flat' at character 1 .* did you mean 'Flat'"),
        ("IVF1024", r"names no codes"),
        ("IVF1024,PQ32x5", r"nbits .* expected one of 4, 8"),
        ("IVF1024,  PQ32x4sf", r"'PQ32x4sf' at character 11 .* did you mean 'PQ32x4fs'"),
        ("PQ32,IVF1024", r"'IVF1024' is in the wrong place, at character 6"),
        ("Flat,Flat", r"'Flat' is in the wrong place, at character 6"),
        ("RFlat,Flat", r"'RFlat' is in the wrong place, at character 1"),
        ("Flat,RFlat", r"not more exact than the codes"),
        ("SQ8,Refine(SQ8)", r"not more exact than the codes"),
        ("Flat,RFlat,RFlat", r"'RFlat' is in the wrong place, at character 12 .* nothing more"),
        ("OPQ32_128,IVF10,PQ32", r"reduces the dimension is not supported; use OPQ\{M\}"),
        ("OPQ16,PQ32", r"OPQ16 needs a PQ of the same number"),
        ("OPQ16,Flat", r"OPQ16 needs a PQ of the same number"),
        ("PQ32fs", r"write PQ32x4fs"),
        ("PQ32x8fs", r"write PQ32x4fs"),
        ("PQ32x4fsr", r"needs lists: add IVF, or use PQ32x4fs"),
        ("PQ32x4fs_64", r"always has 32 vectors"),
        ("PQ0", r"M of kind 'pq' = 0"),
        ("IVF0,Flat", r"nlist = 0"),
        ("RaBitQ9", r"expected one of 1, 2"),
        ("RR,Flat", r"a rotation changes nothing"),
        ("RR64,SQ8", r"there are OPQ\{M\}, PCA\{dims\} and RR"),
        ("PCAR64,PQ8", r"there are OPQ\{M\}, PCA\{dims\} and RR"),
        ("PCA64,Flat", r"'pca' goes with a pq codebook"),
        ("PCA0,PQ8", r"dims = 0"),
        ("IVF1024_HNSW32,Flat", r"scanning all centroids"),
        ("HNSW32", r"of graphs there is QG32"),
        ("QG64", r"has 32 neighbours, write QG32"),
        ("IVF16,QG32", r"have no lists: leave it out"),
        ("IVF99999999999999999999,Flat", r"unknown part"),
        ("IVF" + "9" * 5000 + ",Flat", r"unknown part"),
        ("IVF1024,Flat,", r"unknown part '' at character 14"),
    ],
)
def test_what_a_factory_string_may_not_say(text, said):
    with pytest.raises(RecipeError, match=said):
        parse(text)


@given(st.text(alphabet="IVFOPQRSlatfsrBi0123456789x4_,() ", max_size=24))
@settings(max_examples=300, deadline=None, derandomize=True)
def test_any_text_is_a_recipe_or_a_recipe_error(text):
    try:
        recipe = parse(text)
    except RecipeError:
        return
    assert parse(to_factory(recipe)) == recipe


@pytest.mark.parametrize(
    ("fields", "said"),
    [
        ({"kind": "PQ", "M": 8}, "did you mean 'pq'"),
        ({"kind": 8}, "expected one of"),
        ({"kind": "pq"}, "codebook.M of kind 'pq' = None"),
        ({"kind": "pq", "M": 0}, "at least 1"),
        ({"kind": "pq", "M": True}, "whole number"),
        ({"kind": "pq", "M": 8.0}, "whole number"),
        ({"kind": "pq", "M": "d/0"}, "'d/k'"),
        ({"kind": "pq", "M": "d*2"}, "'d/k'"),
        ({"kind": "rvq", "M": "d/2"}, "whole number"),
        ({"kind": "pq", "M": 8, "nbits": 6}, "expected one of 4, 8"),
        ({"kind": "rabitq", "nbits": True}, "expected one of 1, 2"),
        ({"kind": "rabitq", "M": 8}, "means nothing for kind 'rabitq', only pq, rvq"),
        ({"kind": "sq8", "nbits": 8}, "means nothing"),
        ({"kind": "fp32", "residual": True}, "means nothing"),
        ({"kind": "pq", "M": 8, "residual": 1}, "true or false"),
        ({"kind": "pq", "M": 8, "score_aware": 1.0}, "0 < value < 1"),
        ({"kind": "pq", "M": 8, "score_aware": float("nan")}, "0 < value < 1"),
        ({"kind": "pq", "M": 8, "score_aware": "0.2"}, "expected a number"),
        ({"kind": "rvq", "M": 8, "score_aware": 0.2}, "means nothing"),
        ({"kind": "pq", "M": 8, "beam": 2}, "means nothing"),
        ({"kind": "rvq", "M": 8, "beam": 0}, "at least 1"),
    ],
)
def test_what_a_codebook_may_not_be(fields, said):
    with pytest.raises(RecipeError, match=said):
        CodebookSpec(**fields)


PQ = CodebookSpec(kind="pq", M=8)


@pytest.mark.parametrize(
    ("fields", "said"),
    [
        ({"codebook": {"kind": "pq"}}, "expected a? ?CodebookSpec"),
        ({"codebook": PQ, "search": {}}, "expected SearchDefaults"),
        ({"codebook": PQ, "expect": {}}, "Expectation"),
        ({"codebook": PQ, "name": 3}, "expected text"),
        ({"codebook": PQ, "nlist": "some"}, "whole number of at least 1 or 'auto'"),
        ({"codebook": PQ, "nlist": 0}, "at least 1"),
        ({"codebook": PQ, "nlist": True}, "whole number"),
        ({"codebook": PQ, "rotation": "opg"}, "did you mean 'opq'"),
        ({"codebook": CodebookSpec(kind="sq8"), "rotation": "opq"}, "learned with a pq codebook"),
        ({"codebook": CodebookSpec(kind="fp16"), "rotation": "random"}, "changes nothing"),
        ({"codebook": CodebookSpec(kind="rabitq")}, "needs rotation 'random'"),
        ({"codebook": PQ, "refine": "float16"}, "expected one of 'sq8', 'fp16', 'fp32'"),
        ({"codebook": CodebookSpec(kind="sq8"), "refine": "sq8"}, "not more exact"),
        ({"codebook": CodebookSpec(kind="fp32"), "refine": "fp32"}, "not more exact"),
        ({"codebook": CodebookSpec(kind="pq", M=8, residual=True)}, "needs lists"),
        ({"codebook": PQ, "search": SearchDefaults(nprobe=4)}, "nprobe = 4 needs lists"),
        ({"codebook": PQ, "search": SearchDefaults(rerank=4)}, "rerank = 4 needs a refine store"),
        ({"codebook": PQ, "nlist": 4, "search": SearchDefaults(nprobe=5)}, "more than nlist = 4"),
    ],
)
def test_what_a_recipe_may_not_be(fields, said):
    with pytest.raises(RecipeError, match=said):
        Recipe(**fields)


@pytest.mark.parametrize("fields", [{"nprobe": 0}, {"rerank": "all"}, {"nprobe": 1.5}])
def test_what_search_defaults_may_not_be(fields):
    with pytest.raises(RecipeError, match=r"search\.(nprobe|rerank) = .* or 'auto'"):
        SearchDefaults(**fields)


def test_names_and_texts_do_not_make_recipes_differ():
    assert Recipe(name="a", summary="b", codebook=PQ) == Recipe(name="c", codebook=PQ)
    assert Recipe(codebook=PQ) != Recipe(codebook=PQ, nlist=4)
    assert len({Recipe(name="a", codebook=PQ), Recipe(codebook=PQ)}) == 1
    with pytest.raises(dataclasses.FrozenInstanceError):
        Recipe(codebook=PQ).nlist = 4


@pytest.mark.parametrize(
    ("toml", "said"),
    [
        ("nlists = 4\n[codebook]\nkind = 'fp32'", "recipe: unknown key 'nlists'; did you mean 'nlist'"),
        ("[codebook]\nkind = 'pq'\nm = 8", "codebook: unknown key 'm'; did you mean 'M'"),
        (
            "[codebook]\nkind = 'fp32'\n[search]\nnprob = 4",
            "search: unknown key 'nprob'; did you mean 'nprobe'",
        ),
        ("nlist = 4", "codebook missing"),
        ("[codebook]\nM = 4", "codebook: kind missing"),
        ("codebook = 'pq'", "expected a table"),
        ("[codebook]\nkind = 'fp32'\n[expect]\nrecall = 0.5", "bytes_at_384, bytes_at_768 missing"),
        ("[codebook]\nkind = ['pq']", "expected one of"),
        ("nlist = inf\n[codebook]\nkind = 'fp32'", "whole number"),
        ("nlist = ", "not TOML"),
        ("a = " + "[" * 5000, "not TOML"),
    ],
)
def test_bad_toml_names_the_place_and_the_nearest_key(toml, said):
    with pytest.raises(RecipeError, match=said):
        Recipe.from_toml(toml)


@pytest.mark.parametrize("text", ["[]", "3", "{", '{"codebook": 3}', '{"codebook": {"kind": "pq", "M": 1e999}}'])
def test_bad_json(text):
    with pytest.raises(RecipeError):
        Recipe.from_json(text)


def test_expectation_is_a_share_and_bytes():
    assert Expectation(recall=1, bytes_at_384=1, bytes_at_768=2).recall == 1
    with pytest.raises(RecipeError, match="0 to 1"):
        Expectation(recall=95, bytes_at_384=1, bytes_at_768=2)
    with pytest.raises(RecipeError, match="at least 1"):
        Expectation(recall=0.5, bytes_at_384=0, bytes_at_768=2)


def test_resolve_turns_shares_of_d_into_numbers_rounded_up():
    recipe = Recipe(codebook=CodebookSpec(kind="pq", M="d/2", nbits=4))
    assert [recipe.resolve(100, d, "ip").codebook.M for d in (1, 2, 3, 384)] == [1, 1, 2, 192]


def test_resolve_drops_residuals_with_the_lists_and_score_awareness_under_l2():
    codebook = CodebookSpec(kind="pq", M=8, residual=True, score_aware=0.2)
    recipe = Recipe(nlist="auto", codebook=codebook, search=SearchDefaults(nprobe=5))
    few = recipe.resolve(999, 16, "ip")
    assert (few.nlist, few.codebook.residual, few.search.nprobe) == (None, False, None)
    many = recipe.resolve(10_000, 16, "cosine")
    assert (many.nlist, many.codebook.residual, many.search.nprobe) == (200, True, 5)
    assert many.codebook.score_aware == 0.2
    assert recipe.resolve(10_000, 16, "l2").codebook.score_aware is None


def test_resolve_says_what_does_not_fit():
    with pytest.raises(RecipeError, match="nlist = 64 lists need at least as many vectors, not n = 63"):
        parse("IVF64,Flat").resolve(63, 8, "ip")
    with pytest.raises(RecipeError, match=r"M = 9 sub-quantizers do not fit d = 8: use at most 8"):
        parse("PQ9").resolve(1000, 8, "ip")
    with pytest.raises(RecipeError, match="metric = 'dot'"):
        parse("Flat").resolve(1000, 8, "dot")
    assert parse("RQ9").resolve(1000, 8, "ip").codebook.M == 9  # stages are not dimensions


def test_auto_nlist_grows_like_the_root_of_n_and_keeps_lists_filled():
    assert [rules.auto_nlist(n) for n in (0, 1, 999)] == [None, None, None]
    assert rules.auto_nlist(1_000_000) == 2000
    sizes = range(1000, 200_000, 777)
    lists = [rules.auto_nlist(n) for n in sizes]
    assert lists == sorted(lists)
    assert all(n // nlist >= rules.LEAST_LIST_LENGTH for n, nlist in zip(sizes, lists))


def test_auto_nprobe_and_rerank_stay_in_their_bounds():
    cases = ((1, 100), (8, 1000), (150, 16_384), (150, 32_768), (490, 60_000), (2000, 1_000_000), (10_000, 10**8))
    assert [rules.auto_nprobe(*case) for case in cases] == [1, 8, 150, 75, 134, 89, 200]
    reranks = [rules.auto_rerank(bits) for bits in (0.01, 0.5, 1, 2, 8, 16)]
    assert reranks == [1000, 400, 200, 100, 40, 40]


@pytest.mark.parametrize(
    ("text", "metric", "expected"),
    [
        ("Flat", "ip", 4 * 30),
        ("SQfp16", "l2", 2 * 30),
        ("SQ8", "ip", 30),
        ("SQ4", "ip", 16),
        ("PQ8", "ip", 8),
        ("PQ9x4", "ip", 6),
        ("IVF4,PQ8x8", "ip", 8),
        ("IVF4,PQ8x8", "l2", 12),
        ("IVF4,PQ8x4fs,RFlat", "l2", 4 + 120),
        ("RQ8", "l2", 12),
        ("RQ8", "cosine", 8),
        ("PQ5x4", "ip", 4),
        ("RaBitQ", "ip", 8 + 12),
        ("RaBitQ4,Refine(SQ8)", "l2", 32 + 20 + 30),
    ],
)
def test_bytes_per_vector(text, metric, expected):
    assert parse(text).bytes_per_vector(30, metric) == expected


def test_recipes_of_the_contract_exist():
    assert set(CONTRACT_NAMES) <= set(names())
    assert names() == tuple(sorted(path.stem for path in INDEXES.glob("*.toml")))


@pytest.mark.parametrize("name", names())
def test_recipe_files(name):
    recipe = load(name)
    assert recipe.name == name
    assert recipe.summary
    assert recipe.use_when
    assert recipe.avoid_when
    assert recipe.cost
    assert recipe.expect is not None
    assert recipe.bytes_per_vector(384) == recipe.expect.bytes_at_384
    assert recipe.bytes_per_vector(768) == recipe.expect.bytes_at_768
    for n, d in ((1, 1), (100, 3), (1000, 16), (60_000, 784)):
        for metric in ("ip", "cosine", "l2"):
            recipe.resolve(n, d, metric)
    assert f"[{name}]({name}.toml)" in (INDEXES / "README.md").read_text(encoding="utf-8")


def test_load_takes_instances_names_paths_and_strings(tmp_path):
    recipe = load("balanced")
    assert load(recipe) is recipe
    path = tmp_path / "my own.toml"
    path.write_text(recipe.to_toml(), encoding="utf-8")
    assert load(path) == load(str(path)) == recipe
    assert load("IVF1024,Flat") == parse("IVF1024,Flat")


def test_load_says_what_it_tried(tmp_path):
    with pytest.raises(RecipeError, match=r"'balenced' is no recipe's name .* did you mean 'balanced'"):
        load("balenced")
    with pytest.raises(RecipeError, match=r"choose"):
        load("auto")
    with pytest.raises(RecipeError, match="not int"):
        load(3)
    with pytest.raises(RecipeError, match="cannot read recipe"):
        load(tmp_path / "none.toml")
    bad = tmp_path / "bad.toml"
    bad.write_bytes(b"\xff\xfe")
    with pytest.raises(RecipeError, match=r"cannot read recipe .*bad\.toml"):
        load(bad)
    bad.write_text("nlst = 4\n[codebook]\nkind = 'fp32'")
    with pytest.raises(RecipeError, match=r"bad\.toml.* did you mean 'nlist'"):
        load(bad)


def test_choose_without_budget():
    assert choose(19_999, 128, "ip") == load("flat")
    chosen = choose(20_000, 128, "ip")
    assert chosen.name == "balanced"
    assert chosen == load("balanced").resolve(20_000, 128, "ip")


@pytest.mark.parametrize("metric", ["ip", "l2"])
def test_choose_keeps_the_budget_and_uses_it(metric):
    spent = []
    for budget in (5, 6, 10, 31, 64, 100, 200, 500, 1000, 2000):
        for n in (500, 50_000):
            recipe = choose(n, 300, metric, bytes_per_vector=budget)
            assert recipe.bytes_per_vector(300, metric) <= budget
            assert recipe.resolve(n, 300, metric) == recipe
        spent.append(recipe.bytes_per_vector(300, metric))
    assert spent == sorted(spent)
    assert spent[3] == 31
    assert choose(500, 300, metric, bytes_per_vector=1200).name == "flat"


@pytest.mark.parametrize("budget", [-1, 0, 0.5, 4, float("nan"), float("-inf")])
def test_choose_refuses_a_budget_that_holds_no_code(budget):
    with pytest.raises(RecipeError, match="hold no code: the shortest takes 5"):
        choose(50_000, 300, "l2", bytes_per_vector=budget)


@pytest.mark.parametrize(
    ("prefer", "n", "name"),
    [
        ("speed", 1_000, "fast"),
        ("speed", 19_999, "fast"),
        ("memory", 10, "ivf-rabitq"),
        ("memory", 1_000_000, "ivf-rabitq"),
        ("build", 19_999, "flat"),
        ("build", 20_000, "ivf-flat"),
    ],
)
@pytest.mark.parametrize("metric", ["ip", "cosine", "l2"])
def test_a_wish_is_granted_on_both_sides_of_its_borders(prefer, n, name, metric):
    chosen = choose(n, 384, metric, prefer=prefer)
    assert chosen.name == name
    assert chosen == load(name).resolve(n, 384, metric)
    assert f"{n:,} vectors of 384 dimensions" in chosen.use_when
    assert f"at most {chosen.bytes_per_vector(384, metric):,} bytes" in chosen.use_when


@pytest.mark.parametrize(
    ("n", "chosen"),
    [
        (10, ["ivf-rabitq", "graph", "graph"]),
        (999, ["ivf-rabitq", "graph", "graph"]),
        (20_000, ["fast", "graph", "fast"]),
        (199_999, ["fast", "graph", "fast"]),
        (200_000, ["fast", "graph", "graph"]),
    ],
)
def test_a_graph_is_the_fastest_only_where_vectors_are_equally_long_or_lengths_do_not_matter(n, chosen):
    assert [choose(n, 384, metric, prefer="speed").name for metric in ("ip", "cosine", "l2")] == chosen
    assert choose(n, 384, "ip", prefer="speed", equally_long=True).name == chosen[1]


@pytest.mark.parametrize(("n", "d"), [(-1, 8), (None, 8), (1.5, 8), (100, 0), (100, -1)])
@pytest.mark.parametrize("prefer", [None, *WISHES])
def test_choose_refuses_numbers_that_no_vectors_have(n, d, prefer):
    with pytest.raises(ParameterError, match="must be a whole number"):
        choose(n, d, "ip", prefer=prefer)


def test_a_budget_may_be_any_number():
    assert "90.5 are allowed" in choose(100_000, 200, "ip", Fraction(181, 2), prefer="speed").use_when


def test_a_wish_for_speed_takes_no_codes_of_low_recall_where_8_bits_fit():
    assert choose(50_000, 32, "l2", 40, prefer="speed").name == "ivf-sq8"


@pytest.mark.parametrize(
    ("d", "name"), [(16, "ivf-sq8"), (51, "ivf-sq8"), (53, "ivf-rabitq"), (65, "ivf-sq8"), (85, "ivf-rabitq")]
)
def test_the_least_memory_depends_on_the_dimension(d, name):
    chosen = choose(50_000, d, "ip", prefer="memory")
    assert chosen.name == name
    others = [load(one).bytes_per_vector(d, "ip") for one in ("ivf-rabitq", "ivf-sq8")]
    assert chosen.bytes_per_vector(d, "ip") == min(others)


@pytest.mark.parametrize("prefer", WISHES)
@pytest.mark.parametrize("metric", ["ip", "l2"])
@pytest.mark.parametrize("n", [500, 5_000, 50_000, 500_000])
def test_a_wish_keeps_the_budget_and_changes_nothing_that_is_roomy(prefer, metric, n):
    wished = choose(n, 300, metric, prefer=prefer)
    size = wished.bytes_per_vector(300, metric)
    assert choose(n, 300, metric, size, prefer=prefer) == wished
    assert choose(n, 300, metric, 10**9, prefer=prefer) == wished
    assert choose(n, 300, metric, size - 1, prefer=prefer) != wished
    for budget in (10, 31, 64, 100, 200, 300, 500, 1000, 1199, 1200, 2000):
        chosen = choose(n, 300, metric, budget, prefer=prefer)
        assert chosen.bytes_per_vector(300, metric) <= budget
        assert chosen.resolve(n, 300, metric) == chosen
        assert f"{budget:,} are allowed" in chosen.use_when
        assert dataclasses.replace(chosen, use_when="") == chosen


def test_the_page_tells_the_same_order():
    text = (INDEXES / "README.md").read_text(encoding="utf-8").split("| `prefer` | vectors | recipes |")[1]
    rows = [line.split("|")[1:-1] for line in text.split("\n\n")[0].splitlines()[2:]]
    prefer = ""
    for wish, numbers, told in rows:
        prefer = wish.strip(' `"') or prefer
        named = re.findall(r"[a-z0-9-]+", told.split("whichever")[0].replace(" or ", " "))
        border = int(re.sub(r"\D", "", numbers.split(";")[0]) or 5)
        n = border - 1 if "below" in numbers else border
        for metric in re.findall(r"\b(ip|cosine|l2)\b", numbers) or ("ip", "cosine", "l2"):
            assert list(ranked(prefer, n, metric, equally_long=False)[0]) == named
    assert prefer == "build"
    assert len(rows) == 10


def test_without_a_wish_nothing_is_said():
    assert choose(50_000, 300, "ip").use_when == load("balanced").use_when
    assert choose(50_000, 300, "ip", 90).name == "ivf-pq-fastscan"


@pytest.mark.parametrize("prefer", WISHES)
def test_a_wish_for_bits_gets_what_keeps_them(prefer):
    assert choose(19_999, 256, "hamming", prefer=prefer).name == "flat"
    assert choose(20_000, 256, "hamming", 32, prefer=prefer).name == "ivf-flat"
    with pytest.raises(RecipeError, match="31 bytes a vector do not hold 256 bits"):
        choose(20_000, 256, "hamming", 31, prefer=prefer)


@pytest.mark.parametrize("prefer", WISHES)
def test_a_wish_within_too_few_bytes_says_the_least(prefer):
    with pytest.raises(RecipeError, match="4 bytes a vector hold no code: the shortest takes 5"):
        choose(50_000, 300, "l2", 4, prefer=prefer)


@pytest.mark.parametrize("prefer", ["fast", "", 3, True])
def test_a_wish_that_is_none_is_refused(prefer):
    with pytest.raises(ParameterError, match=f"prefer must be one of speed, memory, build, not {prefer!r}"):
        choose(50_000, 300, "l2", prefer=prefer)


@pytest.mark.parametrize("budget", ["300", True, [1]])
def test_a_budget_that_is_no_number_is_refused(budget):
    with pytest.raises(ParameterError, match="bytes_per_vector must be a number"):
        choose(50_000, 300, "l2", budget)


def test_recipes_are_plain_json():
    assert json.loads(load("balanced").to_json())["codebook"]["M"] == "d/2"
