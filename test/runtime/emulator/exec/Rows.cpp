//===- Rows.cpp - Rows of the instruction table, by who tests them ---------===//
//
// See Rows.h. The families are listed here and nowhere else.
//
//===----------------------------------------------------------------------===//
#include "test/runtime/emulator/exec/Rows.h"

#include <algorithm>

namespace moert::emulator::testing {

using ptx::Opcode;

Family familyOf(Opcode opcode) {
  switch (opcode) {
  case Opcode::Cvta:
  case Opcode::Isspacep:
  case Opcode::Mapa:
  case Opcode::Getctarank:
  case Opcode::Alloca:
  case Opcode::Stacksave:
  case Opcode::Stackrestore:
    return Family::Addresses;
  case Opcode::Ld:
  case Opcode::Ldu:
  case Opcode::St:
  case Opcode::Atom:
  case Opcode::Red:
  case Opcode::Prefetch:
  case Opcode::Prefetchu:
  case Opcode::PrefetchTensormap:
  case Opcode::Applypriority:
  case Opcode::Discard:
  case Opcode::Createpolicy:
  case Opcode::Membar:
  case Opcode::Fence:
  case Opcode::FenceProxy:
  case Opcode::FenceMbarrierInit:
    return Family::Memory;
  case Opcode::StAsync:
  case Opcode::RedAsync:
  case Opcode::CpAsync:
  case Opcode::CpAsyncCommitGroup:
  case Opcode::CpAsyncWaitGroup:
  case Opcode::CpAsyncWaitAll:
  case Opcode::CpAsyncMbarrierArrive:
  case Opcode::CpAsyncBulk:
  case Opcode::CpAsyncBulkPrefetch:
  case Opcode::CpReduceAsyncBulk:
  case Opcode::CpAsyncBulkTensor:
  case Opcode::CpAsyncBulkPrefetchTensor:
  case Opcode::CpReduceAsyncBulkTensor:
  case Opcode::CpAsyncBulkCommitGroup:
  case Opcode::CpAsyncBulkWaitGroup:
  case Opcode::TensormapReplace:
  case Opcode::TensormapCpFenceproxy:
    return Family::Copy;
  case Opcode::Bar:
  case Opcode::BarWarpSync:
  case Opcode::BarrierCluster:
  case Opcode::MbarrierInit:
  case Opcode::MbarrierInval:
  case Opcode::MbarrierExpectTx:
  case Opcode::MbarrierCompleteTx:
  case Opcode::MbarrierArrive:
  case Opcode::MbarrierArriveDrop:
  case Opcode::MbarrierTestWait:
  case Opcode::MbarrierTryWait:
  case Opcode::MbarrierPendingCount:
    return Family::Barrier;
  case Opcode::Shfl:
  case Opcode::Vote:
  case Opcode::Match:
  case Opcode::Redux:
  case Opcode::Activemask:
  case Opcode::ElectSync:
    return Family::Warp;
  case Opcode::Bra:
  case Opcode::BrxIdx:
  case Opcode::Ret:
  case Opcode::Exit:
  case Opcode::Trap:
  case Opcode::Brkpt:
  case Opcode::Nanosleep:
  case Opcode::Pmevent:
  case Opcode::Setmaxnreg:
  case Opcode::Griddepcontrol:
    return Family::Control;
  case Opcode::Ldmatrix:
  case Opcode::Stmatrix:
  case Opcode::Movmatrix:
  case Opcode::Mma:
  case Opcode::WmmaLoad:
  case Opcode::WmmaStore:
  case Opcode::WmmaMma:
    return Family::Matrix;
  case Opcode::WgmmaMmaAsync:
  case Opcode::WgmmaFence:
  case Opcode::WgmmaCommitGroup:
  case Opcode::WgmmaWaitGroup:
    return Family::Wgmma;
  case Opcode::Call:
    return Family::None; // not in the table
  default:
    // Whatever else there is has a result that depends on its operands; without a reference its test fails.
    return Family::Registers;
  }
}

std::vector<Opcode> opcodesOf(Family family) {
  std::vector<Opcode> out;
  for (const ptx::CompiledForm &form : ptx::allForms()) {
    const Opcode opcode = form.form->op;
    if (familyOf(opcode) == family && std::find(out.begin(), out.end(), opcode) == out.end()) {
      out.push_back(opcode);
    }
  }
  return out;
}

std::vector<Row> rowsOf(const std::vector<Opcode> &opcodes, bool everyCombination) {
  std::vector<Row> out;
  auto wanted = [&](const ptx::CompiledForm &form) {
    return std::find(opcodes.begin(), opcodes.end(), form.form->op) != opcodes.end();
  };
  for (Sample &sample : makeSamples(wanted, everyCombination)) {
    Row row;
    row.form = &ptx::allForms()[sample.form];
    row.index = sample.form;
    row.mnemonic = std::move(sample.mnemonic);
    row.instruction = sample.instruction;
    out.push_back(std::move(row));
  }
  return out;
}

} // namespace moert::emulator::testing
