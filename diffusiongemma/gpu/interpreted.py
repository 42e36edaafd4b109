"""Triton's interpreter, in which the kernels are tested without a GPU, mended for numpy 2.4.

That does not take an array of one number for a number, as the interpreter's loops do (triton 3.6). It multiplies
bfloat16 wrongly, so tests are in float32.
"""

from __future__ import annotations

from typing import Any

from triton.runtime import interpreter


def mend() -> None:
    patch = interpreter._patch_lang_tensor

    def with_numbers(tensor: Any, scope: Any) -> None:
        patch(tensor, scope)
        scope.set_attr(tensor, "__index__", lambda self: int(self.handle.data.item()))

    interpreter._patch_lang_tensor = with_numbers
