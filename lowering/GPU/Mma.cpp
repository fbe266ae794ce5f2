//===- Mma.cpp - Products of tiles by a warpgroup -------------------------===//

#include "lowering/GPU/Mma.h"
#include "llvm/ADT/StringExtras.h"

using namespace mlir;
using namespace mlir::moe::gpu;

SmallVector<Value> WarpgroupMma::accumulate(KernelBuilder &builder, Int a, Int b, ValueRange sums) const {
  constexpr int64_t depth = 16;
  const auto count = static_cast<int64_t>(sums.size());
  auto list = [&](auto element) { return llvm::join(llvm::map_range(llvm::seq<int64_t>(0, count), element), ","); };
  const std::string registers = list([](int64_t i) { return "$" + std::to_string(i); });
  // After the sums as results come the same as operands, then the descriptors.
  std::string text = "{\n\t.reg .b64 a, b;\n\twgmma.fence.sync.aligned;\n";
  for (int64_t k = 0; k < SwizzledTile::depth; k += depth) {
    const std::string step = std::to_string(k / depth * SwizzledTile::descriptorStep);
    text += "\tadd.s64 a, $" + std::to_string(2 * count) + ", " + step + ";\n\tadd.s64 b, $" +
            std::to_string(2 * count + 1) + ", " + step + ";\n\twgmma.mma_async.sync.aligned.m64n" +
            std::to_string(columns) + "k16.f32.bf16.bf16 {" + registers + "}, a, b, 1, 1, 1, 0, 0;\n";
  }
  text += "\twgmma.commit_group.sync.aligned;\n\twgmma.wait_group.sync.aligned 0;\n\t}";
  const std::string constraints = list([](int64_t) { return std::string("=f"); }) + "," +
                                  list([](int64_t i) { return std::to_string(i); }) + ",l,l";
  SmallVector<Value> operands(sums);
  operands.append({SwizzledTile::descriptor(builder, a), SwizzledTile::descriptor(builder, b)});
  Type type = LLVM::LLVMStructType::getLiteral(builder.getContext(), SmallVector<Type>(count, builder.f32()));
  Value all = builder.assemble(text, constraints, operands, type);
  SmallVector<Value> results;
  for (int64_t i = 0; i < count; ++i) {
    results.push_back(LLVM::ExtractValueOp::create(builder, all, i));
  }
  return results;
}

void mlir::moe::gpu::lowerRegisters(KernelBuilder &b, int64_t count) {
  b.assemble("setmaxnreg.dec.sync.aligned.u32 " + Twine(count) + ";", "", {});
}

void mlir::moe::gpu::raiseRegisters(KernelBuilder &b, int64_t count) {
  b.assemble("setmaxnreg.inc.sync.aligned.u32 " + Twine(count) + ";", "", {});
}
