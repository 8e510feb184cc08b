"""Compile every kernel as the tests launched it, for three generations of GPUs: no GPU or driver is needed.

    python tests/gpu/cubins.py FOLDER     the folder where the tests noted their launches (ANNVQ_LAUNCHES)

Every form in which a kernel was launched is compiled for compute capability 9.0, and one form of each for the others.
It fails if a kernel does not compile, needs more shared memory than a GPU has, or was launched by no test.
"""

import importlib
import json
import pkgutil
import sys
import time
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path

import triton
from triton.backends.compiler import GPUTarget
from triton.compiler import ASTSource

import annvq.gpu.kernels
from annvq.gpu.launch import tile_queries

ARCHITECTURES = (80, 90, 100)
SHARED_MEMORY = {80: 166_912, 90: 232_448, 100: 232_448}  # bytes of a block at most; CUDA's programming guide, table
NAMES = {"float32": "fp32", "float16": "fp16", "bfloat16": "bf16", "float64": "fp64", "bool": "i1", "uint8": "u8"}


def kernels():
    """Yield module and name of every kernel that is launched from Python."""
    for found in pkgutil.iter_modules(annvq.gpu.kernels.__path__, "annvq.gpu.kernels."):
        module = importlib.import_module(found.name)
        for name, thing in vars(module).items():
            if isinstance(thing, triton.JITFunction) and thing.fn.__module__ == found.name and name[0] != "_":
                yield found.name, name


def typed(name):
    """Return Triton's name of an argument's type."""
    if name[0] != "*":
        return name
    return "*" + NAMES.get(name[1:], name[1:].replace("int", "i"))


def form_of(launch):
    """Return what makes code of its own: a kernel, its constants and the types of what it reads, not sizes."""
    module, name, types, constants = json.loads(launch)
    return module, name, tuple(kind for kind in types if kind[0] == "*"), json.dumps(constants)


def compiled(launch, architecture):
    """Compile one launch; return its name, shared memory and registers spilled, or raise."""
    module, name, types, constants = json.loads(launch)
    kernel = getattr(importlib.import_module(module), name)
    if name in ("propose_rows", "propose_tables"):
        constants["QUERIES"] = tile_queries(architecture // 10)
    options = {"num_warps": constants.pop("num_warps"), "enable_fp_fusion": False}
    given = dict(zip(kernel.arg_names, types, strict=False))
    constants |= {argument: 1 for argument, kind in given.items() if kind == "1"}
    signature = dict.fromkeys(kernel.arg_names, "constexpr")
    signature |= {argument: typed(kind) for argument, kind in given.items() if kind != "1"}
    source = ASTSource(kernel, signature=signature, constexprs=constants)
    done = triton.compile(source, target=GPUTarget("cuda", architecture, 32), options=options)
    assert len(done.asm["cubin"]) > 0
    return name, done.metadata.shared


def main():
    """Compile all launches for all architectures."""
    folder = Path(sys.argv[1])
    noted = sorted({line for path in folder.glob("*.jsonl") for line in path.read_text().split("\n") if line})
    launches = list({form_of(line): line for line in noted}.values())
    launched = {tuple(json.loads(launch)[:2]) for launch in launches}
    began, failures = time.perf_counter(), 0
    cases = [(launch, architecture) for launch in launches for architecture in ARCHITECTURES[1:2]]
    firsts = {tuple(json.loads(launch)[:2]): launch for launch in launches}.values()
    cases += [(launch, architecture) for launch in firsts for architecture in (ARCHITECTURES[0], ARCHITECTURES[2])]
    with ProcessPoolExecutor(3) as pool:
        waiting = [(case, pool.submit(compiled, *case)) for case in cases]
        for (launch, architecture), result in waiting:
            try:
                name, shared = result.result()
                if shared > SHARED_MEMORY[architecture]:
                    raise RuntimeError(f"{name} needs {shared:,} bytes of shared memory")
            except Exception as error:
                failures += 1
                print(f"sm_{architecture}: {launch}: {error}", file=sys.stderr)
    done, seconds = len(cases) - failures, time.perf_counter() - began
    print(f"{len(launched)} kernels in {len(launches)} forms: {done} of {len(cases)} cubins in {seconds:.0f} s")
    missing = set(kernels()) - launched
    if missing:
        print(f"launched by no test: {', '.join(sorted('.'.join(one) for one in missing))}", file=sys.stderr)
    sys.exit(failures > 0 or len(missing) > 0)


if __name__ == "__main__":
    main()
