//===- TableBits.cpp - Forms of bit operations ----------------------------===//
//
// Logic, shifts, bit fields, permutation, and the SIMD-in-a-word video forms.
//
//===----------------------------------------------------------------------===//
#include "runtime/emulator/ptx/Table.h"

namespace moert::emulator::ptx {

static const Form forms[] = {
    // clang-format off
    {Opcode::And, "and T=b16,b32,b64", "d s s", 0, 0},
    {Opcode::And, "and T=pred", "d p p", 0, 0},
    {Opcode::Or, "or T=b16,b32,b64", "d s s", 0, 0},
    {Opcode::Or, "or T=pred", "d p p", 0, 0},
    {Opcode::Xor, "xor T=b16,b32,b64", "d s s", 0, 0},
    {Opcode::Xor, "xor T=pred", "d p p", 0, 0},
    {Opcode::Not, "not T=b16,b32,b64", "d s", 0, 0},
    {Opcode::Not, "not T=pred", "d p", 0, 0},
    {Opcode::Cnot, "cnot T=b16,b32,b64", "d s", 0, 0},
    {Opcode::Lop3, "lop3 T=b32", "d s s s i:u32", 43, 50},
    {Opcode::Lop3, "lop3 boolor|booland T=b32", "d~|P s s s i:u32 p", 82, 70},
    {Opcode::Shl, "shl T=b16,b32,b64", "d s s:u32", 0, 0},
    {Opcode::Shr, "shr T=b16,b32,b64,u16,u32,u64,s16,s32,s64", "d s s:u32", 0, 0},
    {Opcode::Shf, "shf l|r clamp|wrap T=b32", "d s s s:u32", 31, 32},
    {Opcode::Popc, "popc T=b32,b64", "d:u32 s", 20, 0},
    {Opcode::Clz, "clz T=b32,b64", "d:u32 s", 20, 0},
    {Opcode::Bfind, "bfind shiftamt? T=u32,u64,s32,s64", "d:u32 s", 20, 0},
    {Opcode::Brev, "brev T=b32,b64", "d s", 20, 0},
    {Opcode::Bfe, "bfe T=u32,u64,s32,s64", "d s s:u32 s:u32", 20, 0},
    {Opcode::Bfi, "bfi T=b32,b64", "d s s s:u32 s:u32", 20, 0},
    {Opcode::Bmsk, "bmsk clamp|wrap T=b32", "d s s", 76, 70},
    {Opcode::Szext, "szext clamp|wrap T=u32,s32", "d s s:u32", 76, 70},
    {Opcode::Fns, "fns T=b32", "d s s s:s32", 60, 30},
    {Opcode::Prmt, "prmt T=b32 <prmt>?", "d s s s", 20, 0},
    {Opcode::Vabsdiff4, "vabsdiff4 T=u32,s32 T=u32,s32 T=u32,s32 sat?", "d s1 s2 s", 30, 0},
    {Opcode::Vabsdiff4, "vabsdiff4 T=u32,s32 T=u32,s32 T=u32,s32 add", "d s1 s2 s", 30, 0},
    {Opcode::Vadd4, "vadd4 T=u32,s32 T=u32,s32 T=u32,s32 sat?", "d s1 s2 s", 30, 0},
    {Opcode::Vsub4, "vsub4 T=u32,s32 T=u32,s32 T=u32,s32 sat?", "d s1 s2 s", 30, 0},
    {Opcode::Vmin4, "vmin4 T=u32,s32 T=u32,s32 T=u32,s32 sat?", "d s1 s2 s", 30, 0},
    {Opcode::Vmax4, "vmax4 T=u32,s32 T=u32,s32 T=u32,s32 sat?", "d s1 s2 s", 30, 0},
    // clang-format on
};

FormList bitForms() { return {forms, sizeof(forms) / sizeof(forms[0])}; }

} // namespace moert::emulator::ptx
