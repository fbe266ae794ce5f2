//===- TensorRowsTest.cpp - Every row of tensor copies ---------------------===//
//
// cp.async.bulk.tensor of the instruction table in one to five dimensions, with
// every swizzle, element size and fill, boxes that hang over each edge and element
// strides: loads, stores, reductions, multicast. Where an element belongs is
// computed here from its coordinates (PTX ISA 5.5). Then maps that a kernel puts
// right itself, field by field.
//
//===----------------------------------------------------------------------===//
#include "runtime/emulator/driver/TensorMap.h"
#include "test/runtime/emulator/exec/Harness.h"
#include "test/runtime/emulator/exec/ReferenceCombine.h"
#include "test/runtime/emulator/exec/Rows.h"

#include <cmath>
#include <random>

using namespace moert::emulator;
using namespace moert::emulator::testing;
using ptx::Mode;
using ptx::Opcode;
using ptx::Reduce;
using ptx::Space;
using ptx::Type;

namespace {

using Bytes = std::vector<uint8_t>;
constexpr unsigned tensorBytes = 65536, boxRoom = 8192;

/// A tensor in global memory and a box of it.
struct Box {
  TensorMapFields map;
  int start[5] = {};
  unsigned element = 0; ///< bytes

  unsigned rank() const { return map.rank + 1U; }
  unsigned extent(unsigned d) const { return (map.boxDim[d] + map.elementStride[d] - 1U) / map.elementStride[d]; }
  unsigned bytes() const {
    unsigned count = element;
    for (unsigned d = 0; d < rank(); ++d) {
      count *= extent(d);
    }
    return count;
  }
  /// Calls `visit(offset in the swizzled box, offset in the tensor or -1)` for each element.
  template <typename Visit> void each(Visit visit) const {
    for (unsigned k = 0; k * element < bytes(); ++k) {
      unsigned left = k;
      int64_t at = 0;
      bool inside = true;
      for (unsigned d = 0; d < rank(); ++d) {
        const int64_t c = start[d] + int64_t(left % extent(d)) * map.elementStride[d];
        left /= extent(d);
        inside = inside && c >= 0 && c < int64_t(map.globalDim[d]);
        at += c * int64_t(d ? map.globalStride[d - 1] : element);
      }
      unsigned place = k * element;
      place ^= (place >> 7 & ((1U << map.swizzle) - 1)) << 4;
      visit(place, inside ? at : -1);
    }
  }
};

Type typeOf(unsigned elementType) {
  const Type types[] = {Type::U8,  Type::U16, Type::U32, Type::S32, Type::U64,
                        Type::S64, Type::F16, Type::F32, Type::F64, Type::BF16};
  return types[elementType];
}

/// `where`: 0 inside, 1 over the lower edges, 2 over the upper ones.
Box boxOf(unsigned rank, unsigned swizzle, unsigned elementType, unsigned where, bool strided, bool nan) {
  Box box;
  box.element = tensorElementBytes(elementType);
  TensorMapFields &map = box.map;
  map.rank = uint8_t(rank - 1);
  map.swizzle = uint8_t(swizzle);
  map.elementType = uint8_t(elementType);
  map.fill = nan;
  const unsigned innerBytes = swizzle ? 16U << swizzle : 48;
  const unsigned boxes[] = {innerBytes / box.element, 3, 2, 2, 2}, more[] = {5, 3, 2, 1, 1};
  for (unsigned d = 0; d < rank; ++d) {
    map.boxDim[d] = uint16_t(boxes[d]);
    map.elementStride[d] = strided && d > 0 ? 2 : 1;
    map.globalDim[d] = boxes[d] + more[d];
    box.start[d] = where == 0 ? int(d % 2) : where == 1 ? -1 : int(map.globalDim[d]) - 2;
    if (d + 1 < rank) {
      map.globalStride[d] =
          d ? map.globalStride[d - 1] * map.globalDim[d] + 16 : (map.globalDim[0] * box.element + 15) / 16 * 16 + 16;
    }
  }
  return box;
}

std::string coordinatesOf(const Box &box) {
  std::string out = "{";
  for (unsigned d = 0; d < box.rank(); ++d) {
    out += (d ? ", " : "") + std::to_string(box.start[d]);
  }
  return out + "}";
}

struct Outcome {
  Bytes tensor, boxes;
};

/// Runs `body` in each block of a cluster; %rd1 the map, %r5 the box in shared memory, filled from `fill`.
Outcome outcomeOf(const std::string &body, const Box &box, const Bytes &tensor, const Bytes &fill, Timing timing,
                  unsigned blocks = 1) {
  const std::string text = kernel(".param .u64 map, .param .u64 fill, .param .u64 out", R"(
  .reg .b32 %r<16>, %w<4>, %c<5>; .reg .b64 %rd<8>, %pol; .reg .pred %p<8>; .reg .b16 %h<4>;
  .shared .align 1024 .b8 box[8192]; .shared .align 8 .b64 bar;
  ld.param.u64 %rd1, [map]; ld.param.u64 %rd2, [fill]; ld.param.u64 %rd3, [out];
  mov.u32 %r1, %tid.x; mov.u32 %r2, %ctaid.x; mov.u32 %r5, box; mov.u32 %r6, bar;
  createpolicy.fractional.L2::evict_last.b64 %pol, 0f3F800000;
  setp.eq.u32 %p1, %r1, 0; setp.eq.u32 %p4, %r2, 0; and.pred %p4, %p4, %p1;
  shl.b32 %r3, %r1, 4;
FILL:
  cvt.u64.u32 %rd4, %r3; add.u64 %rd4, %rd4, %rd2; add.u32 %r4, %r5, %r3;
  ld.global.v4.u32 {%w0, %w1, %w2, %w3}, [%rd4]; st.shared.v4.u32 [%r4], {%w0, %w1, %w2, %w3};
  add.u32 %r3, %r3, 1024; setp.lt.u32 %p2, %r3, 8192; @%p2 bra FILL;
  @%p1 mbarrier.init.shared.b64 [%r6], 1;
  fence.proxy.async; fence.mbarrier_init.release.cluster;
  barrier.cluster.arrive; barrier.cluster.wait;
)" + body + R"(
  barrier.cluster.arrive; barrier.cluster.wait;
  mul.wide.u32 %rd5, %r2, 8192; add.u64 %rd3, %rd3, %rd5;
  shl.b32 %r3, %r1, 4;
COPY:
  cvt.u64.u32 %rd4, %r3; add.u64 %rd4, %rd4, %rd3; add.u32 %r4, %r5, %r3;
  ld.shared.v4.u32 {%w0, %w1, %w2, %w3}, [%r4]; st.global.v4.u32 [%rd4], {%w0, %w1, %w2, %w3};
  add.u32 %r3, %r3, 1024; setp.lt.u32 %p2, %r3, 8192; @%p2 bra COPY;
  ret;)");
  Outcome outcome;
  Device device;
  if (!device.load(text)) {
    ADD_FAILURE() << text;
    return outcome;
  }
  device.config.cluster = {blocks, 1, 1};
  device.options.timing = timing;
  device.options.stepLimit = 200000;
  TensorMapFields map = box.map;
  const uint64_t data = device.upload(tensor);
  map.globalAddress = data;
  const uint64_t pmap = device.upload(std::vector<TensorMapFields>{map}), pfill = device.upload(fill),
                 pout = device.upload(Bytes(blocks * boxRoom));
  EXPECT_EQ(device.run({blocks, 1, 1}, {64, 1, 1}, pmap, pfill, pout), LaunchError::None) << device.findings();
  EXPECT_EQ(device.findings(), "");
  outcome.tensor = device.download<uint8_t>(data, tensor.size());
  outcome.boxes = device.download<uint8_t>(pout, blocks * boxRoom);
  return outcome;
}

Bytes randomBytes(size_t count, unsigned seed) {
  std::mt19937 random(seed);
  Bytes out(count);
  for (uint8_t &byte : out) {
    byte = uint8_t(random());
  }
  return out;
}

std::string policyOf(const Row &row) { return row.instruction.mods.cacheHint ? ", %pol" : ""; }
const std::string waitForPhase0 =
    "\nWAIT: mbarrier.try_wait.parity.acquire.cluster.shared.b64 %p3, [%r6], 0; @!%p3 bra WAIT;\n";

void checkLoad(const Row &row, const Box &box, Timing timing) {
  const bool multicast = row.instruction.mods.multicast;
  const unsigned blocks = multicast ? 2 : 1;
  const Bytes tensor = randomBytes(tensorBytes, 1), fill(boxRoom, 0xEE);
  const std::string expect =
      "@%p1 mbarrier.arrive.expect_tx.shared.b64 _, [%r6], " + std::to_string(box.bytes()) + ";\nmov.u16 %h1, 3;\n";
  const Outcome got = outcomeOf(expect + "@%p4 " + row.mnemonic + " [%r5], [%rd1, " + coordinatesOf(box) + "], [%r6]" +
                                    (multicast ? ", %h1" : "") + policyOf(row) + ";" + waitForPhase0,
                                box, tensor, fill, timing, blocks);
  for (unsigned block = 0; block < blocks; ++block) {
    Bytes want = fill;
    Bytes have(got.boxes.begin() + block * boxRoom, got.boxes.begin() + (block + 1) * boxRoom);
    box.each([&](unsigned place, int64_t at) {
      if (at >= 0) {
        std::copy_n(tensor.begin() + at, box.element, want.begin() + place);
      } else if (box.map.fill) { // any NaN
        uint64_t bits = 0;
        std::memcpy(&bits, &have[place], box.element);
        EXPECT_EQ(decoded(bits, layoutOf(typeOf(box.map.elementType))).kind, Number::NaN);
        std::copy_n(have.begin() + place, box.element, want.begin() + place);
      } else {
        std::fill_n(want.begin() + place, box.element, uint8_t(0));
      }
    });
    ASSERT_EQ(have, want) << "block " << block;
  }
}

void checkStore(const Row &row, const Box &box, Timing timing) {
  const Reduce reduce = row.instruction.mods.reduce;
  ptx::Instruction single = row.instruction;
  single.types[0] = typeOf(box.map.elementType);
  single.mods.space = Space::Global;
  Bytes tensor = randomBytes(tensorBytes, 1), fill = randomBytes(boxRoom, 2);
  if (reduce != Reduce::None) { // edges of the type, in both
    std::mt19937 random(3);
    const std::vector<uint64_t> edges = edgesOf(single.types[0]);
    for (Bytes *bytes : {&tensor, &fill}) {
      for (size_t at = 0; at < bytes->size(); at += box.element) {
        std::memcpy(bytes->data() + at, &edges[random() % edges.size()], box.element);
      }
    }
  }
  const Outcome got = outcomeOf("@%p4 " + row.mnemonic + " [%rd1, " + coordinatesOf(box) + "], [%r5]" + policyOf(row) +
                                    ";\n@%p4 cp.async.bulk.commit_group;\n@%p4 cp.async.bulk.wait_group 0;",
                                box, tensor, fill, timing);
  Bytes want = tensor;
  box.each([&](unsigned place, int64_t at) {
    if (at < 0) {
      return;
    }
    uint64_t value = 0, old = 0;
    std::memcpy(&value, &fill[place], box.element);
    std::memcpy(&old, &want[size_t(at)], box.element);
    if (reduce != Reduce::None) {
      value = combined(single, old, value, 0);
      if (ptx::isFloat(single.types[0]) && decoded(value, layoutOf(single.types[0])).kind == Number::NaN) {
        value = 0x7FFF;
      }
    }
    std::memcpy(&want[size_t(at)], &value, box.element);
  });
  ASSERT_EQ(got.tensor, want);
  ASSERT_EQ(got.boxes, fill);
}

/// Numbers of CUtensorMapDataType that the reduction takes.
std::vector<unsigned> typesOf(Reduce reduce) {
  switch (reduce) {
  case Reduce::None:
    return {0, 1, 2, 6, 7, 8, 9};
  case Reduce::Add:
    return {2, 3, 4, 6, 9};
  case Reduce::Min:
  case Reduce::Max:
    return {2, 3, 4, 5, 6, 9};
  case Reduce::Inc:
  case Reduce::Dec:
    return {2};
  default:
    return {2, 4};
  }
}
} // namespace

TEST(TensorRows, EveryElementGoesWhereItBelongs) {
  unsigned count = 0;
  for (const Row &row :
       rowsOf({Opcode::CpAsyncBulkTensor, Opcode::CpReduceAsyncBulkTensor, Opcode::CpAsyncBulkPrefetchTensor})) {
    const ptx::Modifiers &mods = row.instruction.mods;
    if (mods.mode == Mode::Im2col && row.instruction.op == Opcode::CpAsyncBulkPrefetchTensor) {
      const Box box = boxOf(mods.dims, 0, 2, 0, false, false);
      const Bytes tensor = randomBytes(tensorBytes, 1);
      std::string offsets = "{%h1";
      for (unsigned d = 3; d < mods.dims; ++d) {
        offsets += ", %h1";
      }
      const std::string prefetch = "mov.u16 %h1, 0;\n@%p4 " + row.mnemonic + " [%rd1, " + coordinatesOf(box) + "], " +
                                   offsets + "}" + policyOf(row);
      ASSERT_EQ(outcomeOf(prefetch + ";", box, tensor, Bytes(boxRoom), Timing::Late).tensor, tensor);
      continue;
    }
    if (mods.mode == Mode::Im2col || mods.mode == Mode::Im2colNoOffs) {
      continue; // refused: docs/ptx-refused.txt
    }
    ++count;
    const unsigned rank = mods.dims;
    unsigned number = 0;
    for (unsigned swizzle = 0; swizzle < 4; ++swizzle) {
      for (unsigned type : typesOf(mods.reduce)) {
        for (unsigned where = 0; where < 3; ++where) {
          const bool nan = type >= 6 && where == 1 && row.instruction.op == Opcode::CpAsyncBulkTensor &&
                           mods.completion == ptx::Completion::Mbarrier;
          const Box box = boxOf(rank, swizzle, type, where, where == 2 && swizzle % 2 == 0, nan);
          SCOPED_TRACE(row.mnemonic + " swizzle " + std::to_string(swizzle) + " type " + std::to_string(type) +
                       " place " + std::to_string(where));
          const Timing timing = Timing(number++ % 3);
          if (row.instruction.op == Opcode::CpAsyncBulkPrefetchTensor) {
            const Bytes tensor = randomBytes(tensorBytes, 1);
            ASSERT_EQ(outcomeOf("@%p4 " + row.mnemonic + " [%rd1, " + coordinatesOf(box) + "]" + policyOf(row) + ";",
                                box, tensor, Bytes(boxRoom), timing)
                          .tensor,
                      tensor);
          } else if (mods.completion == ptx::Completion::Mbarrier) {
            checkLoad(row, box, timing);
          } else {
            checkStore(row, box, timing);
          }
          if (HasFatalFailure() || HasNonfatalFailure()) {
            return;
          }
        }
      }
    }
  }
  EXPECT_EQ(count, 49U);
}

TEST(TensorRows, KernelsPutMapsRight) {
  // For each field: the value that is wrong at first, and the one that the kernel writes over it.
  const Box box = boxOf(3, 1, 6, 1, false, true);
  for (const Row &row : rowsOf({Opcode::TensormapReplace})) {
    SCOPED_TRACE(row.mnemonic);
    Box wrong = box;
    std::string operands;
    switch (row.instruction.mods.mode) {
    case Mode::GlobalAddress:
      operands = ", %rd6"; // 16 bytes behind what the map has
      break;
    case Mode::Rank:
      wrong.map.rank = 1;
      operands = ", 2";
      break;
    case Mode::BoxDim:
      wrong.map.boxDim[1] = 1;
      operands = ", 1, " + std::to_string(box.map.boxDim[1]);
      break;
    case Mode::GlobalDim:
      wrong.map.globalDim[2] = 1;
      operands = ", 2, " + std::to_string(box.map.globalDim[2]);
      break;
    case Mode::ElementStride:
      wrong.map.elementStride[1] = 3;
      operands = ", 1, 1";
      break;
    case Mode::GlobalStride:
      wrong.map.globalStride[1] = 16;
      operands = ", 1, " + std::to_string(box.map.globalStride[1]);
      break;
    case Mode::Elemtype:
      wrong.map.elementType = 9;
      wrong.map.fill = 0;
      operands = ", 6";
      break;
    case Mode::InterleaveLayout:
      wrong.map.interleave = 1;
      operands = ", 0";
      break;
    case Mode::SwizzleMode:
      wrong.map.swizzle = 2;
      operands = ", 1";
      break;
    default:
      wrong.map.fill = 0;
      operands = ", 1";
      break;
    }
    const bool isAddress = row.instruction.mods.mode == Mode::GlobalAddress,
               isType = row.instruction.mods.mode == Mode::Elemtype;
    const Bytes tensor = randomBytes(tensorBytes, 1), fill(boxRoom, 0xEE);
    for (const Row &fence : rowsOf({Opcode::TensormapCpFenceproxy})) {
      const bool shared = row.mnemonic.find("shared") != std::string::npos;
      // In global memory in place; in shared memory on a copy that a cp_fenceproxy brings back.
      const std::string inShared = "mov.u32 %r10, copy; shl.b32 %r11, %r1, 2; add.u32 %r11, %r11, %r10; cvt.u64.u32 "
                                   "%rd4, %r1; shl.b64 %rd4, %rd4, 2; add.u64 %rd4, %rd4, %rd1;\n"
                                   "setp.gt.u32 %p5, %r1, 31; @%p5 bra MADE;\nld.global.u32 %w0, [%rd4]; st.shared.u32 "
                                   "[%r11], %w0; bar.warp.sync -1;\n@%p1 " +
                                   row.mnemonic + " [%r10]" + operands + ";\nbar.warp.sync -1;\n" + fence.mnemonic +
                                   " [%rd1], [%r10], 128;\nMADE:\n";
      const std::string scope = fence.mnemonic.find(".cta.") != std::string::npos       ? "cta"
                                : fence.mnemonic.find(".cluster.") != std::string::npos ? "cluster"
                                : fence.mnemonic.find(".gpu.") != std::string::npos     ? "gpu"
                                                                                        : "sys";
      const std::string inGlobal =
          "@%p1 " + row.mnemonic + " [%rd1]" + operands + ";\nfence.proxy.tensormap::generic.release." + scope + ";\n";
      const std::string body =
          ".shared .align 128 .b8 copy[128];\n" +
          std::string(isAddress ? "@%p1 ld.global.u64 %rd6, [%rd1];\n@%p1 add.u64 %rd6, %rd6, 16;\n" : "") +
          (shared ? inShared : inGlobal) + "bar.sync 0;\n@!%p1 bra WAIT;\nfence.proxy.tensormap::generic.acquire." +
          scope +
          " [%rd1], 128;\n"
          "mbarrier.arrive.expect_tx.shared.b64 _, [%r6], " +
          std::to_string(box.bytes()) +
          ";\n"
          "cp.async.bulk.tensor.3d.shared::cluster.global.mbarrier::complete_tx::bytes [%r5], [%rd1, " +
          coordinatesOf(box) + "], [%r6];" + waitForPhase0;
      const Outcome got = outcomeOf(body, wrong, tensor, fill, Timing::Late);
      Bytes want = fill;
      box.each([&](unsigned place, int64_t from) {
        if (from >= 0) {
          std::copy_n(tensor.begin() + from + (isAddress ? 16 : 0), box.element, want.begin() + place);
        } else if (isType) {
          std::fill_n(want.begin() + place, box.element, uint8_t(0));
        } else {
          std::copy_n(got.boxes.begin() + place, box.element, want.begin() + place);
          uint64_t bits = 0;
          std::memcpy(&bits, &got.boxes[place], box.element);
          EXPECT_EQ(decoded(bits, layoutF16).kind, Number::NaN);
        }
      });
      ASSERT_EQ(got.boxes, want) << fence.mnemonic;
      if (HasNonfatalFailure()) {
        return;
      }
    }
  }
}
