//===- TableControl.cpp - Forms of control flow and warp operations -------===//
//
// Branches, barriers, and what the lanes of a warp do together. `call` is not
// here: its syntax is its own (Calls.cpp).
//
//===----------------------------------------------------------------------===//
#include "runtime/emulator/ptx/Table.h"

namespace moert::emulator::ptx {

static const Form forms[] = {
    // clang-format off
    {Opcode::Bra, "bra uni?", "L", 0, 0},
    {Opcode::BrxIdx, "brx idx uni?", "r:u32 l", 60, 30},
    {Opcode::Ret, "ret uni?", "", 0, 0},
    {Opcode::Exit, "exit", "", 0, 0},
    {Opcode::Trap, "trap", "", 0, 0},
    {Opcode::Brkpt, "brkpt", "", 0, 0},
    {Opcode::Nanosleep, "nanosleep T=u32", "s", 63, 70},
    {Opcode::Pmevent, "pmevent mask?", "i:u32", 0, 0},
    {Opcode::Setmaxnreg, "setmaxnreg inc_reg|dec_reg sync aligned T=u32", "i", 80, 90 | archSpecific},
    {Opcode::Griddepcontrol, "griddepcontrol launch_dependents|wait", "", 78, 90},
    {Opcode::ElectSync, "elect sync", "d~:b32|P s:b32", 80, 90},
    // Barriers.
    {Opcode::Bar, "bar barcta? barsync", "s:u32 s:u32?", 0, 0},
    {Opcode::Bar, "bar barcta? bararrive", "s:u32 s:u32", 20, 0},
    {Opcode::Bar, "bar barcta? barred popc T=u32", "d s:u32 s:u32? p", 20, 0},
    {Opcode::Bar, "bar barcta? barred and|or T=pred", "d s:u32 s:u32? p", 20, 0},
    {Opcode::BarWarpSync, "bar warp sync", "s:u32", 60, 30},
    {Opcode::Bar, "barrier barcta? barsync aligned?", "s:u32 s:u32?", 60, 30},
    {Opcode::Bar, "barrier barcta? bararrive aligned?", "s:u32 s:u32", 60, 30},
    {Opcode::Bar, "barrier barcta? barred popc aligned? T=u32", "d s:u32 s:u32? p", 60, 30},
    {Opcode::Bar, "barrier barcta? barred and|or aligned? T=pred", "d s:u32 s:u32? p", 60, 30},
    {Opcode::BarrierCluster, "barrier cluster bararrive relaxed|release? aligned?", "", 78, 90},
    {Opcode::BarrierCluster, "barrier cluster wait acquire? aligned?", "", 78, 90},
    // Lanes of a warp.
    {Opcode::Shfl, "shfl sync up|down|bfly|idx T=b32", "d|P? s s:b32 s:b32 s:b32", 60, 30},
    {Opcode::Vote, "vote sync all|any|voteuni T=pred", "d p s:b32", 60, 30},
    {Opcode::Vote, "vote sync ballot T=b32", "d p s:b32", 60, 30},
    {Opcode::Match, "match any sync T=b32,b64", "d:b32 s s:b32", 60, 70},
    {Opcode::Match, "match all sync T=b32,b64", "d:b32|P? s s:b32", 60, 70},
    {Opcode::Redux, "redux sync add|min|max T=u32,s32", "d s s:b32", 70, 80},
    {Opcode::Redux, "redux sync and|or|xor T=b32", "d s s:b32", 70, 80},
    {Opcode::Activemask, "activemask T=b32", "d", 62, 30},
    // clang-format on
};

FormList controlForms() { return {forms, sizeof(forms) / sizeof(forms[0])}; }

} // namespace moert::emulator::ptx
