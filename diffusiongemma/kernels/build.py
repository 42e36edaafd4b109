"""Compiles the kernels in `csrc` into `lib`, one library for each instruction set and one for automata: part of the
package's build, and by hand where it was installed without a compiler.

    python -m diffusiongemma.kernels.build
"""

from __future__ import annotations

import os
import platform
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

HERE = Path(__file__).parent
SOURCE, LIBRARIES = HERE / "csrc" / "products.cpp", HERE / "lib"
AUTOMATA = "automata"  # its library needs neither torch nor OpenMP, nor any instructions in particular
# Best first. What a compiler or a processor does not have is passed over.
AVX2 = ("-mavx2", "-mfma", "-mf16c")
AVX512 = (*AVX2, "-mavx512f", "-mavx512bw", "-mavx512vl", "-mavx512vnni")
INTEL: dict[str, tuple[str, ...]] = {
    "amx": (*AVX512, "-mavx512bf16", "-mavx512vbmi", "-mamx-tile", "-mamx-bf16"),
    "avx512": AVX512,
    "avx2": AVX2,
}
ARM = {"dotprod": ("-DNEON", "-march=armv8.2-a+dotprod"), "neon": ("-DNEON", "-march=armv8-a")}
INSTRUCTION_SETS = {**INTEL, **ARM, "plain": ()}
OF_MACHINES = dict.fromkeys(("x86_64", "amd64"), INTEL) | dict.fromkeys(("aarch64", "arm64"), ARM)
COMMON = ("-O3", "-std=c++17", "-fPIC", "-fvisibility=hidden", "-fno-exceptions", "-fno-rtti")
# Sums are written with the fused multiply-adds that they mean, and nothing else is fused: all sets round alike.
ROUNDING = ("-ffp-contract=off", "-fno-math-errno", "-fno-trapping-math")


def library(name: str) -> Path:
    return LIBRARIES / f"packed-{name}.so"


def automata_library() -> Path:
    return LIBRARIES / f"{AUTOMATA}.so"


def compiler() -> str | None:
    """The C++ compiler that `CXX` names, or the first of the usual ones; None where there is none."""
    names = (os.environ.get("CXX"), "g++", "clang++", "c++")
    return next((found for name in names if name and (found := shutil.which(name))), None)


def build() -> dict[str, str]:
    """Compile every set that this kind of machine may have, and automata -> what went wrong, by name, if anything did.

    Threads are OpenMP's where the compiler has them; whose library that is is decided on loading
    (`kernels.native`).
    """
    program, every = compiler(), (*INSTRUCTION_SETS, AUTOMATA)
    if program is None:
        return dict.fromkeys(every, "no C++ compiler was found")
    if os.name != "posix":
        return dict.fromkeys(every, f"not known how to build on {platform.system()}")
    LIBRARIES.mkdir(exist_ok=True)
    names = [*OF_MACHINES.get(platform.machine().lower(), ()), "plain"]
    errors = {name: error for name in names if (error := _compile(program, name))}
    if error := _compile_automata(program):
        errors[AUTOMATA] = error
    return errors


def flags_of(name: str) -> tuple[str, ...]:
    return (*COMMON, *ROUNDING, *INSTRUCTION_SETS[name])


def _compile(program: str, name: str) -> str:
    """Names of OpenMP are left open in the library, so that they are found in the one that torch has loaded."""
    flags = flags_of(name)
    with tempfile.TemporaryDirectory(dir=LIBRARIES) as temporary:
        object_file, made = Path(temporary) / "made.o", Path(temporary) / "made.so"
        linux = sys.platform == "linux"
        compiled = [program, *flags, *(["-fopenmp"] if linux else []), "-w", "-c", str(SOURCE), "-o", str(object_file)]
        loose = ["-nostdlib", "-lc", "-lm", "-lgcc"] if linux else []
        linked = [program, "-shared", str(object_file), "-o", str(made), *loose]
        if error := _run(compiled) or _run(linked):
            return error
        made.replace(library(name))  # whole or not at all: another process may be loading it
    return ""


def _compile_automata(program: str) -> str:
    flags = ("-O3", "-std=c++17", "-fPIC", "-fvisibility=hidden", "-w", "-shared")
    own_copies = ("-static-libstdc++", "-static-libgcc") if sys.platform == "linux" else ()
    with tempfile.TemporaryDirectory(dir=LIBRARIES) as temporary:
        made = Path(temporary) / "made.so"
        source = SOURCE.with_name("automata.cpp")
        if error := _run([program, *flags, *own_copies, str(source), "-o", str(made)]):
            return error
        made.replace(automata_library())
    return ""


def _run(command: list[str]) -> str:
    """What went wrong, in a line."""
    done = subprocess.run(command, capture_output=True, text=True)
    return (done.stderr.strip().splitlines() or ["the compiler failed"])[-1] if done.returncode else ""


if __name__ == "__main__":
    errors = build()
    for name in (*INSTRUCTION_SETS, AUTOMATA):
        if name in errors or (name == AUTOMATA or library(name).exists()):
            print(f"{name}: {errors.get(name, 'built')}")
    sys.exit(len(errors) > len(INSTRUCTION_SETS))
