//===- Wgmma.cpp - wgmma of a warpgroup, and wmma --------------------------===//
//
// wgmma.mma_async: each of the four warps computes its 16 rows. The work is
// pending until a wait (late) or done at once (early); until a wait the
// accumulators count as undefined, and the bytes of A and B in shared memory as
// being read by the warp's matrix agent, behind the asynchronous proxy.
//
// Operands in shared memory are found through descriptors: start address, two
// strides (leading and stride byte offset) and the swizzle, applied to bits 4..6
// of the address. K-major rows hold 16 (none), 32, 64 or 128 bytes of K; an
// MN-major matrix is the transpose of that.
//
// wmma: the layout of a fragment is not defined by PTX; here lane l holds
// elements l * n .. of the matrix in row order (A and B twice over).
//
//===----------------------------------------------------------------------===//
#include "runtime/emulator/exec/Access.h"
#include "runtime/emulator/exec/Formats.h"
#include "runtime/emulator/exec/Lanes.h"

#include <algorithm>

namespace moert::emulator {

using ptx::Opcode;
using ptx::Space;
using ptx::Type;

/// A matrix in shared memory as its descriptor says.
struct SharedMatrix {
  uint64_t start = 0, leading = 0, stride = 0;
  unsigned swizzle = 0; ///< 0 none; 1, 2, 3: 32, 64, 128 bytes
  bool mnMajor = false;
  unsigned bytes = 2; ///< of an element

  explicit SharedMatrix(uint64_t bits) {
    start = (bits & 0x3FFF) << 4;
    leading = (bits >> 16 & 0x3FFF) << 4;
    stride = (bits >> 32 & 0x3FFF) << 4;
    static const unsigned modes[] = {0, 3, 2, 1};
    swizzle = modes[bits >> 62];
  }
  /// Shared address of the element at row `r` (of M or N) and column `k`.
  uint64_t at(unsigned r, unsigned k) const {
    const unsigned span = 16U << swizzle; // bytes of a row of the pattern
    uint64_t address;
    if (!mnMajor) {
      unsigned byte = k * bytes;
      address = swizzle ? start + r / 8 * stride + uint64_t(r % 8) * span + byte
                        : start + r / 8 * stride + byte / 16 * leading + r % 8 * 16 + byte % 16;
    } else {
      unsigned perRow = span / bytes;
      uint64_t inRow = uint64_t(r % perRow) * bytes;
      address = swizzle ? start + r / perRow * leading + k / 8 * stride + uint64_t(k % 8) * span + inRow
                        : start + r / perRow * stride + k / 8 * leading + k % 8 * 16 + inRow;
    }
    return address ^ ((address >> 7 & ((1U << swizzle) - 1)) << 4);
  }
};

static inline float elementOf(uint32_t bits, Type type) {
  switch (type) {
  case Type::F16:
    return f16ToFloat(bits & 0xFFFF);
  case Type::BF16:
    return bf16ToFloat(bits & 0xFFFF);
  case Type::TF32:
    return floatOfBits(bits & 0xFFFFE000);
  case Type::E4M3:
    return float(decode(bits & 255, formatE4M3));
  case Type::E5M2:
    return float(decode(bits & 255, formatE5M2));
  case Type::S8:
    return float(int8_t(bits));
  default:
    return float(uint8_t(bits));
  }
}

/// `rows` x `columns` elements to floats, 16 bytes at a time (no swizzle or stride is finer); false after a report.
template <Type T>
static bool fetchAs(Warp &w, const Op &op, const SharedMatrix &matrix, unsigned firstRow, unsigned rows,
                    unsigned columns, float *out, unsigned rowStride, unsigned columnStride, bool &undefined) {
  constexpr unsigned bytes = T == Type::TF32 ? 4 : T == Type::F16 || T == Type::BF16 ? 2 : 1;
  constexpr unsigned run = 16 / bytes;
  const uint64_t size = w.grid->sharedBytes;
  const unsigned outer = matrix.mnMajor ? columns : rows, inner = matrix.mnMajor ? rows : columns;
  const unsigned outerStride = matrix.mnMajor ? columnStride : rowStride;
  const unsigned innerStride = matrix.mnMajor ? rowStride : columnStride;
  for (unsigned i = 0; i < outer; ++i) {
    for (unsigned j = 0; j < inner; j += run) {
      uint64_t at = (matrix.mnMajor ? matrix.at(firstRow + j, i) : matrix.at(firstRow + i, j)) - sharedStart;
      if (at >= size || 16 > size - at) {
        w.fault(FindingKind::OutOfBounds, LaunchError::IllegalAddress, op, 0,
                "a matrix descriptor reaches shared offset " + std::to_string(int64_t(at)) + "; the block has " +
                    std::to_string(size) + " bytes");
        return false;
      }
      const uint8_t *from = &w.block->shared[at];
      float *to = out + size_t(i) * outerStride + size_t(j) * innerStride;
      for (unsigned e = 0; e < run; ++e) {
        uint32_t bits = 0;
        std::memcpy(&bits, from + e * bytes, bytes);
        to[size_t(e) * innerStride] = elementOf(bits, T);
      }
      if (w.checks) {
        undefined |= w.block->shadow->definedBits(at, 16) != 0xFFFF;
      }
    }
  }
  return true;
}
static bool fetch(Warp &w, const Op &op, const SharedMatrix &matrix, unsigned firstRow, unsigned rows, unsigned columns,
                  Type type, float *out, unsigned rowStride, unsigned columnStride, bool &undefined) {
  auto as = type == Type::F16    ? fetchAs<Type::F16>
            : type == Type::BF16 ? fetchAs<Type::BF16>
            : type == Type::TF32 ? fetchAs<Type::TF32>
            : type == Type::E4M3 ? fetchAs<Type::E4M3>
            : type == Type::E5M2 ? fetchAs<Type::E5M2>
            : type == Type::S8   ? fetchAs<Type::S8>
                                 : fetchAs<Type::U8>;
  return as(w, op, matrix, firstRow, rows, columns, out, rowStride, columnStride, undefined);
}

/// Shows the reads of a shared operand to the shadow.
static bool judgeOperand(Warp &w, const Op &op, const SharedMatrix &matrix, unsigned firstRow, unsigned rows,
                         unsigned columns) {
  if (!w.checks) {
    return true;
  }
  WarpJudge judge(w, op, true);
  judge.shared = true;
  judge.lane = unsigned(__builtin_ctz(w.live));
  Access now;
  now.time = w.grid->memory->actors.now();
  now.actor = w.actor + AgentMma;
  now.tag = Access::makeTag(allLanes, AsyncAccess, ScopeCta, op.site);
  const uint64_t size = w.grid->sharedBytes;
  // 16 bytes at a time: no swizzle or stride is finer.
  const unsigned step = std::max(1U, 16 / matrix.bytes);
  for (unsigned i = 0; i < (matrix.mnMajor ? columns : rows); ++i) {
    for (unsigned j = 0; j < (matrix.mnMajor ? rows : columns); j += step) {
      uint64_t at = (matrix.mnMajor ? matrix.at(firstRow + j, i) : matrix.at(firstRow + i, j)) - sharedStart;
      if (at < size && 16 <= size - at) {
        w.block->shadow->access(at, 16, false, now, w.proxiedReach, judge);
      }
    }
  }
  return true;
}

// imm: fragments {d, a (registers), -, -}; a, b: descriptors; c: scale-d; extra: bits 0,1 negate a,b; 2,3 MN-major.
static bool compute(Warp &w, const Op &op, Frame *frame, uint64_t descriptorA, uint64_t descriptorB, uint32_t scaleD,
                    uint32_t taintOfA, std::vector<uint32_t> &taint) {
  const ptx::Instruction &inst = *op.inst;
  const Fragments &f = w.grid->code->fragments[op.imm];
  const Ref *refs = w.grid->code->refs.data();
  const unsigned N = inst.mods.n, K = inst.mods.k;
  const Type ta = inst.types[1], tb = inst.types[2], td = inst.types[0];
  auto lanes = [&](const Ref &r) { return reinterpret_cast<uint32_t *>(frame->registers + r.offset); };
  static thread_local float a[16 * 256], b[256 * 256], c[16 * 256];
  bool undefined = taintOfA != 0;
  const unsigned rank = w.index % 4;
  const unsigned bytesA = ptx::bitsOf(ta) / 8, bytesB = ptx::bitsOf(tb) / 8;
  if (f.count[1]) {
    const unsigned p = 4 / bytesA;
    for (unsigned i = 0; i < f.count[1]; ++i) {
      const uint32_t *from = lanes(refs[f.first[1] + i]);
      for (unsigned l = 0; l < 32; ++l) {
        for (unsigned e = 0; e < p; ++e) {
          a[(l / 4 + 8 * (i & 1)) * K + p * (l % 4) + 4 * p * (i / 2) + e] =
              elementOf(from[l] >> e * bytesA * 8 % 32, ta);
        }
      }
    }
  } else {
    SharedMatrix matrix(descriptorA);
    matrix.bytes = bytesA;
    matrix.mnMajor = op.extra & 4;
    if (!fetch(w, op, matrix, rank * 16, 16, K, ta, a, K, 1, undefined)) {
      return false;
    }
  }
  SharedMatrix matrix(descriptorB);
  matrix.bytes = bytesB;
  matrix.mnMajor = op.extra & 8;
  if (!fetch(w, op, matrix, 0, N, K, tb, b, 1, N, undefined)) {
    return false;
  }
  const bool halfD = td == Type::F16, integer = td == Type::S32;
  const float sign = ((op.extra & 1) != 0) != ((op.extra & 2) != 0) ? -1.0F : 1.0F;
  static thread_local int32_t ci[16 * 256];
  for (unsigned i = 0; i < f.count[0]; ++i) {
    const uint32_t *from = lanes(refs[f.first[0] + i]);
    for (unsigned l = 0; l < 32; ++l) {
      bool keep = scaleD >> l & 1;
      if (halfD) {
        unsigned at = (l / 4 + 8 * (i & 1)) * N + i / 2 * 8 + l % 4 * 2;
        c[at] = keep ? f16ToFloat(from[l] & 0xFFFF) : 0;
        c[at + 1] = keep ? f16ToFloat(from[l] >> 16) : 0;
      } else {
        unsigned at = (l / 4 + 8 * (i / 2 & 1)) * N + i / 4 * 8 + l % 4 * 2 + (i & 1);
        c[at] = keep && !integer ? floatOfBits(from[l]) : 0;
        ci[at] = keep ? int32_t(from[l]) : 0;
      }
    }
  }
  for (unsigned r = 0; r < 16; ++r) {
    float *sum = c + r * N;
    // Integer products of one instruction stay below 2^24: exact in f32, then added as integers.
    // Eight columns (every n is a multiple) stay in registers over k.
    for (unsigned n = 0; n < N; n += 8) {
      float part[8];
      std::memcpy(part, sum + n, sizeof part);
      for (unsigned k = 0; k < K; ++k) {
        const float scaled = a[r * K + k] * sign;
        const float *row = b + k * N + n;
        for (unsigned e = 0; e < 8; ++e) {
          part[e] = __builtin_fmaf(scaled, row[e], part[e]);
        }
      }
      std::memcpy(sum + n, part, sizeof part);
    }
  }
  for (unsigned i = 0; i < f.count[0]; ++i) {
    uint32_t *to = lanes(refs[f.first[0] + i]);
    for (unsigned l = 0; l < 32; ++l) {
      if (halfD) {
        unsigned at = (l / 4 + 8 * (i & 1)) * N + i / 2 * 8 + l % 4 * 2;
        to[l] = floatToF16(c[at]) | floatToF16(c[at + 1]) << 16;
      } else {
        unsigned at = (l / 4 + 8 * (i / 2 & 1)) * N + i / 4 * 8 + l % 4 * 2 + (i & 1);
        if (integer) {
          int64_t v = int64_t(ci[at]) + int64_t(c[at]);
          if (inst.mods.satfinite) {
            v = std::min<int64_t>(std::max<int64_t>(v, INT32_MIN), INT32_MAX);
          }
          to[l] = uint32_t(v);
        } else {
          to[l] = c[at] == c[at] ? bitsOfFloat(c[at]) : 0x7FFFFFFF;
        }
      }
    }
  }
  if (undefined) {
    std::fill(taint.begin(), taint.end(), ~0U);
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
  const unsigned K = op.inst->mods.k, N = op.inst->mods.n;
  if (!f.count[1]) {
    SharedMatrix matrix(descriptorA);
    matrix.bytes = ptx::bitsOf(op.inst->types[1]) / 8;
    matrix.mnMajor = op.extra & 4;
    judgeOperand(w, op, matrix, w.index % 4 * 16, 16, K);
  }
  SharedMatrix matrix(descriptorB);
  matrix.bytes = ptx::bitsOf(op.inst->types[2]) / 8;
  matrix.mnMajor = op.extra & 8;
  judgeOperand(w, op, matrix, 0, N, K);
  w.mmaTime[w.mmaGroup % 16] = w.checks ? w.grid->memory->actors.now() : 0;
  uint32_t taintA = 0;
  for (unsigned i = 0; i < f.count[1]; ++i) {
    taintA |= w.checks ? w.undefined(refs[f.first[1] + i]) : 0;
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

static Step wgmmaFence(Warp &w, const Op &, uint32_t) {
  w.mmaFenced = true;
  return Step::Next;
}

static Step wgmmaCommit(Warp &w, const Op &, uint32_t) {
  ++w.mmaGroup;
  w.mmaTime[w.mmaGroup % 16] = 0;
  if (w.checks) {
    w.grid->memory->actors.tick();
  }
  return Step::Next;
}

static Step wgmmaWait(Warp &w, const Op &op, uint32_t m) {
  uint32_t before = w.mmaGroup > uint32_t(op.imm) ? w.mmaGroup - uint32_t(op.imm) : 0;
  auto &work = w.block->work;
  for (size_t i = 0; i < work.size();) {
    if (work[i].kind == PendingWork::MmaGroup && work[i].warp == &w && work[i].group < before) {
      PendingWork done = std::move(work[i]);
      work.erase(work.begin() + long(i));
      done.land();
    } else {
      ++i;
    }
  }
  if (w.checks) {
    for (uint32_t g = before > 16 ? before - 16 : 0; g < before; ++g) {
      for (Time &known : w.asyncKnown[AgentMma]) {
        known = std::max(known, w.mmaTime[g % 16]);
      }
    }
    for (auto it = w.mmaInFlight.begin(); it != w.mmaInFlight.end();) {
      if (it->second.group < before) {
        w.undef[it->first] = it->second.taint;
        it = w.mmaInFlight.erase(it);
      } else {
        ++it;
      }
    }
    w.grid->memory->actors.tick();
  }
  return w.grid->failure == LaunchError::None ? Step::Next : Step::Failed;
}

//===----------------------------------------------------------------------===//
// wmma
//===----------------------------------------------------------------------===//

namespace {
/// A fragment: its matrix and how elements are packed in registers.
struct WmmaShape {
  unsigned rows, columns, perRegister, bytes;
  bool wide;
};
} // namespace

static WmmaShape wmmaShape(const ptx::Instruction &inst, char which, Type type) {
  unsigned m = inst.mods.m, n = inst.mods.n, k = inst.mods.k;
  unsigned rows = which == 'b' ? k : m, columns = which == 'a' ? k : n;
  unsigned bits = ptx::bitsOf(type);
  return {rows, columns, bits >= 32 ? 1 : 32 / bits, bits / 8, bits == 64};
}

static char fragmentOf(const ptx::Instruction &inst) {
  switch (inst.mods.mode) {
  case ptx::Mode::FragmentA:
    return 'a';
  case ptx::Mode::FragmentB:
    return 'b';
  default:
    return 'c';
  }
}

static Step wmmaAccess(Warp &w, const Op &op, uint32_t m) {
  if (m != ~0U) {
    return w.fault(FindingKind::Divergence, LaunchError::IllegalInstruction, op, unsigned(__builtin_ctz(m)),
                   "wmma is executed by a part of the warp");
  }
  const ptx::Instruction &inst = *op.inst;
  const bool load = inst.op == Opcode::WmmaLoad;
  const char which = fragmentOf(inst);
  const WmmaShape s = wmmaShape(inst, which, inst.types[0]);
  const Ref *refs = w.grid->code->refs.data() + op.list;
  const bool rowMajor = inst.mods.majorA == ptx::Major::Row;
  const uint64_t lead = op.b.bits ? w.lane(op.b, 0) : rowMajor ? s.columns : s.rows;
  requireDefined(w, op, op.a, m, "an address");
  const unsigned total = s.rows * s.columns, perLane = op.listCount * s.perRegister;
  WarpJudge judge(w, op);
  Access now;
  now.time = w.checks ? w.grid->memory->actors.now() : 0;
  now.actor = w.actor;
  for (unsigned l = 0; l < 32; ++l) {
    for (unsigned i = 0; i < op.listCount; ++i) {
      uint64_t value = load ? 0 : w.lane(refs[i], l);
      bool bad = !load && w.checks && (w.undefined(refs[i]) >> l & 1);
      for (unsigned e = 0; e < s.perRegister; ++e) {
        unsigned element = (l * perLane + i * s.perRegister + e) % total;
        unsigned r = element / s.columns, c = element % s.columns;
        uint64_t address = w.lane(op.a, l) + uint64_t(op.imm) + (rowMajor ? r * lead + c : c * lead + r) * s.bytes;
        uint8_t *pointer = nullptr;
        Shadow *shadow = nullptr;
        uint64_t offset = 0;
        Block *owner = nullptr;
        Step step =
            resolveOne(w, op, l, address, inst.mods.space, s.bytes, !load, s.bytes, pointer, shadow, offset, owner);
        if (step != Step::Next) {
          return step;
        }
        if (shadow) {
          judge.lane = l;
          judge.shared = owner != nullptr;
          now.tag = Access::makeTag(l, Weak, ScopeSys, op.site);
          shadow->access(offset, s.bytes, !load, now, w.reach, judge);
        }
        if (load) {
          uint64_t bits = 0;
          std::memcpy(&bits, pointer, s.bytes);
          value |= bits << e * s.bytes * 8 % 64;
          bad |= shadow && shadow->definedBits(offset, s.bytes) != (1U << s.bytes) - 1;
        } else {
          uint64_t bits = value >> e * s.bytes * 8 % 64;
          std::memcpy(pointer, &bits, s.bytes);
          if (shadow) {
            shadow->setDefined(offset, s.bytes, !bad);
          }
        }
      }
      if (load) {
        w.setLane(refs[i], l, value);
        w.setUndefined(refs[i], bad ? ~0U : 0, 1U << l);
      }
    }
  }
  ++w.grid->changes;
  return Step::Next;
}

static double wmmaValue(uint64_t bits, Type type) {
  switch (type) {
  case Type::F64:
    return doubleOfBits(bits);
  case Type::F32:
    return floatOfBits(uint32_t(bits));
  case Type::S32:
    return double(int32_t(bits));
  default:
    return elementOf(uint32_t(bits), type);
  }
}

static Step wmmaMultiply(Warp &w, const Op &op, uint32_t m) {
  if (m != ~0U) {
    return w.fault(FindingKind::Divergence, LaunchError::IllegalInstruction, op, unsigned(__builtin_ctz(m)),
                   "wmma is executed by a part of the warp");
  }
  const ptx::Instruction &inst = *op.inst;
  const Fragments &f = w.grid->code->fragments[op.imm];
  const Ref *refs = w.grid->code->refs.data();
  // The f16 form names the types of D and C only.
  const bool brief = inst.types[2] == Type::None;
  const Type types[4] = {inst.types[0], brief ? Type::F16 : inst.types[1], brief ? Type::F16 : inst.types[2],
                         brief ? inst.types[1] : inst.types[3]};
  const char names[] = {'d', 'a', 'b', 'c'};
  std::vector<double> values[4];
  uint32_t bad = 0;
  for (unsigned part = 1; part < 4; ++part) {
    WmmaShape s = wmmaShape(inst, names[part], types[part]);
    values[part].resize(size_t(s.rows) * s.columns);
    for (unsigned l = 0; l < 32; ++l) {
      for (unsigned i = 0; i < f.count[part]; ++i) {
        uint64_t bits = w.lane(refs[f.first[part] + i], l);
        for (unsigned e = 0; e < s.perRegister; ++e) {
          unsigned at = (l * f.count[part] + i) * s.perRegister + e;
          values[part][at % values[part].size()] = wmmaValue(bits >> e * s.bytes * 8 % 64, types[part]);
        }
      }
    }
    for (unsigned i = 0; i < f.count[part]; ++i) {
      bad |= w.checks ? w.undefined(refs[f.first[part] + i]) : 0;
    }
  }
  const unsigned M = inst.mods.m, N = inst.mods.n, K = inst.mods.k;
  std::vector<double> sum = values[3];
  for (unsigned r = 0; r < M; ++r) {
    for (unsigned n = 0; n < N; ++n) {
      for (unsigned k = 0; k < K; ++k) {
        double product = values[1][r * K + k] * values[2][k * N + n];
        sum[r * N + n] = types[0] == Type::F64 || types[0] == Type::S32 ? sum[r * N + n] + product
                                                                        : double(float(sum[r * N + n] + product));
      }
    }
  }
  WmmaShape s = wmmaShape(inst, 'd', types[0]);
  for (unsigned l = 0; l < 32; ++l) {
    for (unsigned i = 0; i < f.count[0]; ++i) {
      uint64_t bits = 0;
      for (unsigned e = 0; e < s.perRegister; ++e) {
        double v = sum[((l * f.count[0] + i) * s.perRegister + e) % sum.size()];
        uint64_t one = types[0] == Type::F64   ? bitsOfDouble(v)
                       : types[0] == Type::F32 ? bitsOfFloat(float(v))
                       : types[0] == Type::S32
                           ? uint32_t(inst.mods.satfinite ? int64_t(std::min(std::max(v, -2147483648.0), 2147483647.0))
                                                          : int64_t(v))
                           : encode(v, formatF16, ptx::Round::RN, false);
        bits |= one << e * s.bytes * 8 % 64;
      }
      w.setLane(refs[f.first[0] + i], l, bits);
    }
  }
  for (unsigned i = 0; i < f.count[0]; ++i) {
    w.setUndefined(refs[f.first[0] + i], bad ? ~0U : 0, ~0U);
  }
  return Step::Next;
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
    if (inst.types[1] == Type::B1) {
      return b.fail("wgmma of single bits is not supported");
    }
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
  case Opcode::WmmaLoad:
  case Opcode::WmmaStore: {
    bool load = inst.op == Opcode::WmmaLoad;
    unsigned bits = ptx::bitsOf(inst.types[0]);
    if (bits < 8) {
      return b.fail("wmma of less than 8 bits is not supported");
    }
    b.list(fn.operand(inst, load ? 0 : 1), bits == 64 ? 64 : 32, op.list, op.listCount);
    if (inst.operandCount > 2 && fn.operand(inst, 2).kind != ptx::OperandKind::None) {
      op.b = b.ref(inst, 2, 32);
    }
    op.run = wmmaAccess;
    return b.address(fn.operand(inst, load ? 1 : 0), op.a, op) || b.fail("this kind of address is not supported");
  }
  case Opcode::WmmaMma: {
    if (inst.types[1] == Type::B1 || inst.types[1] == Type::S4 || inst.types[1] == Type::U4) {
      return b.fail("wmma of less than 8 bits is not supported");
    }
    Fragments f;
    for (unsigned i = 0; i < 4; ++i) {
      part(f, i, i, inst.types[0] == Type::F64 ? 64 : 32);
    }
    addFragments(f);
    op.run = wmmaMultiply;
    return true;
  }
  default:
    op.flags = 0;
    return false;
  }
}

} // namespace moert::emulator
