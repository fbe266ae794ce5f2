//===- Passes.td - The kernel lowering as a pass ----------------------------===//

#ifndef MOE_TO_SCHED_PASSES_TD
#define MOE_TO_SCHED_PASSES_TD

include "mlir/Pass/PassBase.td"

def MoeLowerToSched : Pass<"moe-lower-to-sched", "::mlir::ModuleOp"> {
  let summary = "lower @step to a schedule of kernels";
  let description = [{
    Replaces the module's contents by one `sched.program` with a variant per target: kernels chosen and named, residual
    adds and projections fused, the arena planned. The kernels themselves are not compiled (`moec compile` does).
    Test and example: test/lowering/MoeToSched/step.mlir.
  }];
  let options = [
    ListOption<"targets", "targets", "std::string", "CPU kinds, best first (moec doctor lists them), all by default; or one GPU kind">,
    Option<"maxTokens", "max-tokens", "int64_t", "512", "largest T of a step">,
    Option<"fewTokens", "few-tokens", "int64_t", "8", "up to this T every weight is streamed once (GEMV)">,
    Option<"streams", "streams", "int64_t", "2", "streams that a step may use on a GPU: 2, one for what runs beside routed experts, or 1">,
    Option<"recordRouting", "record-routing", "bool", "false", "also count which experts tokens choose together">];
  let dependentDialects = ["::mlir::sched::SchedDialect"];
}

#endif // MOE_TO_SCHED_PASSES_TD
