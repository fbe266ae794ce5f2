//===- TableMemory.cpp - Forms of loads, stores, atomics, fences ----------===//
//
// What a thread does to memory itself; asynchronous copies are in TableCopy.
//
//===----------------------------------------------------------------------===//
#include "runtime/emulator/ptx/Table.h"

namespace moert::emulator::ptx {

#define MEMORY_TYPES "T=b8,b16,b32,b64,u8,u16,u32,u64,s8,s16,s32,s64,f32,f64"
#define LD_SPACE "const|global|local|param|param::entry|param::func|shared|shared::cta|shared::cluster?"
#define ST_SPACE "global|local|param|param::func|shared|shared::cta|shared::cluster?"
#define RED_SEM "relaxed|release? <scope>?"
#define ATOM_SPACE "global|shared|shared::cta|shared::cluster?"
#define HINTS "<evict1>? L2::cache_hint? <prefetch>?"
// Ordered accesses go to memory that others see.
#define VISIBLE "global|shared|shared::cta|shared::cluster?"
#define ATOM_SEM "relaxed|acquire|release|acq_rel? <scope>?"

static const Form forms[] = {
    // clang-format off
    {Opcode::Ld, "ld weak? " LD_SPACE " ca|cg|cs|lu|cv? " HINTS " <vec>? " MEMORY_TYPES, "dV~> m pol", 0, 0},
    {Opcode::Ld, "ld weak? " LD_SPACE " ca|cg|cs|lu|cv? " HINTS " T=b128", "d m pol", 83, 70},
    {Opcode::Ld, "ld volatile " VISIBLE " <prefetch>? <vec>? " MEMORY_TYPES, "dV~> m", 0, 0},
    {Opcode::Ld, "ld relaxed|acquire <scope> " VISIBLE " " HINTS " <vec>? " MEMORY_TYPES, "dV~> m pol", 60, 70},
    {Opcode::Ld, "ld relaxed|acquire <scope> " VISIBLE " " HINTS " T=b128", "d m pol", 83, 70},
    {Opcode::Ld, "ld mmio relaxed sys global? " MEMORY_TYPES, "d> m", 82, 70},
    {Opcode::Ld, "ld global ca|cg|cs? nc " HINTS " <vec>? " MEMORY_TYPES, "dV~> m pol", 31, 32},
    {Opcode::Ld, "ld global ca|cg|cs? nc " HINTS " T=b128", "d m pol", 83, 70},
    {Opcode::Ldu, "ldu global? <vec>? " MEMORY_TYPES, "dV~> m", 20, 0},
    {Opcode::St, "st weak? " ST_SPACE " wb|cg|cs|wt? <evict1>? L2::cache_hint? <vec>? " MEMORY_TYPES, "m sV> pol", 0, 0},
    {Opcode::St, "st weak? " ST_SPACE " wb|cg|cs|wt? <evict1>? L2::cache_hint? T=b128", "m r pol", 83, 70},
    {Opcode::St, "st volatile " VISIBLE " <vec>? " MEMORY_TYPES, "m sV>", 0, 0},
    {Opcode::St, "st relaxed|release <scope> " VISIBLE " <evict1>? L2::cache_hint? <vec>? " MEMORY_TYPES, "m sV> pol", 60, 70},
    {Opcode::St, "st relaxed|release <scope> " VISIBLE " <evict1>? L2::cache_hint? T=b128", "m r pol", 83, 70},
    {Opcode::St, "st mmio relaxed sys global? " MEMORY_TYPES, "m s>", 82, 70},
    {Opcode::StAsync, "st async weak? shared::cluster? mbarrier::complete_tx::bytes <vec>? T=b32,b64,u32,u64,s32,s64,f32,f64", "m sV m", 81, 90},
    {Opcode::RedAsync, "red async relaxed cluster shared::cluster? mbarrier::complete_tx::bytes inc|dec T=u32", "m s m", 81, 90},
    {Opcode::RedAsync, "red async relaxed cluster shared::cluster? mbarrier::complete_tx::bytes min|max T=u32,s32", "m s m", 81, 90},
    {Opcode::RedAsync, "red async relaxed cluster shared::cluster? mbarrier::complete_tx::bytes add T=u32,s32,u64", "m s m", 81, 90},
    {Opcode::RedAsync, "red async relaxed cluster shared::cluster? mbarrier::complete_tx::bytes and|or|xor T=b32", "m s m", 81, 90},
    {Opcode::Prefetch, "prefetch global|local? L1|L2", "m", 20, 0},
    {Opcode::Prefetch, "prefetch global L2::evict_last|L2::evict_normal", "m", 74, 80},
    {Opcode::Prefetchu, "prefetchu L1", "m", 20, 0},
    {Opcode::PrefetchTensormap, "prefetch const|param? tensormap", "m", 80, 90},
    {Opcode::Applypriority, "applypriority global? L2::evict_normal", "m i:u32", 74, 80},
    {Opcode::Discard, "discard global? L2", "m i:u32", 74, 80},
    {Opcode::Createpolicy, "createpolicy fractional <evict2> L2::evict_first|L2::evict_unchanged? T=b64", "d s:f32?", 74, 80},
    {Opcode::Createpolicy, "createpolicy range global? <evict2> L2::evict_first|L2::evict_unchanged? T=b64", "d m s:u32 s:u32", 74, 80},
    {Opcode::Createpolicy, "createpolicy cvtpolicy L2policy T=b64", "d s", 74, 80},
    {Opcode::Atom, "atom " ATOM_SEM " " ATOM_SPACE " exch L2::cache_hint? T=b32,b64", "d~ m s pol", 0, 0},
    {Opcode::Atom, "atom " ATOM_SEM " " ATOM_SPACE " exch L2::cache_hint? T=b128", "d m r pol", 83, 90},
    {Opcode::Atom, "atom " ATOM_SEM " " ATOM_SPACE " cas T=b32,b64", "d~ m s s", 0, 0},
    {Opcode::Atom, "atom " ATOM_SEM " " ATOM_SPACE " cas T=b16", "d~ m s s", 63, 70},
    {Opcode::Atom, "atom " ATOM_SEM " " ATOM_SPACE " cas T=b128", "d m r r", 83, 90},
    {Opcode::Atom, "atom " ATOM_SEM " " ATOM_SPACE " and|or|xor L2::cache_hint? T=b32,b64", "d~ m s pol", 0, 0},
    {Opcode::Atom, "atom " ATOM_SEM " " ATOM_SPACE " add L2::cache_hint? T=u32,s32,u64,f32", "d~ m s pol", 0, 0},
    {Opcode::Atom, "atom " ATOM_SEM " " ATOM_SPACE " add L2::cache_hint? T=f64", "d~ m s pol", 50, 60},
    {Opcode::Atom, "atom " ATOM_SEM " " ATOM_SPACE " add noftz L2::cache_hint? T=f16", "d~ m s pol", 63, 70},
    {Opcode::Atom, "atom " ATOM_SEM " " ATOM_SPACE " add noftz L2::cache_hint? T=f16x2", "d~ m s pol", 62, 60},
    {Opcode::Atom, "atom " ATOM_SEM " " ATOM_SPACE " add noftz L2::cache_hint? T=bf16,bf16x2", "d~ m s pol", 78, 90},
    {Opcode::Atom, "atom " ATOM_SEM " " ATOM_SPACE " min|max L2::cache_hint? T=u32,s32,u64,s64", "d~ m s pol", 0, 0},
    {Opcode::Atom, "atom " ATOM_SEM " " ATOM_SPACE " inc|dec L2::cache_hint? T=u32", "d~ m s pol", 0, 0},
    {Opcode::Atom, "atom " ATOM_SEM " global? add L2::cache_hint? v2|v4 T=f32", "dV m sV pol", 81, 90},
    {Opcode::Atom, "atom " ATOM_SEM " global? add|min|max noftz L2::cache_hint? v2|v4|v8 T=f16,bf16", "dV m sV pol", 81, 90},
    {Opcode::Atom, "atom " ATOM_SEM " global? add|min|max noftz L2::cache_hint? v2|v4 T=f16x2,bf16x2", "dV m sV pol", 81, 90},
    {Opcode::Red, "red " RED_SEM " " ATOM_SPACE " and|or|xor L2::cache_hint? T=b32,b64", "m s pol", 0, 0},
    {Opcode::Red, "red " RED_SEM " " ATOM_SPACE " add L2::cache_hint? T=u32,s32,u64,f32", "m s pol", 0, 0},
    {Opcode::Red, "red " RED_SEM " " ATOM_SPACE " add L2::cache_hint? T=f64", "m s pol", 50, 60},
    {Opcode::Red, "red " RED_SEM " " ATOM_SPACE " add noftz L2::cache_hint? T=f16", "m s pol", 63, 70},
    {Opcode::Red, "red " RED_SEM " " ATOM_SPACE " add noftz L2::cache_hint? T=f16x2", "m s pol", 62, 60},
    {Opcode::Red, "red " RED_SEM " " ATOM_SPACE " add noftz L2::cache_hint? T=bf16,bf16x2", "m s pol", 78, 90},
    {Opcode::Red, "red " RED_SEM " " ATOM_SPACE " min|max L2::cache_hint? T=u32,s32,u64,s64", "m s pol", 0, 0},
    {Opcode::Red, "red " RED_SEM " " ATOM_SPACE " inc|dec L2::cache_hint? T=u32", "m s pol", 0, 0},
    {Opcode::Red, "red " RED_SEM " global? add L2::cache_hint? v2|v4 T=f32", "m sV pol", 81, 90},
    {Opcode::Red, "red " RED_SEM " global? add|min|max noftz L2::cache_hint? v2|v4|v8 T=f16,bf16", "m sV pol", 81, 90},
    {Opcode::Red, "red " RED_SEM " global? add|min|max noftz L2::cache_hint? v2|v4 T=f16x2,bf16x2", "m sV pol", 81, 90},
    {Opcode::Membar, "membar <membar>", "", 0, 0},
    {Opcode::Fence, "fence acq_rel|sc? <scope>", "", 60, 70},
    {Opcode::Fence, "fence acquire|release <scope>", "", 86, 70},
    {Opcode::FenceProxy, "fence proxy alias", "", 75, 70},
    {Opcode::FenceProxy, "fence proxy asyncproxy", "", 80, 90},
    {Opcode::FenceProxy, "fence proxy asyncproxy <asyncspace>", "", 80, 90},
    {Opcode::FenceProxy, "fence proxy tensormap::generic release <scope>", "", 83, 90},
    {Opcode::FenceProxy, "fence proxy tensormap::generic acquire <scope>", "m i:u32", 83, 90},
    {Opcode::FenceMbarrierInit, "fence mbarrier_init release cluster", "", 80, 90},
    // clang-format on
};

FormList memoryForms() { return {forms, sizeof(forms) / sizeof(forms[0])}; }

} // namespace moert::emulator::ptx
