//===- TableCopy.cpp - Forms of asynchronous copies and mbarriers ---------===//
//
// cp.async, bulk and tensor copies, tensormap edits, mbarrier operations.
//
//===----------------------------------------------------------------------===//
#include "runtime/emulator/ptx/Table.h"

namespace moert::emulator::ptx {

#define DIMS "1d|2d|3d|4d|5d"
#define MBAR "mbarrier::complete_tx::bytes"
#define OWN "shared|shared::cta?"
#define ANY_SHARED "shared|shared::cta|shared::cluster?"

static const Form forms[] = {
    // clang-format off
    {Opcode::CpAsync, "cp async ca|cg shared|shared::cta <from> L2::cache_hint? <prefetch>?", "m m i:u32 s:u32? pol", 70, 80},
    {Opcode::CpAsync, "cp async ca|cg shared|shared::cta <from> L2::cache_hint? <prefetch>?", "m m i:u32 p pol", 70, 80},
    {Opcode::CpAsyncCommitGroup, "cp async commit_group", "", 70, 80},
    {Opcode::CpAsyncWaitGroup, "cp async wait_group", "i:u32", 70, 80},
    {Opcode::CpAsyncWaitAll, "cp async wait_all", "", 70, 80},
    {Opcode::CpAsyncMbarrierArrive, "cp async mbarrier arrive noinc? " OWN " T=b64", "m", 70, 80},
    {Opcode::CpAsyncBulk, "cp async bulk shared::cluster <from> " MBAR " L2::cache_hint?", "m m s:u32 m pol", 80, 90},
    {Opcode::CpAsyncBulk, "cp async bulk shared::cta <from> " MBAR " L2::cache_hint?", "m m s:u32 m pol", 86, 90},
    {Opcode::CpAsyncBulk, "cp async bulk shared::cluster <from> " MBAR " multicast::cluster L2::cache_hint?", "m m s:u32 m s:u16 pol", 80, 90},
    {Opcode::CpAsyncBulk, "cp async bulk shared::cluster <fromshared> " MBAR, "m m s:u32 m", 80, 90},
    {Opcode::CpAsyncBulk, "cp async bulk global <fromshared> bulk_group L2::cache_hint?", "m m s:u32 pol", 80, 90},
    {Opcode::CpAsyncBulkPrefetch, "cp async bulk prefetch L2 <from> L2::cache_hint?", "m s:u32 pol", 80, 90},
    {Opcode::CpReduceAsyncBulk, "cp reduce async bulk shared::cluster <fromshared> " MBAR " and|or|xor T=b32", "m m s:u32 m", 80, 90},
    {Opcode::CpReduceAsyncBulk, "cp reduce async bulk shared::cluster <fromshared> " MBAR " add T=u32,s32,u64", "m m s:u32 m", 80, 90},
    {Opcode::CpReduceAsyncBulk, "cp reduce async bulk shared::cluster <fromshared> " MBAR " min|max T=u32,s32", "m m s:u32 m", 80, 90},
    {Opcode::CpReduceAsyncBulk, "cp reduce async bulk shared::cluster <fromshared> " MBAR " inc|dec T=u32", "m m s:u32 m", 80, 90},
    {Opcode::CpReduceAsyncBulk, "cp reduce async bulk global <fromshared> bulk_group L2::cache_hint? and|or|xor T=b32,b64", "m m s:u32 pol", 80, 90},
    {Opcode::CpReduceAsyncBulk, "cp reduce async bulk global <fromshared> bulk_group L2::cache_hint? add T=u32,s32,u64,f32,f64", "m m s:u32 pol", 80, 90},
    {Opcode::CpReduceAsyncBulk, "cp reduce async bulk global <fromshared> bulk_group L2::cache_hint? add noftz T=f16,bf16", "m m s:u32 pol", 80, 90},
    {Opcode::CpReduceAsyncBulk, "cp reduce async bulk global <fromshared> bulk_group L2::cache_hint? min|max T=u32,s32,u64,s64,f16,bf16", "m m s:u32 pol", 80, 90},
    {Opcode::CpReduceAsyncBulk, "cp reduce async bulk global <fromshared> bulk_group L2::cache_hint? inc|dec T=u32", "m m s:u32 pol", 80, 90},
    {Opcode::CpAsyncBulkTensor, "cp async bulk tensor " DIMS " shared::cluster <from> tile? " MBAR " L2::cache_hint?", "m t m pol", 80, 90},
    {Opcode::CpAsyncBulkTensor, "cp async bulk tensor " DIMS " shared::cluster <from> tile? " MBAR " multicast::cluster L2::cache_hint?", "m t m s:u16 pol", 80, 90},
    {Opcode::CpAsyncBulkTensor, "cp async bulk tensor " DIMS " shared::cta <from> tile? " MBAR " L2::cache_hint?", "m t m pol", 86, 90},
    {Opcode::CpAsyncBulkTensor, "cp async bulk tensor 3d|4d|5d shared::cluster <from> im2col " MBAR " L2::cache_hint?", "m t m s*:u16 pol", 80, 90},
    {Opcode::CpAsyncBulkTensor, "cp async bulk tensor 3d|4d|5d shared::cluster <from> im2col " MBAR " multicast::cluster L2::cache_hint?", "m t m s*:u16 s:u16 pol", 80, 90},
    {Opcode::CpAsyncBulkTensor, "cp async bulk tensor 3d|4d|5d shared::cta <from> im2col " MBAR " L2::cache_hint?", "m t m s*:u16 pol", 86, 90},
    {Opcode::CpAsyncBulkTensor, "cp async bulk tensor " DIMS " global <fromshared> tile? bulk_group L2::cache_hint?", "t m pol", 80, 90},
    {Opcode::CpAsyncBulkTensor, "cp async bulk tensor 3d|4d|5d global <fromshared> im2col_no_offs bulk_group L2::cache_hint?", "t m pol", 80, 90},
    {Opcode::CpAsyncBulkPrefetchTensor, "cp async bulk prefetch tensor " DIMS " L2 <from> tile? L2::cache_hint?", "t pol", 80, 90},
    {Opcode::CpAsyncBulkPrefetchTensor, "cp async bulk prefetch tensor 3d|4d|5d L2 <from> im2col L2::cache_hint?", "t s*:u16 pol", 80, 90},
    {Opcode::CpReduceAsyncBulkTensor, "cp reduce async bulk tensor " DIMS " global <fromshared> <tensorred> tile? bulk_group L2::cache_hint?", "t m pol", 80, 90},
    {Opcode::CpReduceAsyncBulkTensor, "cp reduce async bulk tensor 3d|4d|5d global <fromshared> <tensorred> im2col_no_offs bulk_group L2::cache_hint?", "t m pol", 80, 90},
    {Opcode::CpAsyncBulkCommitGroup, "cp async bulk commit_group", "", 80, 90},
    {Opcode::CpAsyncBulkWaitGroup, "cp async bulk wait_group read?", "i:u32", 80, 90},
    {Opcode::TensormapReplace, "tensormap replace tile <replace64> global|shared::cta? b1024 T=b64", "m s", 83, 90 | archSpecific},
    {Opcode::TensormapReplace, "tensormap replace tile <replace32> global|shared::cta? b1024 T=b32", "m s", 83, 90 | archSpecific},
    {Opcode::TensormapReplace, "tensormap replace tile <replace32ord> global|shared::cta? b1024 T=b32", "m i:u32 s", 83, 90 | archSpecific},
    {Opcode::TensormapReplace, "tensormap replace tile <replace64ord> global|shared::cta? b1024 T=b64", "m i:u32 s", 83, 90 | archSpecific},
    {Opcode::TensormapReplace, "tensormap replace tile <replaceimm> global|shared::cta? b1024 T=b32", "m i:u32", 83, 90 | archSpecific},
    {Opcode::TensormapCpFenceproxy, "tensormap cp_fenceproxy global <fromshared> tensormap::generic release <scope> sync aligned", "m m i:u32", 83, 90},
    // mbarrier
    {Opcode::MbarrierInit, "mbarrier init " OWN " T=b64", "m s:u32", 70, 80},
    {Opcode::MbarrierInval, "mbarrier inval " OWN " T=b64", "m", 70, 80},
    {Opcode::MbarrierExpectTx, "mbarrier expect_tx relaxed? cta|cluster? " ANY_SHARED " T=b64", "m s:u32", 80, 90},
    {Opcode::MbarrierCompleteTx, "mbarrier complete_tx relaxed? cta|cluster? " ANY_SHARED " T=b64", "m s:u32", 80, 90},
    {Opcode::MbarrierArrive, "mbarrier arrive relaxed|release? cta|cluster? " OWN " T=b64", "d~ m s:u32?", 70, 80},
    {Opcode::MbarrierArrive, "mbarrier arrive relaxed|release? cta|cluster? shared::cluster T=b64", "_ m s:u32?", 80, 90},
    {Opcode::MbarrierArrive, "mbarrier arrive expect_tx relaxed|release? cta|cluster? " OWN " T=b64", "d~ m s:u32", 80, 90},
    {Opcode::MbarrierArrive, "mbarrier arrive expect_tx relaxed|release? cta|cluster? shared::cluster T=b64", "_ m s:u32", 80, 90},
    {Opcode::MbarrierArrive, "mbarrier arrive noComplete release? cta? " OWN " T=b64", "d~ m s:u32", 70, 80},
    {Opcode::MbarrierArriveDrop, "mbarrier arrive_drop relaxed|release? cta|cluster? " OWN " T=b64", "d~ m s:u32?", 70, 80},
    {Opcode::MbarrierArriveDrop, "mbarrier arrive_drop relaxed|release? cta|cluster? shared::cluster T=b64", "_ m s:u32?", 80, 90},
    {Opcode::MbarrierArriveDrop, "mbarrier arrive_drop expect_tx relaxed|release? cta|cluster? " OWN " T=b64", "d~ m s:u32", 80, 90},
    {Opcode::MbarrierArriveDrop, "mbarrier arrive_drop expect_tx relaxed|release? cta|cluster? shared::cluster T=b64", "_ m s:u32", 80, 90},
    {Opcode::MbarrierArriveDrop, "mbarrier arrive_drop noComplete release? cta? " OWN " T=b64", "d~ m s:u32", 70, 80},
    {Opcode::MbarrierTestWait, "mbarrier test_wait relaxed|acquire? cta|cluster? " OWN " T=b64", "P m r", 70, 80},
    {Opcode::MbarrierTestWait, "mbarrier test_wait parity relaxed|acquire? cta|cluster? " OWN " T=b64", "P m s:u32", 71, 80},
    {Opcode::MbarrierTryWait, "mbarrier try_wait relaxed|acquire? cta|cluster? " OWN " T=b64", "P m r s:u32?", 78, 90},
    {Opcode::MbarrierTryWait, "mbarrier try_wait parity relaxed|acquire? cta|cluster? " OWN " T=b64", "P m s:u32 s:u32?", 78, 90},
    {Opcode::MbarrierPendingCount, "mbarrier pending_count T=b64", "d:u32 s", 70, 80},
    // clang-format on
};

FormList copyForms() { return {forms, sizeof(forms) / sizeof(forms[0])}; }

} // namespace moert::emulator::ptx
