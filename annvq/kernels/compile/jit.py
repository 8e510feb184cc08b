"""The one way of compiling kernels: lazily, without the GIL, and kept on disk (`annvq.kernels.compile.cache`)."""

from __future__ import annotations

import contextlib
import gc
from collections.abc import Callable, Iterator
from typing import Any, ClassVar

import llvmlite.binding as llvm
import numba
import numba.extending
from numba.core.codegen import JITCodeLibrary
from numba.core.compiler import CompilerBase, DefaultPassBuilder, Flags
from numba.core.compiler_lock import global_compiler_lock
from numba.core.compiler_machinery import register_pass
from numba.core.dispatcher import Dispatcher
from numba.core.runtime import rtsys
from numba.core.sigutils import normalize_signature
from numba.core.targetconfig import ConfigStack
from numba.core.typed_passes import NativeLowering

from annvq.kernels.compile import messages
from annvq.kernels.compile.cache import cache_of

# An intrinsic is called with other arguments than its code generator takes; this type tells type checkers so.
intrinsic: Callable[[Callable], Callable[..., Any]] = numba.extending.intrinsic

# With reassociation and contraction, reductions are vectorized; NaN and infinity keep their meaning.
REASSOCIATE = {"reassoc", "contract", "nsz", "arcp"}

# Passes of Numba that handle what no kernel has: with blocks, closures, branches on None or types, exceptions,
# expressions of whole arrays, loops over tuples.
_NEEDLESS = {
    "WithLifting", "InlineClosureLikes", "RewriteSemanticConstants", "DeadBranchPrune", "RewriteDynamicRaises",
    "MakeFunctionToJitFunction", "FindLiterallyCalls", "LiteralUnroll", "LiteralPropagationSubPipelinePass",
    "InlineInlinables", "InlineOverloads", "NopythonRewrites", "NoPythonSupportedFeatureValidation",
    "DumpParforDiagnostics",
}  # fmt: skip


class _Flags(Flags):
    """Flags of kernels: one object for all that are equal, because Numba compares flags at every call that it types."""

    _made: ClassVar[dict[str, _Flags]] = {}

    @classmethod
    def like(cls, flags: Flags) -> _Flags:
        """Return the one object that is equal to the given flags; it is not changed from then on."""
        return cls._made.setdefault(repr(flags), cls(flags))

    def copy(self) -> _Flags:
        """Return the same object."""
        return self

    def __hash__(self) -> int:
        return id(self)

    def __eq__(self, other: object) -> bool:
        return self is other


class _Part(JITCodeLibrary):
    """Code that becomes part of the code of a kernel: it is optimized and made machine code only there."""

    def finalize(self) -> None:
        """Leave the code as it is."""
        self._raise_if_finalized()
        for function in self._final_module.functions:
            if not function.is_declaration and function.linkage == llvm.Linkage.external:
                function.linkage = "linkonce_odr"  # several parts may define the function
        self._shared_module = self._final_module
        self._finalized = True

    def _optimize_functions(self, ll_module: Any) -> None:
        """Leave the code as it is, but set the machine that it is for."""
        ll_module.data_layout = self._codegen._data_layout

    def get_pointer_to_function(self, name: str) -> int:
        """Return 0, because there is no machine code."""
        self._ensure_finalized()
        return 0

    @property
    def codegen(self) -> Any:
        """The code generator, without the search for environments.

        Functions that only kernels call need no environment.
        """
        return _NoEnvironment(self._codegen)


class _NoEnvironment:
    def __init__(self, codegen: Any) -> None:
        self._codegen = codegen

    def __getattr__(self, name: str) -> Any:
        return getattr(self._codegen, name)

    def set_env(self, name: str, environment: Any) -> None:
        """Do nothing."""


class _Whole(JITCodeLibrary):
    """The code of a kernel that Python calls, together with all its parts."""

    def add_linking_library(self, library: Any) -> None:
        """Add a library and all the libraries that it needs, each of them once."""
        if library in self._linking_libraries:
            return
        super().add_linking_library(library)
        if isinstance(library, _Part):
            for needed in library._linking_libraries:
                self.add_linking_library(needed)

    def _link_missing(self) -> None:
        """Link libraries once more, as long as that defines functions that are only declared.

        LLVM leaves out whatever nothing refers to yet, and the order of the libraries is that of Numba's lowering.
        """
        missing: set[str] = set()
        while (found := self._declared_only()) and found != missing:
            missing = found
            for library in self._linking_libraries:
                module = library._get_module_for_linking()
                if any(not function.is_declaration and function.name in found for function in module.functions):
                    self._final_module.link_in(module, preserve=True)

    def _declared_only(self) -> set[str]:
        functions = self._final_module.functions
        return {one.name for one in functions if one.is_declaration and one.name.startswith("_ZN")}

    def _optimize_final_module(self) -> None:
        """Optimize all parts together, once.

        Numba's first, cheap round is left out: it serves counted references, of which kernels have few.
        """
        self._link_missing()
        made = self._codegen._module_pass_manager()
        passes, *builder = made if isinstance(made, tuple) else (made,)  # before Numba 0.62, there is no builder
        passes.run(self._final_module, *builder)


@register_pass(mutates_CFG=True, analysis_only=False)
class _KernelLowering(NativeLowering):
    _name = "kernel_lowering"

    def run_pass(self, state: Any) -> Any:
        kind = _Whole if _Compiling.depth == 1 else _Part
        state.library = kind(state.targetctx.codegen(), state.func_id.func_qualname)
        state.library.enable_object_caching()
        return super().run_pass(state)


class _KernelCompiler(CompilerBase):
    """Numba's compiler, with the kinds of libraries above."""

    def define_pipelines(self) -> list[Any]:
        """Return those of Numba's passes that kernels need, with the lowering replaced by `_KernelLowering`."""
        made = DefaultPassBuilder.define_nopython_pipeline(self.state)
        made.passes = [
            (_KernelLowering if one is NativeLowering else one, why)
            for one, why in made.passes
            if one.__name__ not in _NEEDLESS
        ]
        made._ENFORCING = False  # no checks of Numba's own passes
        made._finalized = False
        made.finalize()
        return [made]


class _Compiling:
    """Compiles a kernel, if it is called by another kernel, only as a part of that kernel.

    Numba makes machine code, wrappers and a cache file of every function, which takes nearly half of the time. A
    function that only kernels call needs none of these, because its code becomes part of theirs. If Python calls it
    later, it is compiled again.
    """

    depth = 0  # number of kernels that are being compiled, one within the other; guarded by Numba's lock

    def __init__(self, dispatcher: Any) -> None:
        self._dispatcher = dispatcher
        self._compile = dispatcher.compile
        dispatcher.compile = self.compile
        self._compile_function = dispatcher._compiler.compile
        dispatcher._compiler.compile = self._compile_whole
        dispatcher._compiler._customize_flags = self._flags

    def compile(self, sig: Any) -> Any:
        """Do what `Dispatcher.compile` does."""
        with global_compiler_lock:
            key = tuple(normalize_signature(sig)[0])
            found = self._dispatcher.overloads.get(key)
            is_inner = _Compiling.depth > 0
            if found is not None and (is_inner or not isinstance(found.entry_point, _Inner)):
                return found.entry_point
            if is_inner:
                with self._one_deeper():
                    return self._compile_inner(sig, key)
            try:
                with self._one_deeper(), _without_collection():
                    if found is not None:
                        del self._dispatcher.overloads[key]
                    return self._compile(sig)
            finally:
                messages.end()

    @staticmethod
    @contextlib.contextmanager
    def _one_deeper() -> Iterator[None]:
        _Compiling.depth += 1
        try:
            yield
        finally:
            _Compiling.depth -= 1

    def _compile_whole(self, args: Any, return_type: Any) -> Any:
        """Do what the function's compiler does; `Dispatcher.compile` calls it for what the cache does not have."""
        target = self._dispatcher.targetctx
        rtsys.initialize(target)  # Numba's own code, made once, is not a part
        with _parts(target), _remembered_calls(self._dispatcher.typingctx):
            return self._compile_function(args, return_type)

    def _compile_inner(self, sig: Any, key: Any) -> _Inner:
        args, return_type = normalize_signature(sig)
        made = self._compile_function(args, return_type)
        entry = _Inner()
        self._dispatcher.targetctx.insert_user_function(entry, made.fndesc, [made.library])
        self._dispatcher.overloads[key] = made._replace(entry_point=entry)
        return entry

    def _flags(self, flags: Any) -> Any:
        flags.no_cfunc_wrapper = True
        if _Compiling.depth > 1:
            flags.no_compile = flags.no_cpython_wrapper = True
        return _Flags.like(flags)


_INTERNAL: dict[Any, Any] = {}  # functions of Numba's own that are parts of kernels


@contextlib.contextmanager
def _parts(target: Any) -> Iterator[None]:
    """Make everything that Numba compiles of its own for a kernel a part of this kernel.

    Numba remembers such functions, and links them into whatever needs them next. Parts are of use to kernels alone, and
    would leave the functions of other libraries with symbols that nothing defines, so they are remembered apart.
    """
    codegen = target.codegen()
    before = codegen._library_class, target.cached_internal_func
    codegen._library_class, target.cached_internal_func = _Part, _INTERNAL
    try:
        yield
    finally:
        codegen._library_class, target.cached_internal_func = before


@contextlib.contextmanager
def _remembered_calls(context: Any) -> Iterator[None]:
    """Look up only once what a call with given types returns.

    Numba does so whenever it looks at a call, several times per call.
    """
    look_up = context.resolve_function_type
    known: dict[Any, Any] = {}

    def resolve(function: Any, args: Any, kws: Any) -> Any:
        flags = ConfigStack.top_or_none()
        if kws or isinstance(function, str) or not isinstance(flags, _Flags):
            return look_up(function, args, kws)
        key = function, args, flags
        if key not in known:
            found = look_up(function, args, kws)
            if found is None:  # there may be an answer later, when more types are known
                return None
            known[key] = found
        return known[key]

    context.resolve_function_type = resolve
    try:
        yield
    finally:
        del context.resolve_function_type


@contextlib.contextmanager
def _without_collection() -> Iterator[None]:
    """Pause the collection of cyclic garbage.

    The many small objects of the compiler start it again and again.
    """
    was_enabled = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if was_enabled:
            gc.enable()


class _Inner:
    """Stands for a function that only other kernels can call."""


def entry_of(function: Any, *like: Any) -> Callable:
    """Return what a kernel runs for arguments of the types of ``like``.

    Calling it takes a third less time than calling the kernel, because it does not look at the types of its arguments,
    which must be what they were said to be. A function that is no kernel is returned as it is.
    """
    if not isinstance(function, Dispatcher):
        return function
    kinds = tuple(map(numba.typeof, like))
    found = function.overloads.get(kinds)  # without the lock, which is held while other kernels are compiled
    if found is None or isinstance(found.entry_point, _Inner):
        return function.compile(kinds)
    return found.entry_point


def kernel(function: Callable | None = None, *, fastmath: Any = False, borrows: bool = False) -> Any:
    """Compile ``function`` with Numba on its first call, and keep the result on disk.

    The function runs without the GIL and without bounds checks.

    Parameters
    ----------
    function
        Takes and fills arrays. It raises no errors and allocates only scratch memory.
    fastmath
        ``False`` or a set of LLVM flags such as `REASSOCIATE`; never ``True``.
    borrows
        Whether the function makes no arrays and returns none, so that references to arrays need not be counted.
        Counting takes some twenty cycles per array and call, which matters in what a scan does for every block.

    """

    def compile_lazily(py_func: Callable) -> Any:
        options = dict(nogil=True, boundscheck=False, error_model="numpy", fastmath=fastmath, _nrt=not borrows)
        dispatcher = numba.njit(**options, pipeline_class=_KernelCompiler)(py_func)
        if hasattr(dispatcher, "_cache"):  # under NUMBA_DISABLE_JIT, it is a plain function without a cache
            _Compiling(dispatcher)
            dispatcher._cache = cache_of(py_func)
        return dispatcher

    return compile_lazily if function is None else compile_lazily(function)
