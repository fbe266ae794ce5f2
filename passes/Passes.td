//===- Passes.td - Passes on the moe level ----------------------------------===//
//
// One entry per pass: flag `moe-verb-noun`, summary, description with the reason for
// its existence, options, dependent dialects. The implementation defines
// GEN_PASS_DEF_<NAME> and includes passes/Passes.h.inc. A lowering keeps its own
// Passes.td; tools/common/RegisterAll.cpp registers all of them.
//
//===----------------------------------------------------------------------===//

#ifndef MOE_PASSES_TD
#define MOE_PASSES_TD

include "mlir/Pass/PassBase.td"

//===----------------------------------------------------------------------===//
// Contracts of a phase (passes/Verify)
//===----------------------------------------------------------------------===//

// ANCHOR: docs/adding-an-op.md quotes this.
def VerifyMoeLevel : Pass<"moe-verify-moe-level", "::mlir::ModuleOp"> {
  let summary = "check the contract of the moe level";
  let description = [{
    Run after import and after every group of passes on the moe level; changes nothing. The rules are in docs/spec.md,
    "The moe level": only the leading dimension of an activation is dynamic, the step has its signature, inline
    constants stay below 1 MiB, nothing names a target.
  }];
}

def VerifySched : Pass<"moe-verify-sched", "::mlir::ModuleOp"> {
  let summary = "check the contract of the sched level";
  let description = [{
    Run after the lowering to sched; changes nothing. The rules are in docs/sched.md, "Schedules": commands that are not
    ordered do not touch the same bytes, a command works in place by one operand only, and no arena byte is read before
    it is written.
  }];
}

#endif // MOE_PASSES_TD
