"""FP8 and four-bit codes to half precision on the GPU, two values an instruction.

Reading weights at the speed of memory leaves few instructions for each: an H100 (SXM: 3.35 TB/s, 132 multiprocessors
of 128 lanes at 1.75 GHz, by its data sheet) reads 6.7e12 four-bit codes a second and starts 3.0e13 instructions.
What the compiler makes of plain arithmetic on bytes takes 7 to 10 a weight with the loop around it, these take 4 to 5
(counted in the machine code of `moe_gate_up` for SM89 and SM90). None needs FP8 hardware; all exist since SM80.

A value is put together in the bits of a float: two halves are cut out of a word and combined with a constant by one
`lop3`, (a & mask) ^ constant. All results are exact.
"""

from __future__ import annotations

import triton
import triton.language as tl

__all__ = ["float8_values", "int4_values"]

# u = code ^ 8 is the value + 8. Lower halves of bytes: 1024 + u, less 1032; upper ones: (1024 + 16 u) / 16 - 72.
_INT4_TO_FLOAT16 = tl.constexpr("""
{
.reg .b32 a, b, big, sixteenth, less;
prmt.b32 a, $4, 0, 0x4140;
prmt.b32 b, $4, 0, 0x4342;
mov.b32 big, 0x64086408;
mov.b32 sixteenth, 0x2C002C00;
mov.b32 less, 0xD480D480;
lop3.b32 $0, a, 0x000F000F, 0x64086408, 0x6A;
lop3.b32 $1, b, 0x000F000F, 0x64086408, 0x6A;
lop3.b32 $2, a, 0x00F000F0, 0x64806480, 0x6A;
lop3.b32 $3, b, 0x00F000F0, 0x64806480, 0x6A;
sub.f16x2 $0, $0, big;
sub.f16x2 $1, $1, big;
fma.rn.f16x2 $2, $2, sixteenth, less;
fma.rn.f16x2 $3, $3, sixteenth, less;
}
""")

# 128 + u, less 136: bfloat16 has no room for a half byte above another.
_INT4_TO_BFLOAT16 = tl.constexpr("""
{
.reg .b32 a, b, c, d, h, one, less;
shr.u32 h, $4, 4;
prmt.b32 a, $4, 0, 0x4140;
prmt.b32 b, $4, 0, 0x4342;
prmt.b32 c, h, 0, 0x4140;
prmt.b32 d, h, 0, 0x4342;
mov.b32 one, 0x3F803F80;
mov.b32 less, 0xC308C308;
lop3.b32 $0, a, 0x000F000F, 0x43084308, 0x6A;
lop3.b32 $1, b, 0x000F000F, 0x43084308, 0x6A;
lop3.b32 $2, c, 0x000F000F, 0x43084308, 0x6A;
lop3.b32 $3, d, 0x000F000F, 0x43084308, 0x6A;
fma.rn.bf16x2 $0, $0, one, less;
fma.rn.bf16x2 $1, $1, one, less;
fma.rn.bf16x2 $2, $2, one, less;
fma.rn.bf16x2 $3, $3, one, less;
}
""")

# A byte as the upper half of a float16, its exponent and mantissa moved below the sign: 2 ** 8 too small.
_FLOAT8_TO_FLOAT16 = tl.constexpr("""
{
.reg .b32 a, b, c, d, large;
prmt.b32 a, $2, 0, 0x1404;
prmt.b32 b, $2, 0, 0x3424;
mov.b32 large, 0x5C005C00;
shr.u32 c, a, 1;
shr.u32 d, b, 1;
and.b32 c, c, 0x3F803F80;
and.b32 d, d, 0x3F803F80;
lop3.b32 $0, a, 0x80008000, c, 0xEA;
lop3.b32 $1, b, 0x80008000, d, 0xEA;
mul.f16x2 $0, $0, large;
mul.f16x2 $1, $1, large;
}
""")

# The same for bfloat16: 2 ** 120 too small.
_FLOAT8_TO_BFLOAT16 = tl.constexpr("""
{
.reg .b32 a, b, c, d, large, zero;
prmt.b32 a, $2, 0, 0x1404;
prmt.b32 b, $2, 0, 0x3424;
mov.b32 large, 0x7B807B80;
mov.b32 zero, 0x80008000;
shr.u32 c, a, 4;
shr.u32 d, b, 4;
and.b32 c, c, 0x07F007F0;
and.b32 d, d, 0x07F007F0;
lop3.b32 $0, a, 0x80008000, c, 0xEA;
lop3.b32 $1, b, 0x80008000, d, 0xEA;
fma.rn.bf16x2 $0, $0, large, zero;
fma.rn.bf16x2 $1, $1, large, zero;
}
""")


@triton.jit
def int4_values(code: tl.tensor, kind: tl.constexpr) -> tuple[tl.tensor, tl.tensor]:
    """The lower and the upper halves of bytes, two's complement of four bits, as float16 or bfloat16."""
    registers: tl.constexpr = "=r,=r,=r,=r,r"
    if kind == tl.float16:
        low, high = tl.inline_asm_elementwise(
            _INT4_TO_FLOAT16, registers, [code], (tl.float16, tl.float16), is_pure=True, pack=4
        )
    else:
        low, high = tl.inline_asm_elementwise(
            _INT4_TO_BFLOAT16, registers, [code], (tl.bfloat16, tl.bfloat16), is_pure=True, pack=4
        )
    return low, high


@triton.jit
def float8_values(code: tl.tensor, kind: tl.constexpr) -> tl.tensor:
    """E4M3 bytes as float16 or bfloat16; the two codes of NaN become 480 and -480."""
    registers: tl.constexpr = "=r,=r,r"
    if kind == tl.float16:
        value = tl.inline_asm_elementwise(_FLOAT8_TO_FLOAT16, registers, [code], tl.float16, is_pure=True, pack=4)
    else:
        value = tl.inline_asm_elementwise(_FLOAT8_TO_BFLOAT16, registers, [code], tl.bfloat16, is_pure=True, pack=4)
    return value
