"""What all quantizers have in common."""

import numpy as np
import pytest

pytest.importorskip("torch")

import torch
from all_tokenizers import DIM, MAKERS

from annvq.errors import DtypeError, NonFiniteError, ParameterError, ShapeError
from annvq.tokenizers import mask_of_lengths

NAMES = pytest.mark.parametrize("name", MAKERS)


@pytest.fixture
def z():
    torch.manual_seed(0)
    return torch.randn(3, 5, DIM, requires_grad=True)


def made(name, steps=2):
    """Return a quantizer after a few training steps."""
    torch.manual_seed(1)
    quantizer = MAKERS[name]()
    for _ in range(steps):
        quantizer(torch.randn(40, DIM))
    return quantizer


def drops(quantizer):
    """Return whether some stages may be left out in training."""
    return any(getattr(module, "quantizer_dropout", 0) for module in quantizer.modules())


def codes_shape(quantizer, shape):
    return shape if quantizer.num_codebooks is None else (*shape, quantizer.num_codebooks)


@NAMES
def test_shapes_and_dtypes(name, z):
    quantizer = made(name)
    found = quantizer(z)
    assert found.z_q.shape == z.shape
    assert found.z_q.dtype == z.dtype
    assert found.codes.shape == codes_shape(quantizer, (3, 5))
    assert found.codes.dtype == torch.int64
    assert found.loss.shape == ()
    assert (0 if not drops(quantizer) else -1) <= found.codes.min()
    assert found.codes.max() < quantizer.codebook_size
    assert {"utilization", "perplexity"} <= set(found.stats)
    assert all(value.shape == () and not value.requires_grad for value in found.stats.values())
    flat = quantizer(z.detach().reshape(15, DIM))
    assert flat.codes.shape == codes_shape(quantizer, (15,))
    assert quantizer.bits_per_vector == pytest.approx(
        (quantizer.num_codebooks or 1) * np.log2(quantizer.codebook_size), rel=0.9
    )


@NAMES
def test_encode_decode_and_forward_agree(name, z):
    quantizer = made(name).eval()
    found = quantizer(z)
    assert torch.equal(quantizer.encode(z), found.codes)
    torch.testing.assert_close(quantizer.decode(found.codes), found.z_q, rtol=0, atol=1e-6)
    again = quantizer(z)
    assert torch.equal(again.codes, found.codes)  # eval mode changes nothing
    if quantizer.codebook_size < 1 << 31:
        assert torch.equal(quantizer.decode(found.codes.to(torch.int32)), quantizer.decode(found.codes))
    assert torch.equal(quantizer.encode(z[:1]), found.codes[:1])  # a batch of one


@NAMES
def test_gradients_reach_z_and_parameters(name, z):
    quantizer = made(name).train()
    found = quantizer(z)
    if name == "k-means":  # which has nothing to learn by gradients
        assert not found.z_q.requires_grad
        assert not list(quantizer.parameters())
        return
    (found.z_q.square().sum() + found.loss).backward()
    assert torch.isfinite(z.grad).all()
    assert z.grad.abs().sum() > 0
    for parameter in quantizer.parameters():
        assert parameter.grad is not None or drops(quantizer)
        assert parameter.grad is None or torch.isfinite(parameter.grad).all()


@NAMES
def test_masked_vectors_have_no_effect(name, z):
    mask = mask_of_lengths(torch.tensor([5, 0, 3]), 5)
    spoilt = torch.where(mask[..., None], z.detach(), torch.nan)
    one, other = made(name), made(name)
    torch.manual_seed(3)
    found = one(spoilt, mask)
    torch.manual_seed(3)
    expected = other(z.detach()[mask])
    assert (found.codes[~mask] == -1).all()
    assert (found.z_q[~mask] == 0).all()
    assert torch.equal(found.codes[mask], expected.codes)
    assert torch.equal(found.loss, expected.loss)
    for key, value in one.state_dict().items():
        assert torch.equal(value, other.state_dict()[key]), key
    one.eval()
    decoded = one.decode(one.encode(spoilt, mask))
    assert (decoded[~mask] == 0).all()
    torch.testing.assert_close(decoded, one(spoilt, mask).z_q, rtol=0, atol=1e-6)


@NAMES
def test_nothing_at_all_is_quantized_to_nothing(name, z):
    for training in (True, False):
        quantizer = made(name).train(training)
        before = {key: value.clone() for key, value in quantizer.state_dict().items() if key.endswith("codebook")}
        masked = quantizer(z, torch.zeros(3, 5, dtype=torch.bool))
        assert (masked.codes == -1).all()
        assert (masked.z_q == 0).all()
        assert masked.loss == 0
        if name != "k-means":
            (masked.loss + masked.z_q.sum()).backward()
        empty = quantizer(z[:0])
        assert empty.z_q.shape == (0, 5, DIM)
        assert empty.codes.shape == codes_shape(quantizer, (0, 5))
        assert quantizer.decode(empty.codes).shape == (0, 5, DIM)
        for key, value in before.items():
            torch.testing.assert_close(quantizer.state_dict()[key], value, rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize("name", ["vector", "vector-balanced", "residual-projected"])
def test_averages_do_not_fade_where_all_is_masked(name, z):
    quantizer = made(name)
    before = {key: value.clone() for key, value in quantizer.state_dict().items()}
    for _ in range(20):
        quantizer(z.detach(), torch.zeros(3, 5, dtype=torch.bool))
    for key, value in quantizer.state_dict().items():
        assert torch.equal(value, before[key]), key


@NAMES
def test_batches_of_one_train(name):
    quantizer = made(name, steps=0)
    for _ in range(3):
        found = quantizer(torch.ones(1, DIM))
        assert torch.isfinite(found.loss)
        assert torch.isfinite(found.z_q).all()


@NAMES
def test_bad_input_is_refused(name, z):
    quantizer = made(name)
    state = {key: value.clone() for key, value in quantizer.state_dict().items()}
    spoilt = z.detach().clone()
    spoilt[1, 2, 3] = torch.nan
    with pytest.raises(NonFiniteError, match="NaN or infinity in 1 of 15"):
        quantizer(spoilt)
    with pytest.raises(NonFiniteError):
        quantizer.encode(spoilt)
    with pytest.raises(ShapeError, match=r"expected \(batch, ..., 8\)"):
        quantizer(torch.zeros(3, DIM + 1))
    with pytest.raises(ShapeError):
        quantizer(torch.zeros(DIM))
    with pytest.raises(DtypeError, match="int64"):
        quantizer(torch.zeros(3, DIM, dtype=torch.int64))
    with pytest.raises(DtypeError, match="list"):
        quantizer([[0.0] * DIM])
    with pytest.raises(ShapeError, match="mask"):
        quantizer(z, torch.ones(3, dtype=torch.bool))
    for mask in (torch.ones(3, 5), np.ones((3, 5), bool), [[True] * 5] * 3):
        with pytest.raises(DtypeError, match="mask"):
            quantizer(z, mask)
    for key, value in quantizer.state_dict().items():
        assert torch.equal(value, state[key])


@NAMES
def test_bad_codes_are_refused(name):
    quantizer = made(name).eval()
    codes = quantizer.encode(torch.randn(4, DIM))
    with pytest.raises(ParameterError, match="expected 0 to"):
        quantizer.decode(torch.full_like(codes, quantizer.codebook_size))
    with pytest.raises(ParameterError):
        quantizer.decode(torch.full_like(codes, -2))
    with pytest.raises(DtypeError):
        quantizer.decode(codes.float())
    if quantizer.num_codebooks is not None:
        with pytest.raises(ShapeError):
            quantizer.decode(codes[:, :-1])


@NAMES
def test_states_come_back(name, z):
    quantizer, other = made(name).eval(), made(name, steps=0).eval()
    other.load_state_dict(quantizer.state_dict())
    assert torch.equal(other.encode(z), quantizer.encode(z))
    torch.testing.assert_close(other(z).z_q, quantizer(z).z_q)


@NAMES
def test_scores_are_float32_under_autocast(name, z):
    quantizer = made(name).eval()
    z = z.detach().to(torch.bfloat16)
    expected = quantizer(z.float())
    with torch.autocast("cpu", dtype=torch.bfloat16):
        found = quantizer(z)
    assert torch.equal(found.codes, expected.codes)
    assert found.z_q.dtype == torch.bfloat16
    torch.testing.assert_close(found.z_q, expected.z_q.bfloat16())
    torch.testing.assert_close(found.loss, expected.loss)


@NAMES
def test_float64_is_computed_in_float64(name, z):
    quantizer = made(name).eval()
    found = quantizer(z.detach().double())
    assert found.z_q.dtype == torch.float64
    assert torch.equal(found.codes, quantizer(z).codes)
    torch.testing.assert_close(quantizer.decode(found.codes).double(), found.z_q, rtol=0, atol=1e-5)


@NAMES
def test_a_float64_module_decodes_in_float64(name, z):
    quantizer = made(name).double().eval()
    found = quantizer(z.detach().double())
    decoded = quantizer.decode(found.codes)
    has_numbers = any(value.is_floating_point() for value in quantizer.state_dict().values())
    assert decoded.dtype == (torch.float64 if has_numbers else torch.get_default_dtype())
    torch.testing.assert_close(decoded.double(), found.z_q, rtol=0, atol=1e-12 if has_numbers else 1e-6)


def test_masks_of_lengths():
    assert mask_of_lengths(torch.tensor([0, 2]), 3).tolist() == [[False] * 3, [True, True, False]]
    for lengths in ([4, 0], [-1, 3]):
        with pytest.raises(ParameterError, match="0 to 3 places"):
            mask_of_lengths(torch.tensor(lengths), 3)
    for lengths in ([1, 2], torch.tensor([1.5])):
        with pytest.raises(DtypeError, match="lengths"):
            mask_of_lengths(lengths, 3)


def test_usage_is_that_of_the_batch():
    from annvq.tokenizers.quantized import usage_of

    found = usage_of(torch.tensor([0, 0, 1, 1, -1]), 8)
    assert found["utilization"] == 0.25
    assert found["perplexity"] == pytest.approx(2.0)
    columns = usage_of(torch.tensor([[0, 0], [0, 1]]), 2)
    assert columns["utilization"] == 0.75
    assert columns["perplexity"] == pytest.approx(1.5)
