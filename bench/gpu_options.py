"""The options that the scripts of GPUs have in common."""

import argparse
from pathlib import Path

from annvq.gpu.device import resolve
from annvq.io import read_ann_dataset


def parser_of(text, **data):
    """Return a parser of what the scripts have in common; ``text`` is what they say of themselves."""
    parser = argparse.ArgumentParser(description=text, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", type=Path, **data)
    parser.add_argument("--recipe", action="append")
    parser.add_argument("--device", default="cuda")
    parser.add_argument("--n", type=int, help="at most so many vectors")
    parser.add_argument("--json", type=Path)
    return parser


def read(options):
    """Return the data set and its vectors, after seeing that there is such a device."""
    resolve(options.device)
    data = read_ann_dataset(options.data)
    return data, data.base[: options.n]


def shown(figures, options, subtitle):
    """Print figures, and write them where ``--json`` says."""
    figures.show(subtitle, ["--json", str(options.json)] if options.json else [])
