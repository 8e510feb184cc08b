import pytest

from annvq.cli.arguments import repeat_recipes


@pytest.mark.parametrize(
    ("given", "spelled"),
    [
        ("bench ann x.npz", "bench ann x.npz"),
        ("--recipe flat", "--recipe flat"),
        ("--recipe flat small --json f", "--recipe flat --recipe small --json f"),
        ("--recipe IVF16,Flat flat x.npz", "--recipe IVF16,Flat --recipe flat x.npz"),
        ("--recipe flat auto x.npz", "--recipe flat --recipe auto x.npz"),
        ("--recipe flat -o out", "--recipe flat -o out"),
        ("--recipe nonsense x.npz", "--recipe nonsense x.npz"),
        ("--recipe", "--recipe"),
        ("--recipe flat --recipe small", "--recipe flat --recipe small"),
    ],
)
def test_recipes_may_follow_each_other(given, spelled):
    assert repeat_recipes(given.split()) == spelled.split()
