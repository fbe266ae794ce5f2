//===- KernelBefore.h - What runs before a kernel that is tested ----------===//
//
// A card may launch a kernel while the one before it still runs. Here that one
// writes every operand once more, with what it holds, and lets its dependents
// start at once: a kernel that reads or writes an operand before it has waited is
// a race, which the emulator finds.
//
//===----------------------------------------------------------------------===//

#ifndef MOE_TEST_LOWERING_GPU_KERNELBEFORE_H
#define MOE_TEST_LOWERING_GPU_KERNELBEFORE_H

#include "test/runtime/emulator/driver/DriverTest.h"

namespace mlir::moe::gpu::test {

/// (begin, end) of an operand, of which a block of 128 threads writes every byte, 16 at a time as far as that goes.
constexpr char kernelBefore[] = R"(
.version 7.8
.target sm_90
.address_size 64
.visible .entry before(.param .u64 ranges) .reqntid 128
{
  .reg .pred %p;
  .reg .b16 %h;
  .reg .b32 %r<7>;
  .reg .b64 %d<8>;
  griddepcontrol.launch_dependents;
  ld.param.u64 %d1, [ranges];
  mov.u32 %r1, %ctaid.x;
  mul.wide.u32 %d2, %r1, 16;
  add.u64 %d1, %d1, %d2;
  ld.global.v2.u64 {%d2, %d3}, [%d1];
  mov.u32 %r2, %tid.x;
  cvt.u64.u32 %d4, %r2;
  sub.u64 %d5, %d3, %d2;
  and.b64 %d5, %d5, 0xfffffffffffffff0;
  add.u64 %d5, %d2, %d5;
  shl.b64 %d6, %d4, 4;
  add.u64 %d6, %d2, %d6;
VECTOR:
  setp.ge.u64 %p, %d6, %d5;
  @%p bra REST;
  ld.global.v4.b32 {%r3, %r4, %r5, %r6}, [%d6];
  st.global.v4.b32 [%d6], {%r3, %r4, %r5, %r6};
  add.u64 %d6, %d6, 2048;
  bra VECTOR;
REST:
  add.u64 %d2, %d5, %d4;
BYTE:
  setp.ge.u64 %p, %d2, %d3;
  @%p ret;
  ld.global.u8 %h, [%d2];
  st.global.u8 [%d2], %h;
  add.u64 %d2, %d2, 128;
  bra BYTE;
}
)";

/// It, over some operands, and what it needs; to be freed when it is done.
class KernelBefore {
public:
  /// `ranges`: first bytes of operands, and where they end, in turn.
  void launch(const std::vector<CUdeviceptr> &ranges) {
    CUfunction function = nullptr;
    CHECKED(cuModuleLoadData(&module, kernelBefore));
    CHECKED(cuModuleGetFunction(&function, module, "before"));
    CHECKED(cuMemAlloc(&table, ranges.size() * sizeof(CUdeviceptr)));
    CHECKED(cuMemcpyHtoD(table, ranges.data(), ranges.size() * sizeof(CUdeviceptr)));
    void *parameters[] = {&table};
    CHECKED(cuLaunchKernel(function, static_cast<unsigned>(ranges.size() / 2), 1, 1, 128, 1, 1, 0, nullptr, parameters,
                           nullptr));
  }
  void free() {
    CHECKED(cuMemFree(table));
    CHECKED(cuModuleUnload(module));
  }

private:
  CUmodule module = nullptr;
  CUdeviceptr table = 0;
};

} // namespace mlir::moe::gpu::test

#endif // MOE_TEST_LOWERING_GPU_KERNELBEFORE_H
