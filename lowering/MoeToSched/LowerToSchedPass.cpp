//===- LowerToSchedPass.cpp - The kernel lowering as a pass -----------------===//

#include "dialects/Moe/IR/MoeRanks.h"
#include "dialects/Sched/IR/SchedOps.h"
#include "lowering/CPU/KernelLibrary.h"
#include "lowering/GPU/GpuCatalogue.h"
#include "lowering/MoeToSched/MoeToSched.h"
#include "llvm/ADT/StringExtras.h"

namespace mlir::moe {
#define GEN_PASS_DEF_MOELOWERTOSCHED
#include "lowering/MoeToSched/Passes.h.inc"
} // namespace mlir::moe

using namespace mlir;
using namespace mlir::moe;

namespace {

struct LowerToSchedPass : mlir::moe::impl::MoeLowerToSchedBase<LowerToSchedPass> {
  using MoeLowerToSchedBase::MoeLowerToSchedBase;

  // Kernels are emitted as IR of their own while the schedule is made.
  void getDependentDialects(DialectRegistry &registry) const override {
    MoeLowerToSchedBase::getDependentDialects(registry);
    cpu::registerKernelDialects(registry);
    gpu::registerKernelDialects(registry);
  }

  void runOnOperation() override {
    ModuleOp module = getOperation();
    SchedOptions options;
    options.maxTokens = maxTokens;
    options.fewTokens = fewTokens;
    options.streams = streams;
    options.recordRouting = recordRouting;
    if (maxTokens < 1 || fewTokens < 1 || streams < 1) {
      module.emitError("max-tokens (") << options.maxTokens << "), few-tokens (" << options.fewTokens
                                       << ") and streams (" << options.streams << ") must be at least 1";
      return signalPassFailure();
    }
    for (const std::string &name : targets) {
      const cpu::CpuTarget *target = cpu::findTarget(name);
      const gpu::GpuTarget *gpuTarget = gpu::findTarget(name);
      if (gpuTarget && targets.size() == 1) {
        options.gpu = gpuTarget;
        break;
      }
      if (!target) {
        auto names = [](auto known) {
          return llvm::join(llvm::map_range(known, [](auto &t) { return t.name; }), ", ");
        };
        module.emitError("unknown target '")
            << name << "'; known are host, " << names(cpu::allTargets()) << " and, alone, " << names(gpu::allTargets());
        return signalPassFailure();
      }
      options.targets.push_back(target);
    }
    if (options.targets.empty() && !options.gpu) {
      for (const cpu::CpuTarget &target : cpu::allTargets()) {
        options.targets.push_back(&target);
      }
    }
    FailureOr<LoweredProgram> lowered = lowerMoeToSched(module, options, /*compileKernels=*/false);
    if (failed(lowered)) {
      return signalPassFailure();
    }
    module.getBody()->clear();
    for (StringRef fact : {StringRef("moe.model"), StringRef(kRanksAttr), StringRef(kDistributedAttr)}) {
      module->removeDiscardableAttr(fact); // now in the program
    }
    module.getBody()->getOperations().splice(module.getBody()->end(), lowered->module->getBody()->getOperations());
  }
};

} // namespace
