"""The grid of embedding tables on a small made-up MovieLens and made-up pairs."""

import copy
import gzip
import json

import numpy as np
import pytest

pytest.importorskip("torch")
pytest.importorskip("safetensors")

import torch

from annvq.bench.tables import grid, models, tasks, training
from annvq.bench.tables.clicks import diabetes, movielens
from annvq.bench.tables.graph import Likes
from annvq.errors import DataFormatError, ParameterError
from annvq.evaluation.clicks import auc, log_loss, recall_and_ndcg
from annvq.progress import Progress
from annvq.tables import METHODS


@pytest.fixture(scope="module")
def ratings(tmp_path_factory):
    folder = tmp_path_factory.mktemp("data") / "movielens-100k"
    folder.mkdir()
    rng = np.random.default_rng(0)
    taste, worth = rng.normal(size=60), rng.normal(size=80)
    users, items = rng.integers(0, 60, 3000), rng.integers(0, 80, 3000)
    scores = np.where(taste[users] + worth[items] + 0.3 * rng.normal(size=3000) > 0, 5, 2)
    lines = [f"{u + 1}\t{i + 1}\t{s}\t{1000 + t}" for t, (u, i, s) in enumerate(zip(users, items, scores))]
    with gzip.open(folder / "u.data.gz", "wt") as file:
        file.write("\n".join(reversed(lines)) + "\n")
    people = [f"{u + 1}|{20 + u % 40}|{'MF'[u % 2]}|writer|{10000 + 37 * u}" for u in range(60)]
    (folder / "u.user").write_text("\n".join(people) + "\n")
    films = [
        f"{i + 1}|Film|01-Jan-1995||url|{'|'.join(str(int(g == i % 19 or g == i % 5)) for g in range(19))}"
        for i in range(80)
    ]
    (folder / "u.item").write_text("\n".join(films) + "\n", encoding="latin-1")
    return folder


@pytest.fixture(scope="module")
def likes(tmp_path_factory):
    folder = tmp_path_factory.mktemp("data") / "pairs"
    folder.mkdir()
    rng = np.random.default_rng(0)
    liked = [rng.permutation(np.arange(60)[np.arange(60) % 4 == user % 4]) for user in range(40)]
    for name, part in (("train", slice(12)), ("test", slice(12, 15))):
        lines = [" ".join(map(str, [user, *items[part]])) for user, items in enumerate(liked)]
        with gzip.open(folder / f"{name}.txt.gz", "wt") as file:
            file.write("\n".join(lines) + "\n")
    return folder


def test_movielens_is_split_by_time_and_numbered_by_training(ratings):
    data = movielens(ratings)
    assert [len(part.labels) for part in (data.train, data.valid, data.test)] == [2400, 300, 300]
    assert data.fields == ((0, 1), (1, 2), (2, 3), (3, 4), (4, 5), (5, 6), (6, 8))
    assert data.train.ids.max() < data.rows == len(data.field_of_row) == len(data.frequencies)
    assert data.frequencies.sum() == pytest.approx(1.05 * (data.train.ids > 0).sum(), rel=1e-3)
    for slot, (field, _) in enumerate(data.fields[:6]):
        assert set(data.field_of_row[data.train.ids[:, slot]]) == {field}
    assert (data.train.ids[:, 7] == 0).any()  # one genre only
    assert 0.3 < data.train.labels.mean() < 0.7


def test_diabetes_is_split_by_patient(tmp_path):
    names = ["encounter_id", "patient_nbr", "race", "diag_1", "readmitted"]
    rows = [[str(e), str(e // 3), "ab"[e % 2], str(e % 7), ("NO", "<30", ">30")[e % 3]] for e in range(900)]
    with gzip.open(tmp_path / "diabetic_data.csv.gz", "wt") as file:
        file.write("\n".join(",".join(row) for row in [names, *rows]) + "\n")
    data = diabetes(tmp_path)
    assert len(data.fields) == 2
    assert sum(len(part.labels) for part in (data.train, data.valid, data.test)) == 900
    assert all(len(part.labels) % 3 == 0 for part in (data.train, data.valid, data.test))  # patients are whole
    assert data.train.labels.mean() == pytest.approx(2 / 3)


def test_a_value_that_training_has_not_is_unknown(ratings):
    data = movielens(ratings)
    unseen = np.bincount(data.train.ids.ravel(), minlength=data.rows) == 0
    for part in (data.valid, data.test):
        assert set(np.unique(part.ids[unseen[part.ids]])) <= {0, *data.unknown}
    np.testing.assert_array_equal(data.field_of_row[data.unknown], [0, 1, 2, 3, 4, 5, 6, 6])


def test_rows_of_unknown_values_are_trained(ratings):
    """What else would a table without collisions have for a new user, or a table of shared rows?"""
    (task,) = tasks.tasks_of(ratings, ("dlrm",))
    data, rows = task.data, np.arange(2400)
    ids = data.forget(data.train.ids, np.random.default_rng(0))
    changed = ids != data.train.ids
    assert changed[data.train.ids > 0].mean() == pytest.approx(0.05, abs=0.01)
    assert not changed[data.train.ids == 0].any()
    assert set(ids[changed]) == set(data.unknown)
    assert (data.frequencies[data.unknown] > 0).all()
    model = task.make(METHODS["Hash"](task.rows, task.dim, ratio=1, padding_idx=0, std=0.05))
    for part, is_trained in (("train", True), ("valid", False)):
        model.zero_grad()
        task.loss(model, part, rows, np.random.default_rng(0)).backward()
        assert bool(model.table.weight.grad[data.unknown[:2]].any(1).all()) is is_trained, part


def test_a_cell_is_measured_once(ratings, tmp_path, monkeypatch):
    bench = grid.TablesBench(("Hash", "PQ", "DNIS", "INT8"), (3.0, 40.0), ("dlrm",), seeds=2, epochs=2)
    kept = tmp_path / "out" / "cells.jsonl"
    with Progress() as progress:
        result = grid.run(ratings, bench, kept, progress)
    rows = result.rows()
    assert {(row["method"], row["ratio"]) for row in rows} == {
        ("uncompressed", 1.0), ("Hash", 3.0), ("Hash", 40.0), ("PQ", 3.0), ("DNIS", 3.0), ("DNIS", 40.0), ("INT8", 3.0),
    }  # fmt: skip
    assert set(result.refused()) == {"PQ 40x", "INT8 40x"}
    full = next(row for row in rows if row["ratio"] == 1)
    assert full["auc"] > 0.6
    assert full["bytes"] == 4 * result.config["rows"] * 16
    for row in rows:
        assert row["bytes"] <= full["bytes"] / row["ratio"]
        assert row["params"]["seeds"] == [0, 1]
        assert row["logloss"] > 0
    monkeypatch.setattr(grid, "_measured", lambda *args: pytest.fail("measured again"))
    with Progress() as progress:
        assert grid.run(ratings, bench, kept, progress).rows() == rows
    lines = kept.read_text().splitlines(keepends=True)
    kept.write_text("".join(lines[:-1]) + lines[-1][:30])
    monkeypatch.undo()
    with Progress() as progress:
        again = grid.run(ratings, bench, kept, progress)
    assert [json.loads(line)["method"] for line in kept.read_text().splitlines()] == [
        json.loads(line)["method"] for line in lines
    ]
    assert again.rows()[-1]["auc"] == rows[-1]["auc"]
    older = [{**json.loads(line), "protocol": 1} for line in lines]
    kept.write_text("".join(json.dumps(cell) + "\n" for cell in older))
    with Progress() as progress:
        grid.run(ratings, bench, kept, progress)
    assert len(kept.read_text().splitlines()) == 2 * len(lines)  # cells of an older protocol are measured anew
    kept.write_text("nonsense\n" + lines[0])
    with Progress() as progress, pytest.raises(DataFormatError, match="line 1"):
        grid.run(ratings, bench, kept, progress)


def test_a_search_whose_values_go_on_is_no_longer_than_the_table_needs(ratings):
    (task,) = tasks.tasks_of(ratings, ("dlrm",))
    runs = training.Runs(task, 6)
    runs._full[0] = object()
    for best, expected in ((0, 1), (2, 2), (6, 3)):
        runs._best[0] = best
        assert runs._search_epochs(METHODS["DNIS"], 0) == expected
        assert runs._search_epochs(METHODS["AutoDim"], 0) == 3


@pytest.mark.parametrize("model", ["wide-deep", "deepfm"])
def test_click_models_learn(ratings, model, tmp_path):
    bench = grid.TablesBench(("CompoEmb",), (3.0,), (model,), seeds=1, epochs=4)
    with Progress() as progress:
        rows = grid.run(ratings, bench, tmp_path / "cells.jsonl", progress).rows()
    assert rows[0]["auc"] > 0.65


def test_pairs_are_learned(likes, tmp_path, monkeypatch):
    data = Likes.read(likes)
    assert (data.users, data.items, len(data.test)) == (40, 60, 120)
    assert len(data.train) + len(data.valid) == 480
    others = data.others(np.repeat(np.arange(40), 20), np.random.default_rng(0))
    known = {tuple(pair) for pair in data.train.tolist()}
    assert sum(pair in known for pair in zip(np.repeat(np.arange(40), 20).tolist(), others.tolist())) <= 2
    bench = grid.TablesBench(("AutoDim", "ROBE"), (4.0,), (), seeds=1, epochs=30)
    monkeypatch.setattr(tasks.GraphTask, "batch", 64)
    monkeypatch.setattr(tasks.GraphTask, "lr", 0.02)
    monkeypatch.setattr(training, "_PATIENCE", 100)  # few pairs are held out, and their measure jumps
    with Progress() as progress:
        result = grid.run(likes, bench, tmp_path / "cells.jsonl", progress)
    assert result.measures == ["recall@20", "ndcg@20"]
    full = [row for row in result.rows() if row["ratio"] == 1]
    assert [row["params"]["model"] for row in full] == ["bpr-mf", "lightgcn"]
    assert all(row["recall@20"] > 0.9 for row in full)  # by chance 20 of the 48 that are left: 0.42


def test_every_method_runs_on_clicks(ratings, tmp_path):
    bench = grid.TablesBench((*METHODS, "uniform"), (1.5,), ("dlrm",), seeds=1, epochs=1)
    with Progress() as progress:
        result = grid.run(ratings, bench, tmp_path / "cells.jsonl", progress)
    assert {row["method"] for row in result.rows()} >= set(METHODS) - {
        "DHE", "PQ", "RVQ", "DPQ", "MGQE", "RaBitQ", "FP16", "INT16"
    }  # fmt: skip


def test_what_is_asked_for_is_checked(ratings, tmp_path):
    for wrong in ({"methods": ("Zip",)}, {"ratios": (0.0,)}, {"seeds": 0}, {"epochs": 0}):
        with pytest.raises(ParameterError):
            grid.TablesBench(**wrong)
    with Progress() as progress:
        with pytest.raises(ParameterError, match="lightgcn"):
            grid.run(ratings, grid.TablesBench(models=("lightgcn",)), tmp_path / "x", progress)
        with pytest.raises(DataFormatError, match="expected a folder"):
            grid.run(tmp_path, grid.TablesBench(), tmp_path / "x", progress)
    (tmp_path / "u.data.gz").write_bytes(b"no gzip")
    with pytest.raises(DataFormatError, match="MovieLens"):
        tasks.tasks_of(tmp_path, ("dlrm",))


def test_auc_is_the_share_of_pairs_in_order():
    rng = np.random.default_rng(0)
    scores, labels = rng.integers(0, 9, 200).astype(float), rng.random(200) < 0.3
    above = scores[labels][:, None] - scores[~labels][None]
    assert auc(scores, labels) == pytest.approx(((above > 0) + 0.5 * (above == 0)).mean())
    assert auc(np.array([1.0, 2.0]), np.array([0, 1])) == 1
    with pytest.raises(ParameterError, match="expected both"):
        auc(np.array([1.0, 2.0]), np.array([1, 1]))
    assert log_loss(np.array([0.8, 0.4]), np.array([1, 0])) == pytest.approx(-(np.log(0.8) + np.log(0.6)) / 2)


def test_recall_and_ndcg_of_lists():
    found = np.array([[3, 1, 7], [0, 2, 4], [5, 6, 8]])
    wanted = [np.array([1, 9]), np.array([0, 2, 4, 11]), np.array([], int)]
    recall, ndcg = recall_and_ndcg(found, wanted)
    assert recall == pytest.approx((0.5 + 0.75) / 2)
    assert ndcg == pytest.approx((1 / np.log2(3) / (1 + 1 / np.log2(3)) + 1) / 2)
    assert recall_and_ndcg(np.array([[0, 1], [-1, 2]]), [np.array([5]), np.array([2])])[0] == pytest.approx(0.5)


@pytest.mark.parametrize("columns", [5, 319, 320, 321, 1000, 1311])
def test_the_best_columns_of_scores(columns):
    scores = torch.randn(6, columns, generator=torch.Generator().manual_seed(columns))
    scores[1, 5:] = -torch.inf
    scores[2] = scores[2].sort(descending=True).values
    scores[3] = scores[3].round()  # many are equal
    scores[4] = 0
    expected = scores.sort(dim=1, descending=True, stable=True).indices[:, :5]  # the lower column among equals
    np.testing.assert_array_equal(tasks.best_columns(scores, 5), expected)


def test_lightgcn_spreads_and_has_the_gradient_of_the_dense_product():
    rng = np.random.default_rng(0)
    users, items = 7, 9
    drawn = np.unique(rng.integers(0, users * items, 30))
    pairs = np.stack([drawn // items, drawn % items], 1)
    table = torch.nn.Embedding(users + items, 5)
    model = models.LightGCN(table, users, pairs)
    adjacency = torch.zeros(users + items, users + items)
    adjacency[pairs[:, 0], users + pairs[:, 1]] = 1
    adjacency += adjacency.T.clone()
    degrees = adjacency.sum(1).clamp_min(1)
    dense = adjacency / (degrees[:, None] * degrees).sqrt()
    layers = [table.weight]
    for _ in range(3):
        layers.append(dense @ layers[-1])
    expected = sum(layers) / 4
    assert torch.allclose(model.every(), expected, atol=1e-6)
    assert torch.allclose(copy.deepcopy(model).every(), expected, atol=1e-6)
    weights = torch.from_numpy(rng.standard_normal((users + items, 5)).astype(np.float32))
    (wanted,) = torch.autograd.grad((expected * weights).sum(), table.weight)
    (found,) = torch.autograd.grad((model.every() * weights).sum(), table.weight)
    assert torch.allclose(found, wanted, atol=1e-6)
