//===- Wgmma.cpp - wgmma of a warpgroup ------------------------------------===//
//
// wgmma.mma_async: each of the four warps computes its 16 rows. The work is
// pending until a wait (late) or done at once (early); until a wait the
// accumulators count as undefined, and the bytes of A and B in shared memory as
// being read by the warp's matrix agent, behind the asynchronous proxy.
//
// Groups are the warpgroup's, not the warp's: a wait returns when all four warps
// have committed the groups it waits for, and then what they read is known to be
// read. One thread may free a buffer for the whole warpgroup, as CUTLASS does.
//
// Operands in shared memory are found through descriptors: start address, two
// strides (leading and stride byte offset) and the swizzle, applied to bits 4..6
// of the address. K-major rows hold 16 (none), 32, 64 or 128 bytes of K; an
// MN-major matrix is the transpose of that.
//
// Undefined: a row of A makes a row of D undefined, a row of B (of N) a column.
//
//===----------------------------------------------------------------------===//
#include "runtime/emulator/exec/Access.h"
#include "runtime/emulator/exec/Formats.h"
#include "runtime/emulator/exec/Lanes.h"
#include "runtime/emulator/exec/SharedMatrix.h"

#include <algorithm>

namespace moert::emulator {

using ptx::Opcode;
using ptx::Type;

/// An operand in shared memory: `rows` (of M or N) from `firstRow` on, `columns` of K.
struct Tile {
  SharedMatrix matrix;
  unsigned firstRow, rows, columns;
};

/// Calls `visit(row, column, offset in shared memory)` for every run of 16 bytes (no swizzle or stride is finer), along
/// K or along M and N. False when `visit` says so.
template <typename F> static bool eachRun(const Tile &tile, F visit) {
  const SharedMatrix &matrix = tile.matrix;
  const unsigned run = 16 / matrix.bytes;
  if (matrix.mnMajor) {
    for (unsigned k = 0; k < tile.columns; ++k) {
      for (unsigned r = 0; r < tile.rows; r += run) {
        if (!visit(r, k, matrix.at(tile.firstRow + r, k) - sharedStart)) {
          return false;
        }
      }
    }
    return true;
  }
  for (unsigned r = 0; r < tile.rows; ++r) {
    for (unsigned k = 0; k < tile.columns; k += run) {
      if (!visit(r, k, matrix.at(tile.firstRow + r, k) - sharedStart)) {
        return false;
      }
    }
  }
  return true;
}

/// The bytes of a tile in the order of `eachRun`; marks the rows that have undefined ones. False after a report.
static bool gather(Warp &w, const Op &op, const Tile &tile, uint8_t *raw, uint8_t *badRows) {
  const uint64_t size = w.grid->sharedBytes;
  const uint8_t *shared = w.block->shared.data();
  const Shadow *shadow = w.checks ? w.block->shadow.get() : nullptr;
  const unsigned bytes = tile.matrix.bytes;
  return eachRun(tile, [&](unsigned row, unsigned, uint64_t at) {
    if (at >= size || 16 > size - at) {
      w.fault(FindingKind::OutOfBounds, LaunchError::IllegalAddress, op, 0,
              "a matrix descriptor reaches shared offset " + std::to_string(int64_t(at)) + "; the block has " +
                  std::to_string(size) + " bytes");
      return false;
    }
    std::memcpy(raw, shared + at, 16);
    raw += 16;
    uint32_t defined = shadow ? shadow->definedBits(at, 16) : 0xFFFF;
    if (defined != 0xFFFF) {
      for (unsigned b = 0; b < 16; ++b) {
        if (!(defined >> b & 1)) {
          badRows[tile.matrix.mnMajor ? row + b / bytes : row] = 1;
        }
      }
    }
    return true;
  });
}

/// The gathered bytes of a tile as floats, element (row, k) at row * rowStride + k * columnStride.
template <Type T>
static void decodeAs(const Tile &tile, const uint8_t *raw, float *out, unsigned rowStride, unsigned columnStride) {
  constexpr unsigned bytes = T == Type::TF32 ? 4 : T == Type::F16 || T == Type::BF16 ? 2 : 1;
  constexpr unsigned run = 16 / bytes;
  const bool mnMajor = tile.matrix.mnMajor;
  const unsigned outer = mnMajor ? tile.columns : tile.rows, inner = mnMajor ? tile.rows : tile.columns;
  const unsigned outerStride = mnMajor ? columnStride : rowStride, innerStride = mnMajor ? rowStride : columnStride;
  for (unsigned i = 0; i < outer; ++i) {
    for (unsigned j = 0; j < inner; j += run, raw += 16) {
      float *to = out + size_t(i) * outerStride + size_t(j) * innerStride;
      for (unsigned e = 0; e < run; ++e) {
        uint32_t bits = 0;
        std::memcpy(&bits, raw + e * bytes, bytes);
        to[size_t(e) * innerStride] = elementOf(bits, T);
      }
    }
  }
}
static void decode(Type type, const Tile &tile, const uint8_t *raw, float *out, unsigned rowStride,
                   unsigned columnStride) {
  auto as = type == Type::F16    ? decodeAs<Type::F16>
            : type == Type::BF16 ? decodeAs<Type::BF16>
            : type == Type::TF32 ? decodeAs<Type::TF32>
            : type == Type::E4M3 ? decodeAs<Type::E4M3>
            : type == Type::E5M2 ? decodeAs<Type::E5M2>
            : type == Type::S8   ? decodeAs<Type::S8>
                                 : decodeAs<Type::U8>;
  as(tile, raw, out, rowStride, columnStride);
}

/// Shows the reads of a shared operand to the shadow.
static void judgeOperand(Warp &w, const Op &op, const Tile &tile) {
  if (!w.checks) {
    return;
  }
  WarpJudge judge(w, op, true);
  judge.shared = true;
  judge.lane = unsigned(__builtin_ctz(w.live));
  Access now, ordered;
  now.time = w.grid->memory->actors.now();
  now.actor = w.actor + AgentMma;
  now.tag = Access::makeTag(allLanes, AsyncAccess, ScopeCta, op.site);
  const uint64_t size = w.grid->sharedBytes;
  Shadow &shadow = *w.block->shadow;
  Shadow::TileReader &reader = shadow.tileReader(now.actor);
  eachRun(tile, [&](unsigned, unsigned, uint64_t at) {
    if (at < size && 16 <= size - at) {
      shadow.readTile(reader, at, now, w.proxiedReach, judge, ordered);
    }
    return true;
  });
}

/// Decoded B operands: the four warps of a warpgroup read the same one. Kept with its bytes, which are compared.
struct DecodedB {
  uint64_t key = 0;
  uint8_t raw[256 * 32];
  alignas(64) float values[32 * 256]; ///< k-major: row k holds all of N
};

static const float *decodedB(Type type, const Tile &tile, const uint8_t *raw, uint64_t descriptor) {
  static thread_local std::vector<std::unique_ptr<DecodedB>> entries(8);
  std::unique_ptr<DecodedB> &entry = entries[(descriptor >> 1) % entries.size()];
  if (!entry) {
    entry = std::make_unique<DecodedB>();
  }
  const size_t bytes = size_t(tile.rows) * tile.columns * tile.matrix.bytes;
  const uint64_t key = 1 | uint64_t(type) << 8 | uint64_t(tile.rows) << 16 | uint64_t(tile.matrix.mnMajor) << 32;
  if (entry->key != key || std::memcmp(entry->raw, raw, bytes) != 0) {
    entry->key = key;
    std::memcpy(entry->raw, raw, bytes);
    decode(type, tile, raw, entry->values, 1, tile.rows);
  }
  return entry->values;
}

using Four = float __attribute__((vector_size(16)));

/// `sum[0..width)` += a row of A (`count` values, scaled) times `width` columns of B. Sums stay in registers over k.
template <unsigned Width>
static void multiplyRow(const float *a, unsigned count, float sign, const float *b, unsigned stride, float *sum) {
  float part[Width];
  std::memcpy(part, sum, sizeof part);
  for (unsigned k = 0; k < count; ++k) {
    const float scaled = a[k] * sign;
    const float *row = b + size_t(k) * stride;
    for (unsigned e = 0; e < Width; ++e) {
      part[e] = __builtin_fmaf(scaled, row[e], part[e]);
    }
  }
  std::memcpy(sum, part, sizeof part);
}

/// Every type has 32 bytes of K.
constexpr unsigned bytesOfK = 32;

static SharedMatrix matrixOf(uint64_t descriptor, Type type, bool mnMajor) {
  SharedMatrix matrix(descriptor);
  matrix.bytes = std::max(1U, ptx::bitsOf(type) / 8); // single bits by eight
  matrix.mnMajor = mnMajor;
  return matrix;
}

static Tile tileA(const Warp &w, const Op &op, uint64_t descriptor) {
  const SharedMatrix matrix = matrixOf(descriptor, op.inst->types[1], op.extra & 4);
  return {matrix, w.index % 4 * 16, 16, bytesOfK / matrix.bytes};
}

static Tile tileB(const Op &op, uint64_t descriptor) {
  const SharedMatrix matrix = matrixOf(descriptor, op.inst->types[2], op.extra & 8);
  return {matrix, 0, op.inst->mods.n, bytesOfK / matrix.bytes};
}

/// Single bits: D += number of ones in the rows of A and B, anded.
static void computeBits(const uint32_t (*a)[8], const uint8_t *b, unsigned N, uint32_t scaleD, uint32_t **registers) {
  for (unsigned i = 0; i < N / 2; ++i) {
    for (unsigned l = 0; l < 32; ++l) {
      const unsigned row = l / 4 + 8 * (i / 2 & 1), column = i / 4 * 8 + l % 4 * 2 + (i & 1);
      uint32_t other[8], ones = 0;
      std::memcpy(other, b + size_t(column) * bytesOfK, sizeof other);
      for (unsigned k = 0; k < 8; ++k) {
        ones += unsigned(__builtin_popcount(a[row][k] & other[k]));
      }
      registers[i][l] = (scaleD >> l & 1 ? registers[i][l] : 0) + ones;
    }
  }
}

// imm: fragments {d, a (registers), -, -}; a, b: descriptors; c: scale-d; extra: bits 0,1 negate a,b; 2,3 MN-major.
// `taintA`: per register of A, lanes that are undefined. `taint`: per register of D, joined with what becomes
// undefined.
static bool compute(Warp &w, const Op &op, Frame *frame, uint64_t descriptorA, uint64_t descriptorB, uint32_t scaleD,
                    const std::vector<uint32_t> &taintA, std::vector<uint32_t> &taint) {
  const ptx::Instruction &inst = *op.inst;
  const Fragments &f = w.grid->code->fragments[op.imm];
  const Ref *refs = w.grid->code->refs.data();
  const Type ta = inst.types[1], td = inst.types[0];
  const bool bits = ta == Type::B1;
  const unsigned N = inst.mods.n, K = bits ? bytesOfK : inst.mods.k;
  uint32_t bitsOfA[16][8];
  auto lanes = [&](const Ref &r) { return reinterpret_cast<uint32_t *>(frame->registers + r.offset); };
  static thread_local float a[16 * 32], c[16 * 256];
  static thread_local uint8_t raw[256 * 32];
  uint8_t badRows[16] = {}, badColumns[256] = {};
  const unsigned bytesA = std::max(1U, ptx::bitsOf(ta) / 8);
  if (f.count[1]) {
    const unsigned p = 4 / bytesA;
    for (unsigned i = 0; i < f.count[1]; ++i) {
      const uint32_t *from = lanes(refs[f.first[1] + i]);
      for (unsigned l = 0; l < 32; ++l) {
        const unsigned row = l / 4 + 8 * (i & 1);
        badRows[row] |= uint8_t(i < taintA.size() ? taintA[i] >> l & 1 : 0);
        if (bits) {
          bitsOfA[row][l % 4 + 4 * (i / 2)] = from[l];
          continue;
        }
        for (unsigned e = 0; e < p; ++e) {
          a[row * K + p * (l % 4) + 4 * p * (i / 2) + e] = elementOf(from[l] >> e * bytesA * 8 % 32, ta);
        }
      }
    }
  } else {
    Tile tile = tileA(w, op, descriptorA);
    if (!gather(w, op, tile, raw, badRows)) {
      return false;
    }
    if (bits) {
      std::memcpy(bitsOfA, raw, sizeof bitsOfA);
    } else {
      decode(ta, tile, raw, a, K, 1);
    }
  }
  const Tile tile = tileB(op, descriptorB);
  if (!gather(w, op, tile, raw, badColumns)) {
    return false;
  }
  const float *b = bits ? nullptr : decodedB(inst.types[2], tile, raw, descriptorB);
  const bool halfD = td == Type::F16, integer = td == Type::S32;
  const float sign = ((op.extra & 1) != 0) != ((op.extra & 2) != 0) ? -1.0F : 1.0F;
  // Where register i holds its elements: two of a row (f16), or one.
  auto placeOf = [&](unsigned i, unsigned l) {
    return halfD ? (l / 4 + 8 * (i & 1)) * N + i / 2 * 8 + l % 4 * 2
                 : (l / 4 + 8 * (i / 2 & 1)) * N + i / 4 * 8 + l % 4 * 2 + (i & 1);
  };
  uint32_t *registers[128];
  for (unsigned i = 0; i < f.count[0]; ++i) {
    registers[i] = lanes(refs[f.first[0] + i]);
  }
  auto multiply = [&](unsigned r, float *sum) {
    unsigned n = 0;
    for (; n + 32 <= N; n += 32) {
      multiplyRow<32>(a + r * K, K, sign, b + n, N, sum + n);
    }
    for (; n < N; n += 8) {
      multiplyRow<8>(a + r * K, K, sign, b + n, N, sum + n);
    }
  };
  if (bits) {
    computeBits(bitsOfA, raw, N, scaleD, registers);
  } else if (!halfD && !integer && (scaleD == 0 || scaleD == ~0U)) {
    // The usual case, a row at a time: eight columns are four lanes of two registers, taking turns.
    for (unsigned r = 0; r < 16; ++r) {
      alignas(64) float sum[256];
      for (unsigned n = 0; n < N; n += 8) {
        Four even, odd;
        std::memcpy(&even, registers[n / 2 + r / 8 * 2] + r % 8 * 4, sizeof even);
        std::memcpy(&odd, registers[n / 2 + r / 8 * 2 + 1] + r % 8 * 4, sizeof odd);
        const Four low = __builtin_shufflevector(even, odd, 0, 4, 1, 5);
        const Four high = __builtin_shufflevector(even, odd, 2, 6, 3, 7);
        std::memcpy(sum + n, &low, sizeof low);
        std::memcpy(sum + n + 4, &high, sizeof high);
      }
      if (scaleD == 0) {
        std::memset(sum, 0, sizeof sum);
      }
      multiply(r, sum);
      for (unsigned n = 0; n < N; ++n) {
        sum[n] = sum[n] == sum[n] ? sum[n] : floatOfBits(0x7FFFFFFF);
      }
      for (unsigned n = 0; n < N; n += 8) {
        Four low, high;
        std::memcpy(&low, sum + n, sizeof low);
        std::memcpy(&high, sum + n + 4, sizeof high);
        const Four even = __builtin_shufflevector(low, high, 0, 2, 4, 6);
        const Four odd = __builtin_shufflevector(low, high, 1, 3, 5, 7);
        std::memcpy(registers[n / 2 + r / 8 * 2] + r % 8 * 4, &even, sizeof even);
        std::memcpy(registers[n / 2 + r / 8 * 2 + 1] + r % 8 * 4, &odd, sizeof odd);
      }
    }
  } else {
    for (unsigned i = 0; i < f.count[0]; ++i) {
      const uint32_t *from = registers[i];
      for (unsigned l = 0; l < 32; ++l) {
        const bool keep = scaleD >> l & 1;
        float *to = c + placeOf(i, l);
        if (halfD) {
          to[0] = keep ? f16ToFloat(from[l] & 0xFFFF) : 0;
          to[1] = keep ? f16ToFloat(from[l] >> 16) : 0;
        } else {
          *to = keep && !integer ? floatOfBits(from[l]) : 0;
        }
      }
    }
    // Integer products of one instruction stay below 2^24: exact in f32, then added as integers.
    for (unsigned r = 0; r < 16; ++r) {
      multiply(r, c + r * N);
    }
    for (unsigned i = 0; i < f.count[0]; ++i) {
      uint32_t *to = registers[i];
      for (unsigned l = 0; l < 32; ++l) {
        const float *from = c + placeOf(i, l);
        if (halfD) {
          to[l] = floatToF16(from[0]) | floatToF16(from[1]) << 16;
        } else if (integer) {
          int64_t v = int64_t(scaleD >> l & 1 ? int32_t(to[l]) : 0) + int64_t(*from);
          if (inst.mods.satfinite) {
            v = std::min<int64_t>(std::max<int64_t>(v, INT32_MIN), INT32_MAX);
          }
          to[l] = uint32_t(v);
        } else {
          to[l] = *from == *from ? bitsOfFloat(*from) : 0x7FFFFFFF;
        }
      }
    }
  }
  if (!w.checks) {
    return true;
  }
  bool any = false;
  for (uint8_t bad : badRows) {
    any |= bad;
  }
  any = any || std::any_of(badColumns, badColumns + N, [](uint8_t bad) { return bad; });
  for (unsigned i = 0; any && i < f.count[0]; ++i) {
    for (unsigned l = 0; l < 32; ++l) {
      const unsigned at = placeOf(i, l);
      bool bad = badRows[at / N] || badColumns[at % N] || (halfD && badColumns[at % N + 1]);
      taint[i] |= uint32_t(bad) << l;
    }
  }
  return true;
}

static Step wgmma(Warp &w, const Op &op, uint32_t m) {
  if (m != ~0U) {
    return w.fault(FindingKind::Divergence, LaunchError::IllegalInstruction, op, unsigned(__builtin_ctz(m)),
                   "wgmma is executed by a part of the warp");
  }
  if (w.checks && !w.mmaFenced) {
    w.report(FindingKind::Race, op, 0, "no wgmma.fence orders the registers before the first wgmma.mma_async");
    w.mmaFenced = true;
  }
  const Fragments &f = w.grid->code->fragments[op.imm];
  const Ref *refs = w.grid->code->refs.data();
  requireDefined(w, op, op.b, m, "a matrix descriptor");
  if (!f.count[1]) {
    requireDefined(w, op, op.a, m, "a matrix descriptor");
  }
  const uint64_t descriptorA = f.count[1] ? 0 : w.lane(op.a, 0), descriptorB = w.lane(op.b, 0);
  const uint32_t scaleD = op.c.bits ? w.predicateValue(op.c) : ~0U;
  if (!f.count[1]) {
    judgeOperand(w, op, tileA(w, op, descriptorA));
  }
  judgeOperand(w, op, tileB(op, descriptorB));
  w.mmaTime[w.mmaGroup % 16] = w.checks ? w.grid->memory->actors.now() : 0;
  std::vector<uint32_t> taintA(f.count[1]);
  for (unsigned i = 0; i < f.count[1]; ++i) {
    const Ref &source = refs[f.first[1] + i];
    taintA[i] = w.checks ? w.undefined(source) : 0;
    if (w.checks && source.base == 0) {
      w.mmaSources[source.undef] = w.mmaGroup;
    }
  }
  // What is truly undefined in the accumulators is kept while they count as undefined for being in flight.
  std::vector<uint32_t> taint(f.count[0]);
  for (unsigned i = 0; i < f.count[0] && w.checks; ++i) {
    const Ref &r = refs[f.first[0] + i];
    auto known = w.mmaInFlight.find(r.undef);
    taint[i] = (known != w.mmaInFlight.end() ? known->second.taint : w.undefined(r)) & scaleD;
    w.mmaInFlight[r.undef] = {taint[i], w.mmaGroup};
    w.undef[r.undef] = ~0U;
  }
  Warp *warp = &w;
  Frame *frame = w.frame;
  const Op *instruction = &op;
  PendingWork work;
  work.warp = &w;
  work.kind = PendingWork::MmaGroup;
  work.group = w.mmaGroup;
  work.land = [warp, frame, instruction, descriptorA, descriptorB, scaleD, taintA, taint]() mutable {
    const Fragments &fragments = warp->grid->code->fragments[instruction->imm];
    const Ref *all = warp->grid->code->refs.data();
    compute(*warp, *instruction, frame, descriptorA, descriptorB, scaleD, taintA, taint);
    for (unsigned i = 0; i < fragments.count[0] && warp->checks; ++i) {
      auto known = warp->mmaInFlight.find(all[fragments.first[0] + i].undef);
      if (known != warp->mmaInFlight.end()) {
        known->second.taint |= taint[i];
      }
    }
  };
  if (w.grid->options.timing == Timing::Early) {
    work.land();
    return w.grid->failure == LaunchError::None ? Step::Next : Step::Failed;
  }
  w.block->work.push_back(std::move(work));
  return Step::Next;
}

void Warp::judgeRegisters(const Op &op) {
  const Opcode code = op.inst ? op.inst->op : Opcode::WgmmaFence;
  if (code == Opcode::WgmmaMmaAsync || frame->caller) {
    return; // accumulators may be handed from one wgmma to the next; a device function has registers of its own
  }
  auto use = [&](const Ref &ref) {
    if (ref.bits && ref.base == 0 && ref.undef >= 2 && mmaInFlight.count(ref.undef)) {
      report(FindingKind::Race, op, unsigned(__builtin_ctz(live)),
             "uses an accumulator of a wgmma that no wait has covered");
    }
  };
  if (code != Opcode::Mov) { // compilers move accumulators about; assemblers see through that
    use(op.a);
    use(op.b);
    use(op.c);
    use(op.e);
  }
  auto look = [&](const Ref &ref) {
    if (!ref.bits || ref.base != 0 || ref.undef < 2) {
      return;
    }
    auto accumulator = mmaInFlight.find(ref.undef);
    auto source = mmaSources.find(ref.undef);
    if (accumulator == mmaInFlight.end() && source == mmaSources.end()) {
      return;
    }
    report(FindingKind::Race, op, unsigned(__builtin_ctz(live)),
           accumulator != mmaInFlight.end() ? "writes an accumulator of a wgmma that no wait has covered"
                                            : "writes a register that a wgmma still reads as its A");
    mmaSources.erase(ref.undef);
  };
  if (code == Opcode::St || code == Opcode::Stmatrix || code == Opcode::Red || code == Opcode::CpAsync ||
      code == Opcode::WmmaStore) {
    use(op.d); // `d` and `list` are sources here
    for (uint32_t i = 0; i < op.listCount; ++i) {
      use(grid->code->refs[op.list + i]);
    }
    return;
  }
  look(op.d);
  look(op.d2);
  if (code == Opcode::Ld || code == Opcode::Ldmatrix || code == Opcode::WmmaLoad) {
    for (uint32_t i = 0; i < op.listCount; ++i) {
      look(grid->code->refs[op.list + i]);
    }
  }
}

static Step wgmmaFence(Warp &w, const Op &, uint32_t) {
  w.mmaFenced = true;
  return Step::Next;
}

/// Calls `visit(warp)` for the other warps of `w`'s warpgroup.
template <typename F> static void visitOthers(Warp &w, F visit) {
  const auto &warps = w.block->warps;
  for (size_t i = w.index / 4 * 4; i < std::min<size_t>(w.index / 4 * 4 + 4, warps.size()); ++i) {
    if (warps[i].get() != &w) {
      visit(*warps[i]);
    }
  }
}

void wakeWarpgroup(Warp &w) {
  visitOthers(w, [&](Warp &other) {
    for (Split &split : other.splits) {
      if (split.mask && split.state == Split::AtBarrier &&
          split.frame->code->ops[split.pc].inst->op == Opcode::WgmmaWaitGroup) {
        split.state = Split::Ready;
        ++w.grid->changes;
      }
    }
  });
}

static Step wgmmaCommit(Warp &w, const Op &, uint32_t) {
  ++w.mmaGroup;
  w.mmaTime[w.mmaGroup % 16] = 0;
  if (w.checks) {
    w.grid->memory->actors.tick();
  }
  wakeWarpgroup(w);
  return Step::Next;
}

/// The last time at which `w` read shared memory in a group below `before`; 0: never, or too long ago to matter.
static Time lastRead(const Warp &w, uint32_t before) {
  Time last = 0;
  const uint32_t kept = w.mmaGroup > 15 ? w.mmaGroup - 15 : 0;
  for (uint32_t g = kept; g < before; ++g) {
    last = std::max(last, w.mmaTime[g % 16]);
  }
  return last;
}

/// The groups below `before` of all four warps are complete: each lane of `w` knows all that they have read.
static void learnReads(Warp &w, uint32_t before) {
  auto learn = [&](Warp &reader) {
    const Time time = lastRead(reader, before);
    if (!time) {
      return;
    }
    Clock from, to; // lanes that know the same share it
    for (LaneClocks &lane : w.clocks) {
      if (to.empty() || !lane.known.sameAs(from)) {
        from = lane.known;
        to = from;
        to.learn(Clock::warpKey(reader.actor + AgentMma), time);
      }
      lane.known = to;
    }
  };
  learn(w);
  visitOthers(w, learn);
}

static Step wgmmaWait(Warp &w, const Op &op, uint32_t) {
  uint32_t before = w.mmaGroup > uint32_t(op.imm) ? w.mmaGroup - uint32_t(op.imm) : 0;
  bool complete = true;
  visitOthers(w, [&](Warp &other) { complete &= other.live == 0 || other.mmaGroup >= before; });
  if (!complete) {
    w.splits[w.current].state = Split::AtBarrier;
    return Step::Blocked;
  }
  auto &work = w.block->work;
  for (size_t i = 0; i < work.size();) {
    if (work[i].kind == PendingWork::MmaGroup && work[i].warp->index / 4 == w.index / 4 && work[i].group < before) {
      PendingWork done = std::move(work[i]);
      work.erase(work.begin() + long(i));
      done.land();
    } else {
      ++i;
    }
  }
  if (w.checks) {
    learnReads(w, before);
    for (auto it = w.mmaInFlight.begin(); it != w.mmaInFlight.end();) {
      if (it->second.group < before) {
        w.undef[it->first] = it->second.taint;
        it = w.mmaInFlight.erase(it);
      } else {
        ++it;
      }
    }
    for (auto it = w.mmaSources.begin(); it != w.mmaSources.end();) {
      it = it->second < before ? w.mmaSources.erase(it) : std::next(it);
    }
    w.grid->memory->actors.tick();
  }
  return w.grid->failure == LaunchError::None ? Step::Next : Step::Failed;
}

bool selectWarpgroup(Builder &b, const ptx::Instruction &inst, Op &op) {
  const ptx::Function &fn = b.function;
  auto part = [&](Fragments &f, unsigned slot, unsigned operand, unsigned bits) {
    b.list(fn.operand(inst, operand), bits, f.first[slot], f.count[slot]);
  };
  auto addFragments = [&](const Fragments &f) {
    op.imm = int64_t(b.code.fragments.size());
    b.code.fragments.push_back(f);
  };
  op.flags = OpSync;
  switch (inst.op) {
  case Opcode::WgmmaMmaAsync: {
    Fragments f;
    part(f, 0, 0, 32);
    bool registers = fn.operand(inst, 1).kind == ptx::OperandKind::Vector;
    if (registers) {
      part(f, 1, 1, 32);
    } else {
      op.a = b.ref(inst, 1, 64);
    }
    op.b = b.ref(inst, 2, 64);
    if (fn.operand(inst, 3).kind != ptx::OperandKind::None) {
      op.c = b.ref(inst, 3, 1);
    }
    auto immediate = [&](unsigned i) {
      return i < inst.operandCount && fn.operand(inst, i).kind == ptx::OperandKind::Immediate
                 ? int64_t(fn.operand(inst, i).bits)
                 : 0;
    };
    op.extra = uint8_t((immediate(4) == -1 ? 1 : 0) | (immediate(5) == -1 ? 2 : 0));
    if (registers) {
      op.extra |= immediate(6) ? 8 : 0;
    } else {
      op.extra |= uint8_t((immediate(6) ? 4 : 0) | (immediate(7) ? 8 : 0));
    }
    addFragments(f);
    op.run = wgmma;
    return true;
  }
  case Opcode::WgmmaFence:
    op.run = wgmmaFence;
    return true;
  case Opcode::WgmmaCommitGroup:
    op.run = wgmmaCommit;
    return true;
  case Opcode::WgmmaWaitGroup:
    op.imm = int64_t(fn.operand(inst, 0).bits);
    op.run = wgmmaWait;
    return true;
  default:
    op.flags = 0;
    return false;
  }
}

} // namespace moert::emulator
