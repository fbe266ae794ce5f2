//===- Types.h - Types, opcodes and modifiers of PTX ------------*- C++ -*-===//
//
// The closed vocabularies of a decoded instruction. Every modifier that PTX
// spells as text is a value here; the parser refuses what has none, so who
// executes never sees a string. Says nothing of which combinations are legal:
// that is the instruction table (Table.h).
//
//===----------------------------------------------------------------------===//
#ifndef MOERT_EMULATOR_PTX_TYPES_H
#define MOERT_EMULATOR_PTX_TYPES_H

#include <cstdint>

namespace moert::emulator::ptx {

/// Types of registers, variables and instructions. `B1` to `U4` and the fp8 kinds occur in instructions only.
enum class Type : uint8_t {
  None,
  Pred,
  // clang-format off
  B8, B16, B32, B64, B128,
  U8, U16, U32, U64,
  S8, S16, S32, S64,
  F16, F16x2, BF16, BF16x2, TF32, F32, F32x2, F64,
  E4M3, E5M2, E4M3x2, E5M2x2,
  U16x2, S16x2,
  B1, U4, S4,
  // Opaque kinds of variables.
  TexRef, SamplerRef, SurfRef
  // clang-format on
};

/// Size of one value in bits (a predicate: 1; an opaque reference: 64).
unsigned bitsOf(Type type);
/// Size in bytes, rounded up (a predicate: 1).
unsigned bytesOf(Type type);
/// Whether it is one of the `.f` and `.bf` types (packed ones included).
bool isFloat(Type type);
/// Whether it is one of the `.s` types.
bool isSigned(Type type);
/// As PTX writes it, without the dot: "u32", "f16x2".
const char *nameOf(Type type);

/// Where a variable lives or a memory instruction goes. `SharedCluster` is `.shared::cluster`; `.shared` and
/// `.shared::cta` are both `Shared`. `None` on a memory instruction means generic addressing.
enum class Space : uint8_t { None, Reg, Const, Global, Local, Param, Shared, SharedCluster, Tex };
const char *nameOf(Space space);

/// What the instruction does; X(enumerator, name in messages and in the support table).
#define EMU_PTX_OPCODES(X)                                                                                             \
  /* integer and floating-point arithmetic */                                                                          \
  X(Add, "add")                                                                                                        \
  X(Addc, "addc")                                                                                                      \
  X(Sub, "sub")                                                                                                        \
  X(Subc, "subc")                                                                                                      \
  X(Mul, "mul")                                                                                                        \
  X(Mul24, "mul24")                                                                                                    \
  X(Mad, "mad")                                                                                                        \
  X(Madc, "madc")                                                                                                      \
  X(Mad24, "mad24")                                                                                                    \
  X(Fma, "fma")                                                                                                        \
  X(Sad, "sad")                                                                                                        \
  X(Div, "div")                                                                                                        \
  X(Rem, "rem")                                                                                                        \
  X(Abs, "abs")                                                                                                        \
  X(Neg, "neg")                                                                                                        \
  X(Min, "min")                                                                                                        \
  X(Max, "max")                                                                                                        \
  X(Dp4a, "dp4a")                                                                                                      \
  X(Dp2a, "dp2a")                                                                                                      \
  X(Copysign, "copysign")                                                                                              \
  X(Testp, "testp")                                                                                                    \
  X(Rcp, "rcp")                                                                                                        \
  X(Sqrt, "sqrt")                                                                                                      \
  X(Rsqrt, "rsqrt")                                                                                                    \
  X(Sin, "sin")                                                                                                        \
  X(Cos, "cos")                                                                                                        \
  X(Lg2, "lg2")                                                                                                        \
  X(Ex2, "ex2")                                                                                                        \
  X(Tanh, "tanh")                                                                                                      \
  /* bits */                                                                                                           \
  X(And, "and")                                                                                                        \
  X(Or, "or")                                                                                                          \
  X(Xor, "xor")                                                                                                        \
  X(Not, "not")                                                                                                        \
  X(Cnot, "cnot")                                                                                                      \
  X(Lop3, "lop3")                                                                                                      \
  X(Shl, "shl")                                                                                                        \
  X(Shr, "shr")                                                                                                        \
  X(Shf, "shf")                                                                                                        \
  X(Popc, "popc")                                                                                                      \
  X(Clz, "clz")                                                                                                        \
  X(Bfind, "bfind")                                                                                                    \
  X(Brev, "brev")                                                                                                      \
  X(Bfe, "bfe")                                                                                                        \
  X(Bfi, "bfi")                                                                                                        \
  X(Bmsk, "bmsk")                                                                                                      \
  X(Szext, "szext")                                                                                                    \
  X(Fns, "fns")                                                                                                        \
  X(Prmt, "prmt")                                                                                                      \
  /* comparison, selection, conversion, movement in registers */                                                       \
  X(Set, "set")                                                                                                        \
  X(Setp, "setp")                                                                                                      \
  X(Selp, "selp")                                                                                                      \
  X(Slct, "slct")                                                                                                      \
  X(Mov, "mov")                                                                                                        \
  X(Cvt, "cvt")                                                                                                        \
  X(CvtPack, "cvt.pack")                                                                                               \
  X(Cvta, "cvta")                                                                                                      \
  X(Isspacep, "isspacep")                                                                                              \
  X(Mapa, "mapa")                                                                                                      \
  X(Getctarank, "getctarank")                                                                                          \
  X(Alloca, "alloca")                                                                                                  \
  X(Stacksave, "stacksave")                                                                                            \
  X(Stackrestore, "stackrestore")                                                                                      \
  /* video */                                                                                                          \
  X(Vabsdiff4, "vabsdiff4")                                                                                            \
  X(Vadd4, "vadd4")                                                                                                    \
  X(Vsub4, "vsub4")                                                                                                    \
  X(Vmin4, "vmin4")                                                                                                    \
  X(Vmax4, "vmax4")                                                                                                    \
  /* memory */                                                                                                         \
  X(Ld, "ld")                                                                                                          \
  X(Ldu, "ldu")                                                                                                        \
  X(St, "st")                                                                                                          \
  X(StAsync, "st.async")                                                                                               \
  X(RedAsync, "red.async")                                                                                             \
  X(Atom, "atom")                                                                                                      \
  X(Red, "red")                                                                                                        \
  X(Prefetch, "prefetch")                                                                                              \
  X(Prefetchu, "prefetchu")                                                                                            \
  X(PrefetchTensormap, "prefetch.tensormap")                                                                           \
  X(Applypriority, "applypriority")                                                                                    \
  X(Discard, "discard")                                                                                                \
  X(Createpolicy, "createpolicy")                                                                                      \
  X(Membar, "membar")                                                                                                  \
  X(Fence, "fence")                                                                                                    \
  X(FenceProxy, "fence.proxy")                                                                                         \
  X(FenceMbarrierInit, "fence.mbarrier_init")                                                                          \
  /* asynchronous copies */                                                                                            \
  X(CpAsync, "cp.async")                                                                                               \
  X(CpAsyncCommitGroup, "cp.async.commit_group")                                                                       \
  X(CpAsyncWaitGroup, "cp.async.wait_group")                                                                           \
  X(CpAsyncWaitAll, "cp.async.wait_all")                                                                               \
  X(CpAsyncMbarrierArrive, "cp.async.mbarrier.arrive")                                                                 \
  X(CpAsyncBulk, "cp.async.bulk")                                                                                      \
  X(CpAsyncBulkPrefetch, "cp.async.bulk.prefetch")                                                                     \
  X(CpReduceAsyncBulk, "cp.reduce.async.bulk")                                                                         \
  X(CpAsyncBulkTensor, "cp.async.bulk.tensor")                                                                         \
  X(CpAsyncBulkPrefetchTensor, "cp.async.bulk.prefetch.tensor")                                                        \
  X(CpReduceAsyncBulkTensor, "cp.reduce.async.bulk.tensor")                                                            \
  X(CpAsyncBulkCommitGroup, "cp.async.bulk.commit_group")                                                              \
  X(CpAsyncBulkWaitGroup, "cp.async.bulk.wait_group")                                                                  \
  X(TensormapReplace, "tensormap.replace")                                                                             \
  X(TensormapCpFenceproxy, "tensormap.cp_fenceproxy")                                                                  \
  /* control */                                                                                                        \
  X(Bra, "bra")                                                                                                        \
  X(BrxIdx, "brx.idx")                                                                                                 \
  X(Call, "call")                                                                                                      \
  X(Ret, "ret")                                                                                                        \
  X(Exit, "exit")                                                                                                      \
  X(Trap, "trap")                                                                                                      \
  X(Brkpt, "brkpt")                                                                                                    \
  X(Nanosleep, "nanosleep")                                                                                            \
  X(Pmevent, "pmevent")                                                                                                \
  X(Setmaxnreg, "setmaxnreg")                                                                                          \
  X(Griddepcontrol, "griddepcontrol")                                                                                  \
  X(ElectSync, "elect.sync")                                                                                           \
  /* barriers and warp-wide operations */                                                                              \
  X(Bar, "bar/barrier")                                                                                                \
  X(BarWarpSync, "bar.warp.sync")                                                                                      \
  X(BarrierCluster, "barrier.cluster")                                                                                 \
  X(MbarrierInit, "mbarrier.init")                                                                                     \
  X(MbarrierInval, "mbarrier.inval")                                                                                   \
  X(MbarrierExpectTx, "mbarrier.expect_tx")                                                                            \
  X(MbarrierCompleteTx, "mbarrier.complete_tx")                                                                        \
  X(MbarrierArrive, "mbarrier.arrive")                                                                                 \
  X(MbarrierArriveDrop, "mbarrier.arrive_drop")                                                                        \
  X(MbarrierTestWait, "mbarrier.test_wait")                                                                            \
  X(MbarrierTryWait, "mbarrier.try_wait")                                                                              \
  X(MbarrierPendingCount, "mbarrier.pending_count")                                                                    \
  X(Shfl, "shfl")                                                                                                      \
  X(Vote, "vote")                                                                                                      \
  X(Match, "match")                                                                                                    \
  X(Redux, "redux")                                                                                                    \
  X(Activemask, "activemask")                                                                                          \
  /* matrices */                                                                                                       \
  X(Ldmatrix, "ldmatrix")                                                                                              \
  X(Stmatrix, "stmatrix")                                                                                              \
  X(Movmatrix, "movmatrix")                                                                                            \
  X(Mma, "mma")                                                                                                        \
  X(WmmaLoad, "wmma.load")                                                                                             \
  X(WmmaStore, "wmma.store")                                                                                           \
  X(WmmaMma, "wmma.mma")                                                                                               \
  X(WgmmaMmaAsync, "wgmma.mma_async")                                                                                  \
  X(WgmmaFence, "wgmma.fence")                                                                                         \
  X(WgmmaCommitGroup, "wgmma.commit_group")                                                                            \
  X(WgmmaWaitGroup, "wgmma.wait_group")

enum class Opcode : uint16_t {
#define EMU_PTX_ENUM(enumerator, name) enumerator,
  EMU_PTX_OPCODES(EMU_PTX_ENUM)
#undef EMU_PTX_ENUM
};
const char *nameOf(Opcode opcode);

/// `.rn` ... are for floating-point results, `.rni` ... round to an integer, `RNA` is cvt.rna (ties away).
enum class Round : uint8_t { None, RN, RZ, RM, RP, RNI, RZI, RMI, RPI, RNA };
/// `.lo`, `.hi`, `.wide` of mul and mad; `.lo`, `.hi` of dp2a.
enum class Half : uint8_t { None, Lo, Hi, Wide };
/// Comparison of set, setp. `Lo` ... `Hs` are the unsigned spellings, `Equ` ... also hold when unordered.
enum class Cmp : uint8_t { None, Eq, Ne, Lt, Le, Gt, Ge, Lo, Ls, Hi, Hs, Equ, Neu, Ltu, Leu, Gtu, Geu, Num, Nan };
/// Combination of a comparison with a predicate (set, setp), and of lop3's predicate result (And, Or).
enum class BoolOp : uint8_t { None, And, Or, Xor };
/// Operation of atom, red, redux, red.async, cp.reduce.async.bulk, barrier.red.
enum class Reduce : uint8_t { None, Add, Min, Max, And, Or, Xor, Inc, Dec, Exch, Cas, Popc };
/// Ordering of ld, st, atom, red, fence, mbarrier. `None` on ld/st: weak (`.weak` or nothing). Volatile: `.volatile`.
/// Mmio: `.mmio.relaxed`. AcqRel: fence and atom.
enum class Sem : uint8_t { None, Weak, Volatile, Relaxed, Acquire, Release, AcqRel, SeqCst, Mmio };
/// `.cta` ... `.sys`.
enum class Scope : uint8_t { None, Cta, Cluster, Gpu, Sys };
/// `.ca` ... of loads and stores; without effect on results. `Nc` is `ld.global.nc`.
enum class Cache : uint8_t { None, Ca, Cg, Cs, Lu, Cv, Wb, Wt };
/// `.row`, `.col`: of A and B in mma and wmma.
enum class Major : uint8_t { None, Row, Col };
/// shfl, vote, match, testp, prmt, mbarrier ...: the one word that chooses the variant of an opcode.
enum class Mode : uint8_t {
  None,
  // shfl
  Up,
  Down,
  Bfly,
  Idx,
  // vote, match (All, Any), barrier.red uses Reduce
  All,
  Any,
  Uni,
  Ballot,
  // testp
  Finite,
  Infinite,
  Number,
  NotANumber,
  Normal,
  Subnormal,
  // prmt
  F4e,
  B4e,
  Rc8,
  Ecl,
  Ecr,
  Rc16,
  // shf: Left, Right; shift amount: Clamp or Wrap in `wrap`
  Left,
  Right,
  // bar/barrier, barrier.cluster
  Sync,
  Arrive,
  Wait,
  Red,
  // griddepcontrol
  LaunchDependents,
  // setmaxnreg
  Inc,
  Dec,
  // cp.async.bulk.tensor and friends
  Tile,
  Im2col,
  Im2colNoOffs,
  TileGather4,
  TileScatter4,
  // fence.proxy
  Alias,
  Async,
  Tensormap,
  // fence.op_restrict
  MbarrierInit,
  // createpolicy
  Fractional,
  Range,
  Cvt,
  // discard, applypriority, prefetch: level
  L1,
  L2,
  // wmma.load, wmma.store: which fragment
  FragmentA,
  FragmentB,
  FragmentC,
  FragmentD,
  // mma: bit operation of .b1
  XorPopc,
  AndPopc,
  // tensormap.replace field
  GlobalAddress,
  Rank,
  BoxDim,
  GlobalDim,
  GlobalStride,
  ElementStride,
  Elemtype,
  InterleaveLayout,
  SwizzleMode,
  FillMode,
};
/// How an asynchronous copy reports that it is complete.
enum class Completion : uint8_t { None, Mbarrier, BulkGroup };

/// Special registers that can be read; X(enumerator, name, type).
#define EMU_PTX_SPECIALS(X)                                                                                            \
  X(TidX, "%tid.x", U32)                                                                                               \
  X(TidY, "%tid.y", U32)                                                                                               \
  X(TidZ, "%tid.z", U32)                                                                                               \
  X(NtidX, "%ntid.x", U32)                                                                                             \
  X(NtidY, "%ntid.y", U32)                                                                                             \
  X(NtidZ, "%ntid.z", U32)                                                                                             \
  X(CtaidX, "%ctaid.x", U32)                                                                                           \
  X(CtaidY, "%ctaid.y", U32)                                                                                           \
  X(CtaidZ, "%ctaid.z", U32)                                                                                           \
  X(NctaidX, "%nctaid.x", U32)                                                                                         \
  X(NctaidY, "%nctaid.y", U32)                                                                                         \
  X(NctaidZ, "%nctaid.z", U32)                                                                                         \
  X(ClusteridX, "%clusterid.x", U32)                                                                                   \
  X(ClusteridY, "%clusterid.y", U32)                                                                                   \
  X(ClusteridZ, "%clusterid.z", U32)                                                                                   \
  X(NclusteridX, "%nclusterid.x", U32)                                                                                 \
  X(NclusteridY, "%nclusterid.y", U32)                                                                                 \
  X(NclusteridZ, "%nclusterid.z", U32)                                                                                 \
  X(ClusterCtaidX, "%cluster_ctaid.x", U32)                                                                            \
  X(ClusterCtaidY, "%cluster_ctaid.y", U32)                                                                            \
  X(ClusterCtaidZ, "%cluster_ctaid.z", U32)                                                                            \
  X(ClusterNctaidX, "%cluster_nctaid.x", U32)                                                                          \
  X(ClusterNctaidY, "%cluster_nctaid.y", U32)                                                                          \
  X(ClusterNctaidZ, "%cluster_nctaid.z", U32)                                                                          \
  X(ClusterCtarank, "%cluster_ctarank", U32)                                                                           \
  X(ClusterNctarank, "%cluster_nctarank", U32)                                                                         \
  X(IsExplicitCluster, "%is_explicit_cluster", Pred)                                                                   \
  X(Laneid, "%laneid", U32)                                                                                            \
  X(Warpid, "%warpid", U32)                                                                                            \
  X(Nwarpid, "%nwarpid", U32)                                                                                          \
  X(Smid, "%smid", U32)                                                                                                \
  X(Nsmid, "%nsmid", U32)                                                                                              \
  X(Gridid, "%gridid", U64)                                                                                            \
  X(LanemaskEq, "%lanemask_eq", U32)                                                                                   \
  X(LanemaskLe, "%lanemask_le", U32)                                                                                   \
  X(LanemaskLt, "%lanemask_lt", U32)                                                                                   \
  X(LanemaskGe, "%lanemask_ge", U32)                                                                                   \
  X(LanemaskGt, "%lanemask_gt", U32)                                                                                   \
  X(Clock, "%clock", U32)                                                                                              \
  X(ClockHi, "%clock_hi", U32)                                                                                         \
  X(Clock64, "%clock64", U64)                                                                                          \
  X(Globaltimer, "%globaltimer", U64)                                                                                  \
  X(GlobaltimerLo, "%globaltimer_lo", U32)                                                                             \
  X(GlobaltimerHi, "%globaltimer_hi", U32)                                                                             \
  X(TotalSmemSize, "%total_smem_size", U32)                                                                            \
  X(AggrSmemSize, "%aggr_smem_size", U32)                                                                              \
  X(DynamicSmemSize, "%dynamic_smem_size", U32)                                                                        \
  X(ReservedSmemOffsetBegin, "%reserved_smem_offset_begin", U32)                                                       \
  X(ReservedSmemOffsetEnd, "%reserved_smem_offset_end", U32)                                                           \
  X(ReservedSmemOffsetCap, "%reserved_smem_offset_cap", U32)                                                           \
  X(ReservedSmemOffset0, "%reserved_smem_offset_0", U32)                                                               \
  X(ReservedSmemOffset1, "%reserved_smem_offset_1", U32)                                                               \
  X(Envreg0, "%envreg0", B32)                                                                                          \
  X(Envreg1, "%envreg1", B32)                                                                                          \
  X(Envreg2, "%envreg2", B32)                                                                                          \
  X(Envreg3, "%envreg3", B32)                                                                                          \
  X(Envreg4, "%envreg4", B32)                                                                                          \
  X(Envreg5, "%envreg5", B32)                                                                                          \
  X(Envreg6, "%envreg6", B32)                                                                                          \
  X(Envreg7, "%envreg7", B32)                                                                                          \
  X(Envreg8, "%envreg8", B32)                                                                                          \
  X(Envreg9, "%envreg9", B32)                                                                                          \
  X(Envreg10, "%envreg10", B32)                                                                                        \
  X(Envreg11, "%envreg11", B32)                                                                                        \
  X(Envreg12, "%envreg12", B32)                                                                                        \
  X(Envreg13, "%envreg13", B32)                                                                                        \
  X(Envreg14, "%envreg14", B32)                                                                                        \
  X(Envreg15, "%envreg15", B32)                                                                                        \
  X(Envreg16, "%envreg16", B32)                                                                                        \
  X(Envreg17, "%envreg17", B32)                                                                                        \
  X(Envreg18, "%envreg18", B32)                                                                                        \
  X(Envreg19, "%envreg19", B32)                                                                                        \
  X(Envreg20, "%envreg20", B32)                                                                                        \
  X(Envreg21, "%envreg21", B32)                                                                                        \
  X(Envreg22, "%envreg22", B32)                                                                                        \
  X(Envreg23, "%envreg23", B32)                                                                                        \
  X(Envreg24, "%envreg24", B32)                                                                                        \
  X(Envreg25, "%envreg25", B32)                                                                                        \
  X(Envreg26, "%envreg26", B32)                                                                                        \
  X(Envreg27, "%envreg27", B32)                                                                                        \
  X(Envreg28, "%envreg28", B32)                                                                                        \
  X(Envreg29, "%envreg29", B32)                                                                                        \
  X(Envreg30, "%envreg30", B32)                                                                                        \
  X(Envreg31, "%envreg31", B32)                                                                                        \
  X(CurrentGraphExec, "%current_graph_exec", U64)

enum class SpecialRegister : uint16_t {
#define EMU_PTX_ENUM(enumerator, name, type) enumerator,
  EMU_PTX_SPECIALS(EMU_PTX_ENUM)
#undef EMU_PTX_ENUM
};
const char *nameOf(SpecialRegister special);
Type typeOf(SpecialRegister special);

} // namespace moert::emulator::ptx

#endif // MOERT_EMULATOR_PTX_TYPES_H
