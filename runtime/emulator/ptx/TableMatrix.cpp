//===- TableMatrix.cpp - Forms of matrix instructions ---------------------===//
//
// ldmatrix and stmatrix, wmma, mma.sync, wgmma. Type order is that of the
// mnemonic: d, a, b, c.
//
//===----------------------------------------------------------------------===//
#include "runtime/emulator/ptx/Table.h"

namespace moert::emulator::ptx {

#define MMA "mma sync aligned "
#define WLOAD "wmma load "
#define WSTORE "wmma store fragd sync aligned <majora> "
#define WMMA "wmma mma sync aligned <majora> <majorb> "
#define F16_SHAPES "m16n16k16|m8n32k16|m32n8k16 "
#define WG "wgmma mma_async sync aligned "
#define SHARED_OR_GLOBAL "global|shared|shared::cta?"

static const Form forms[] = {
    // clang-format off
    {Opcode::Ldmatrix, "ldmatrix sync aligned m8n8 x1|x2|x4 trans? shared|shared::cta? T=b16", "dX:b32 m", 65, 75},
    {Opcode::Stmatrix, "stmatrix sync aligned m8n8 x1|x2|x4 trans? shared|shared::cta? T=b16", "m sX:b32", 78, 90},
    {Opcode::Movmatrix, "movmatrix sync aligned m8n8 trans T=b16", "d:b32 s:b32", 78, 75},
    // mma.sync
    {Opcode::Mma, MMA "m8n8k4 <majora> <majorb> T=f16,f32 T=f16 T=f16 T=f16", "fd fa fb fc", 64, 70},
    {Opcode::Mma, MMA "m8n8k4 <majora> <majorb> T=f32 T=f16 T=f16 T=f32", "fd fa fb fc", 64, 70},
    {Opcode::Mma, MMA "m16n8k8 <row> <col> T=f16 T=f16 T=f16 T=f16", "fd fa fb fc", 65, 75},
    {Opcode::Mma, MMA "m16n8k8 <row> <col> T=f32 T=f16 T=f16 T=f32", "fd fa fb fc", 65, 75},
    {Opcode::Mma, MMA "m16n8k16 <row> <col> T=f16 T=f16 T=f16 T=f16", "fd fa fb fc", 70, 80},
    {Opcode::Mma, MMA "m16n8k16 <row> <col> T=f32 T=f16 T=f16 T=f32", "fd fa fb fc", 70, 80},
    {Opcode::Mma, MMA "m16n8k8|m16n8k16 <row> <col> T=f32 T=bf16 T=bf16 T=f32", "fd fa fb fc", 70, 80},
    {Opcode::Mma, MMA "m16n8k4|m16n8k8 <row> <col> T=f32 T=tf32 T=tf32 T=f32", "fd fa fb fc", 70, 80},
    {Opcode::Mma, MMA "m16n8k32 <row> <col> T=f32 T=e4m3,e5m2 T=e4m3,e5m2 T=f32", "fd fa fb fc", 84, 89},
    {Opcode::Mma, MMA "m16n8k32 <row> <col> T=f16 T=e4m3,e5m2 T=e4m3,e5m2 T=f16", "fd fa fb fc", 87, 89},
    {Opcode::Mma, MMA "m16n8k16 <row> <col> T=f16 T=e4m3,e5m2 T=e4m3,e5m2 T=f16", "fd fa fb fc", 87, 89},
    {Opcode::Mma, MMA "m16n8k16 <row> <col> T=f32 T=e4m3,e5m2 T=e4m3,e5m2 T=f32", "fd fa fb fc", 87, 89},
    {Opcode::Mma, MMA "m8n8k4 <row> <col> <rnd>? T=f64 T=f64 T=f64 T=f64", "fd fa fb fc", 70, 80},
    {Opcode::Mma, MMA "m16n8k4|m16n8k8|m16n8k16 <row> <col> <rnd>? T=f64 T=f64 T=f64 T=f64", "fd fa fb fc", 78, 90},
    {Opcode::Mma, MMA "m8n8k16 <row> <col> satfinite? T=s32 T=u8,s8 T=u8,s8 T=s32", "fd fa fb fc", 65, 75},
    {Opcode::Mma, MMA "m16n8k16|m16n8k32 <row> <col> satfinite? T=s32 T=u8,s8 T=u8,s8 T=s32", "fd fa fb fc", 70, 80},
    {Opcode::Mma, MMA "m8n8k32 <row> <col> satfinite? T=s32 T=u4,s4 T=u4,s4 T=s32", "fd fa fb fc", 65, 75},
    {Opcode::Mma, MMA "m16n8k32|m16n8k64 <row> <col> satfinite? T=s32 T=u4,s4 T=u4,s4 T=s32", "fd fa fb fc", 70, 80},
    {Opcode::Mma, MMA "m8n8k128 <row> <col> T=s32 T=b1 T=b1 T=s32 mmaxor mmapopc", "fd fa fb fc", 70, 75},
    {Opcode::Mma, MMA "m16n8k128|m16n8k256 <row> <col> T=s32 T=b1 T=b1 T=s32 mmaxor mmapopc", "fd fa fb fc", 70, 80},
    {Opcode::Mma, MMA "m8n8k128|m16n8k128|m16n8k256 <row> <col> T=s32 T=b1 T=b1 T=s32 mmaand mmapopc", "fd fa fb fc", 71, 80},
    // wmma
    {Opcode::WmmaLoad, WLOAD "fraga|fragb sync aligned <majora> " F16_SHAPES SHARED_OR_GLOBAL " T=f16", "fl m s:u32?", 60, 70},
    {Opcode::WmmaLoad, WLOAD "fragc sync aligned <majora> " F16_SHAPES SHARED_OR_GLOBAL " T=f16,f32", "fl m s:u32?", 60, 70},
    {Opcode::WmmaLoad, WLOAD "fraga|fragb sync aligned <majora> " F16_SHAPES SHARED_OR_GLOBAL " T=u8,s8", "fl m s:u32?", 63, 72},
    {Opcode::WmmaLoad, WLOAD "fragc sync aligned <majora> " F16_SHAPES SHARED_OR_GLOBAL " T=s32", "fl m s:u32?", 63, 72},
    {Opcode::WmmaLoad, WLOAD "fraga|fragb sync aligned <majora> " F16_SHAPES SHARED_OR_GLOBAL " T=bf16", "fl m s:u32?", 70, 80},
    {Opcode::WmmaLoad, WLOAD "fraga|fragb sync aligned <majora> m16n16k8 " SHARED_OR_GLOBAL " T=tf32", "fl m s:u32?", 70, 80},
    {Opcode::WmmaLoad, WLOAD "fragc sync aligned <majora> m16n16k8 " SHARED_OR_GLOBAL " T=f32", "fl m s:u32?", 70, 80},
    {Opcode::WmmaLoad, WLOAD "fraga|fragb|fragc sync aligned <majora> m8n8k4 " SHARED_OR_GLOBAL " T=f64", "fl m s:u32?", 70, 80},
    {Opcode::WmmaLoad, WLOAD "fraga sync aligned <row> m8n8k32 " SHARED_OR_GLOBAL " T=u4,s4", "fl m s:u32?", 63, 75},
    {Opcode::WmmaLoad, WLOAD "fragb sync aligned acol m8n8k32 " SHARED_OR_GLOBAL " T=u4,s4", "fl m s:u32?", 63, 75},
    {Opcode::WmmaLoad, WLOAD "fraga sync aligned <row> m8n8k128 " SHARED_OR_GLOBAL " T=b1", "fl m s:u32?", 63, 75},
    {Opcode::WmmaLoad, WLOAD "fragb sync aligned acol m8n8k128 " SHARED_OR_GLOBAL " T=b1", "fl m s:u32?", 63, 75},
    {Opcode::WmmaLoad, WLOAD "fragc sync aligned <majora> m8n8k32|m8n8k128 " SHARED_OR_GLOBAL " T=s32", "fl m s:u32?", 63, 75},
    {Opcode::WmmaStore, WSTORE F16_SHAPES SHARED_OR_GLOBAL " T=f16,f32", "m fl s:u32?", 60, 70},
    {Opcode::WmmaStore, WSTORE F16_SHAPES SHARED_OR_GLOBAL " T=s32", "m fl s:u32?", 63, 72},
    {Opcode::WmmaStore, WSTORE "m16n16k8 " SHARED_OR_GLOBAL " T=f32", "m fl s:u32?", 70, 80},
    {Opcode::WmmaStore, WSTORE "m8n8k4 " SHARED_OR_GLOBAL " T=f64", "m fl s:u32?", 70, 80},
    {Opcode::WmmaStore, WSTORE "m8n8k32|m8n8k128 " SHARED_OR_GLOBAL " T=s32", "m fl s:u32?", 63, 75},
    {Opcode::WmmaMma, WMMA F16_SHAPES "T=f16,f32 T=f16,f32", "fd fa fb fc", 60, 70},
    {Opcode::WmmaMma, WMMA F16_SHAPES "satfinite? T=s32 T=u8 T=u8 T=s32", "fd fa fb fc", 63, 72},
    {Opcode::WmmaMma, WMMA F16_SHAPES "satfinite? T=s32 T=s8 T=s8 T=s32", "fd fa fb fc", 63, 72},
    {Opcode::WmmaMma, WMMA F16_SHAPES "T=f32 T=bf16 T=bf16 T=f32", "fd fa fb fc", 70, 80},
    {Opcode::WmmaMma, WMMA "m16n16k8 T=f32 T=tf32 T=tf32 T=f32", "fd fa fb fc", 70, 80},
    {Opcode::WmmaMma, WMMA "m8n8k4 <rnd>? T=f64 T=f64 T=f64 T=f64", "fd fa fb fc", 70, 80},
    {Opcode::WmmaMma, "wmma mma sync aligned <row> <col> m8n8k32 satfinite? T=s32 T=u4 T=u4 T=s32", "fd fa fb fc", 63, 75},
    {Opcode::WmmaMma, "wmma mma sync aligned <row> <col> m8n8k32 satfinite? T=s32 T=s4 T=s4 T=s32", "fd fa fb fc", 63, 75},
    {Opcode::WmmaMma, "wmma mma mmaxor mmapopc sync aligned <row> <col> m8n8k128 T=s32 T=b1 T=b1 T=s32", "fd fa fb fc", 63, 75},
    {Opcode::WmmaMma, "wmma mma mmaand mmapopc sync aligned <row> <col> m8n8k128 T=s32 T=b1 T=b1 T=s32", "fd fa fb fc", 71, 80},
    // wgmma: A from registers (a vector) or from a descriptor.
    {Opcode::WgmmaMmaAsync, WG "<m64k16> T=f16,f32 T=f16 T=f16", "fd r:b64 r:b64 p i:s32 i:s32 i:s32 i:s32", 80, 90 | archSpecific},
    {Opcode::WgmmaMmaAsync, WG "<m64k16> T=f16,f32 T=f16 T=f16", "fd fa r:b64 p i:s32 i:s32 i:s32", 80, 90 | archSpecific},
    {Opcode::WgmmaMmaAsync, WG "<m64k16> T=f32 T=bf16 T=bf16", "fd r:b64 r:b64 p i:s32 i:s32 i:s32 i:s32", 80, 90 | archSpecific},
    {Opcode::WgmmaMmaAsync, WG "<m64k16> T=f32 T=bf16 T=bf16", "fd fa r:b64 p i:s32 i:s32 i:s32", 80, 90 | archSpecific},
    {Opcode::WgmmaMmaAsync, WG "<m64k8> T=f32 T=tf32 T=tf32", "fd r:b64 r:b64 p i:s32 i:s32", 80, 90 | archSpecific},
    {Opcode::WgmmaMmaAsync, WG "<m64k8> T=f32 T=tf32 T=tf32", "fd fa r:b64 p i:s32 i:s32", 80, 90 | archSpecific},
    {Opcode::WgmmaMmaAsync, WG "<m64k32> T=f16,f32 T=e4m3,e5m2 T=e4m3,e5m2", "fd r:b64 r:b64 p i:s32 i:s32", 80, 90 | archSpecific},
    {Opcode::WgmmaMmaAsync, WG "<m64k32> T=f16,f32 T=e4m3,e5m2 T=e4m3,e5m2", "fd fa r:b64 p i:s32 i:s32", 80, 90 | archSpecific},
    {Opcode::WgmmaMmaAsync, WG "<m64k32i> satfinite? T=s32 T=u8,s8 T=u8,s8", "fd r:b64 r:b64 p", 80, 90 | archSpecific},
    {Opcode::WgmmaMmaAsync, WG "<m64k32i> satfinite? T=s32 T=u8,s8 T=u8,s8", "fd fa r:b64 p", 80, 90 | archSpecific},
    {Opcode::WgmmaMmaAsync, WG "<m64k256i> T=s32 T=b1 T=b1 mmaand mmapopc", "fd r:b64 r:b64 p", 80, 90 | archSpecific},
    {Opcode::WgmmaMmaAsync, WG "<m64k256i> T=s32 T=b1 T=b1 mmaand mmapopc", "fd fa r:b64 p", 80, 90 | archSpecific},
    {Opcode::WgmmaFence, "wgmma fence sync aligned", "", 80, 90 | archSpecific},
    {Opcode::WgmmaCommitGroup, "wgmma commit_group sync aligned", "", 80, 90 | archSpecific},
    {Opcode::WgmmaWaitGroup, "wgmma wait_group sync aligned", "i:u32", 80, 90 | archSpecific},
    // clang-format on
};

FormList matrixForms() { return {forms, sizeof(forms) / sizeof(forms[0])}; }

} // namespace moert::emulator::ptx
