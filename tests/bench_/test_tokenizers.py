"""The comparison of tokenizers on a few made-up images."""

import gzip
import io
import json
import tarfile

import numpy as np
import pytest

pytest.importorskip("torch")

import torch

from annvq.bench.tokenizers import run as runs
from annvq.bench.tokenizers.autoencoder import Autoencoder
from annvq.bench.tokenizers.cell import Setting, figures_of, train
from annvq.bench.tokenizers.images import Images
from annvq.bench.tokenizers.quantizers import DEFAULT, QUANTIZERS
from annvq.bench.tokenizers.run import CELLS, TokenizerBench, run
from annvq.bench.tokenizers.search import measure_search
from annvq.errors import DataFormatError, ParameterError
from annvq.progress import Progress
from annvq.tokenizers import VectorQuantizer

SETTING = Setting(steps=3, batch=8, dim=16, width=4, usage_images=40)
NAMES = ("vq-256", "fsq-1k", "factorized-2x256")


def blobs(n, seed):
    """Images (n, 28, 28) uint8 of one bright square each."""
    rng = np.random.default_rng(seed)
    pixels = np.zeros((n, 28, 28), np.uint8)
    for image, (y, x) in zip(pixels, rng.integers(0, 20, (n, 2))):
        image[y : y + 8, x : x + 8] = 200
    return pixels


def write_idx(path, pixels):
    with gzip.open(path, "wb") as opened:
        opened.write(np.array([0x803, *pixels.shape], ">u4").tobytes() + pixels.tobytes())


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    made = tmp_path_factory.mktemp("data") / "blobs"
    made.mkdir()
    write_idx(made / "train-images-idx3-ubyte.gz", blobs(60, 0))
    write_idx(made / "t10k-images-idx3-ubyte.gz", blobs(20, 1))
    return made


def silent():
    return Progress()


def test_idx_images_are_read(folder):
    images = Images.read(folder)
    assert images.name == "blobs"
    np.testing.assert_array_equal(images.train[:, 0], blobs(60, 0))
    assert images.test.shape == (20, 1, 28, 28)


def test_jpeg_images_are_read_in_the_order_of_their_numbers(tmp_path):
    image_module = pytest.importorskip("PIL.Image")
    for split in ("train", "test"):
        with tarfile.open(tmp_path / f"{split}.tar.gz", "w:gz") as opened:
            for name, level in (("train/cat/0001.jpg", 50), ("train/dog/0000.jpg", 200), ("train/note.txt", 0)):
                content = io.BytesIO()
                image_module.fromarray(np.full((32, 32, 3), level, np.uint8)).save(content, "JPEG")
                member = tarfile.TarInfo(name)
                member.size = content.getbuffer().nbytes
                opened.addfile(member, io.BytesIO(content.getvalue()))
    images = Images.read(tmp_path)
    assert images.train.shape == (2, 3, 32, 32)
    np.testing.assert_allclose(images.train.mean((1, 2, 3)), [200, 50], atol=2)


def test_damaged_images_are_refused(folder, tmp_path):
    with pytest.raises(DataFormatError, match="expected train-images"):
        Images.read(tmp_path)
    good = (folder / "train-images-idx3-ubyte.gz").read_bytes()
    for bad in (good[:-9], gzip.compress(gzip.decompress(good)[:-1]), gzip.compress(b"short"), b"none"):
        (tmp_path / "train-images-idx3-ubyte.gz").write_bytes(bad)
        with pytest.raises(DataFormatError):
            Images.read(tmp_path)
    (tmp_path / "train-images-idx3-ubyte.gz").unlink()
    (tmp_path / "train.tar.gz").write_bytes(b"no tar")
    pytest.importorskip("PIL.Image")
    with pytest.raises(DataFormatError):
        Images.read(tmp_path)


def test_rows_are_means_over_seeds(folder, tmp_path):
    result = run(folder, TokenizerBench(NAMES, 2, SETTING, search=True), tmp_path, silent())
    rows = result.rows()
    assert [row["quantizer"] for row in rows] == list(NAMES)
    assert [row["bits"] for row in rows] == [8, 10, 16]
    assert [row["bits_per_image"] for row in rows] == [8 * 49, 10 * 49, 16 * 49]
    first = result.cells["vq-256"]
    assert rows[0]["psnr"] == pytest.approx(np.mean([cell.psnr for cell in first]), rel=1e-5)
    assert rows[0]["psnr_spread"] == pytest.approx(np.std([cell.psnr for cell in first], ddof=1), rel=1e-4)
    assert all(0 < row["utilization"] <= 1 and 1 <= row["perplexity"] for row in rows)
    assert rows[0]["tokens"] == 40 * 49
    assert rows[0]["search"]["bytes_per_image"] == 49
    assert rows[0]["search"]["latent_bytes"] == 49 * 16 * 4
    assert 0 <= rows[0]["search"]["recall_codes"] <= 1
    assert result.reconstructions["fsq-1k"].shape == (8, 1, 28, 28)
    json.dumps(rows, allow_nan=False)
    assert figures_of(first[:1], "psnr")["psnr_spread"] is None


def test_an_ended_run_goes_on(folder, tmp_path, monkeypatch):
    asked = TokenizerBench(NAMES[:2], 2, SETTING)
    expected = run(folder, asked, tmp_path / "whole", silent())
    plain, done = runs.run_cell, []

    def until_third(*arguments):
        if len(done) == 3:
            raise KeyboardInterrupt
        done.append(arguments[1:3])
        return plain(*arguments)

    monkeypatch.setattr(runs, "run_cell", until_third)
    with pytest.raises(KeyboardInterrupt):
        run(folder, asked, tmp_path / "ended", silent())
    with open(tmp_path / "ended" / "blobs" / CELLS, "a") as opened:
        opened.write('{"config": {"da')  # killed while writing
    done.clear()
    monkeypatch.setattr(runs, "run_cell", lambda *arguments: done.append(arguments[1:3]) or plain(*arguments))
    again = run(folder, asked, tmp_path / "ended", silent())
    assert done == [("fsq-1k", 1)]
    for one, other in zip(again.rows(), expected.rows()):
        assert {**one, "train_s": 0, "train_s_spread": 0} == {**other, "train_s": 0, "train_s_spread": 0}
    done.clear()
    run(folder, TokenizerBench(NAMES[:1], 1, Setting(**{**vars(SETTING), "steps": 4})), tmp_path / "ended", silent())
    assert done == [("vq-256", 0)]  # of other steps none are there


@pytest.mark.parametrize("name", [name for name in QUANTIZERS if not name.endswith(("8k", "65k", "262k"))])
def test_every_quantizer_trains(name, folder):
    images, steps = Images.read(folder), []
    setting = Setting(steps=2, batch=4, dim=16, width=4)
    model = train(images, name, 0, setting, lambda: steps.append(1))
    assert len(steps) == 2
    made, found = model(torch.rand(2, 1, 28, 28))
    assert made.shape == (2, 1, 28, 28)
    assert torch.isfinite(made).all()
    assert found.codes.shape[:3] == (2, 7, 7)


def test_quantizers_start_from_the_same_autoencoder(folder):
    images, setting = Images.read(folder), Setting(steps=1, batch=4, dim=16, width=4, learning_rate=1e-12)
    one, other = (train(images, name, 5, setting, lambda: None).encoder[0].weight for name in ("vq-256", "bsq-1k"))
    torch.testing.assert_close(one, other, rtol=0, atol=1e-9)


def test_latents_are_normalized_or_not():
    torch.manual_seed(0)
    images = torch.rand(16, 1, 28, 28)
    latents = Autoencoder(1, 8, 4, None).latents(images).flatten(0, 2)
    torch.testing.assert_close(latents.mean(0), torch.zeros(8), rtol=0, atol=1e-5)
    torch.testing.assert_close(latents.var(0), torch.full((8,), 1 / 8), rtol=5e-2, atol=0)
    for quantizer, variance in (("fsq-1k", 1), ("binary-1k", 1), ("latent-2", 1 / 4), ("bsq-1k", 1 / 8)):
        latents = Autoencoder(1, 8, 4, QUANTIZERS[quantizer](8)).latents(images).flatten(0, 2)
        torch.testing.assert_close(latents.var(0), torch.full((8,), float(variance)), rtol=5e-2, atol=0)
    plain = Autoencoder(1, 8, 4, None, normalize=False)
    assert not any("Norm" in type(module).__name__ for module in plain.modules())
    assert plain(images)[0].shape == images.shape


def test_search_figures_of_a_fine_quantizer():
    torch.manual_seed(0)
    items = torch.randn(300, 2, 2)
    quantizer = VectorQuantizer(2, 256).eval()
    quantizer.set_codes(items.reshape(-1, 2)[:256].numpy())
    found = measure_search(quantizer, items, items[:50])
    assert found.recall_latents >= found.recall_codes > 0.5
    assert (found.bytes_per_image, found.latent_bytes, found.images, found.queries) == (2, 16, 300, 50)
    assert measure_search(VectorQuantizer(2, 300), items, items[:50]) is None


def test_names_are_known():
    assert set(DEFAULT) <= set(QUANTIZERS)
    with pytest.raises(ParameterError, match="unknown quantizer 'vq'"):
        TokenizerBench(("vq",))


def test_pictures_are_drawn(folder, tmp_path):
    pytest.importorskip("matplotlib")
    from annvq.bench.tokenizers.pictures import draw

    result = run(folder, TokenizerBench(NAMES, 1, SETTING), tmp_path, silent())
    for path in draw(result, tmp_path / "out"):
        assert path.stat().st_size > 5000


def test_the_command_writes_rows(folder, tmp_path, capsys):
    from annvq.cli.__main__ import main

    arguments = ["bench", "tokenizers", str(folder), "--quantizer", "vq-256", "--quantizer", "lfq-1k", "--steps", "2"]
    arguments += ["--batch", "8", "--no-normalize", "--test-images", "9"]
    arguments += ["--seeds", "2", "--json", str(tmp_path / "r.json"), "--out", str(tmp_path / "out"), "--search"]
    with pytest.raises(SystemExit) as ended:
        main(arguments)
    captured = capsys.readouterr()
    assert not ended.value.code, captured.err
    result = json.loads((tmp_path / "r.json").read_text())
    assert list(result) == ["command", "config", "machine", "rows"]
    assert result["command"] == "bench tokenizers"
    assert [result["config"][name] for name in ("batch", "normalize", "test_images")] == [8, False, 9]
    assert {"quantizer", "bits", "mse", "psnr", "utilization", "perplexity"} <= set(result["rows"][0])
    assert str(tmp_path) not in (tmp_path / "r.json").read_text()
    assert "vq-256" in captured.out
    with pytest.raises(SystemExit) as ended:
        main(["bench", "tokenizers", str(folder), "--quantizer", "none"])
    assert ended.value.code == 2
