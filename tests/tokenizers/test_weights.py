"""States in safetensors files."""

import pytest

pytest.importorskip("torch")
pytest.importorskip("safetensors")

import torch
from all_tokenizers import DIM, MAKERS

from annvq.errors import DataFormatError, ParameterError
from annvq.tokenizers import VectorQuantizer, load_weights, save_weights


@pytest.mark.parametrize("name", MAKERS)
def test_weights_come_back(name, tmp_path):
    torch.manual_seed(0)
    quantizer, other = MAKERS[name](), MAKERS[name]()
    quantizer(torch.randn(30, DIM))
    save_weights(tmp_path / "weights.safetensors", quantizer)
    load_weights(tmp_path / "weights.safetensors", other)
    for key, value in quantizer.state_dict().items():
        assert torch.equal(value, other.state_dict()[key]), key


def test_other_files_are_refused(tmp_path):
    path = tmp_path / "weights.safetensors"
    save_weights(path, VectorQuantizer(DIM, 4))
    other = VectorQuantizer(DIM, 5)
    before = {key: value.clone() for key, value in other.state_dict().items()}
    with pytest.raises(ParameterError, match="another module"):
        load_weights(path, other)
    with pytest.raises(ParameterError, match="bias is None"):
        load_weights(path, torch.nn.Linear(2, 2))
    path.write_bytes(path.read_bytes()[:50])
    with pytest.raises(DataFormatError):
        load_weights(path, other)
    with pytest.raises(FileNotFoundError):
        load_weights(tmp_path / "missing", other)
    for key, value in other.state_dict().items():
        assert torch.equal(value, before[key])
