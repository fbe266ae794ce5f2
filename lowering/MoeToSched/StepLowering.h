//===- StepLowering.h - One entry as a list of commands ---------------------===//
//
// Walks the ops of an entry (@step, or another public function) in order and turns each into launches. Values get
// numbers first and arena offsets once all commands are known. What an op's
// kernel can absorb is decided here by looking at uses, never by rewriting IR:
//
//   add(h, linear(x, w))             one launch with a residual operand
//   linear(x, w1), linear(x, w2)     one launch with two segments
//   experts(x, ids) twice            one sort by expert
//   rope at the same positions       one table of angles for all layers
//   experts(x, ids), ffn(x)          the FFN on a stream beside (StreamPlan.h)
//
// Of several ranks each runs this list. A value with a row per token of every
// rank has R rows per token of one: its extents are R times as large, and there
// is no size for their number.
//
//===----------------------------------------------------------------------===//

#ifndef MOE_LOWERING_MOETOSCHED_STEPLOWERING_H
#define MOE_LOWERING_MOETOSCHED_STEPLOWERING_H

#include "lowering/Kernels/KernelCatalogue.h"
#include "lowering/MoeToSched/BufferPlan.h"
#include "lowering/MoeToSched/StreamPlan.h"
#include "lowering/MoeToSched/Weights.h"
#include "mlir/Dialect/Func/IR/FuncOps.h"
#include "llvm/ADT/MapVector.h"
#include "llvm/ADT/STLFunctionalExtras.h"
#include <map>

namespace mlir::moe {

/// A map from strings that remembers the order of insertion.
template <typename T> using OrderedMap = llvm::MapVector<std::string, T, std::map<std::string, unsigned>>;

/// What the steps of one variant share.
struct VariantContext {
  Weights &weights;
  kernels::KernelCatalogue &kernels;
  /// Constants by content: bytes -> symbol.
  OrderedMap<std::string> constants;
  /// States that kernels keep beside the declared ones: symbol -> bytes.
  OrderedMap<int64_t> counters;
  /// Whether to count what routing chooses together (--instrument routing).
  bool recordRouting = false;
  /// Streams that a step may use.
  int64_t streams = 1;
};

class StepLowering {
public:
  /// The numbers of tokens that a table is for.
  struct TokenRange {
    int64_t first, last;
    bool many; ///< above `fewTokens`
  };
  StepLowering(func::FuncOp step, VariantContext &context, Type logitsType, TokenRange range);

  /// An argument or result of an entry other than @step: the caller's memory.
  struct Argument {
    std::string buffer;
    sched::ExtentAttr size;
    bool isInput;
  };

  /// Fills the command list; errors are at the op.
  LogicalResult run();
  ArrayRef<Argument> getArguments() const { return arguments; }
  /// How many streams and events the commands use.
  int64_t getStreams() const { return sideWork.empty() ? 1 : 2; }
  int64_t getEvents() const { return 2 * static_cast<int64_t>(sideWork.size()); }
  /// Bytes of arena that the commands need.
  int64_t getArenaBytes() const { return plan.arenaBytes; }
  /// Writes the commands at `builder`.
  void emit(OpBuilder &builder);

private:
  /// Whether a value has a row per token, per wanted logit, or per token of every rank.
  enum class Rows { Tokens, Logits, AllRanks };
  struct Operand {
    Attribute fixed; ///< or, if null:
    int buffer = -1; ///< a number in `buffers`
    sched::Access access = sched::Access::Read;
  };
  struct Buffer {
    std::string symbol; ///< empty: in the arena
    sched::ExtentAttr extent;
  };
  struct Command {
    std::string kernel; ///< empty: fill with zeros, or a collective
    sched::GridAttr grid;
    SmallVector<Operand> operands;
    std::string label;
    std::optional<sched::CollectiveKind> collective = {};
    Type element = {};        ///< of a collective that sums
    int64_t rowBytes = 0;     ///< of an exchange
    bool isProduct = false;   ///< of weights
    bool endsExperts = false; ///< the last product of routed experts
  };

  // Values and buffers.
  int newBuffer(sched::ExtentAttr extent, StringRef symbol = "");
  int tensorBuffer(Value value);
  /// Bytes of `value`, which has a row per token or per wanted logit.
  sched::ExtentAttr bytesOf(Value value);
  LogicalResult bindInterface();
  LogicalResult lowerReturn(func::ReturnOp op);
  /// The number of the buffer that holds `value`, which was lowered before.
  int bufferOf(Value value) { return values.at(value); }
  Operand read(Value value) { return {{}, bufferOf(value), sched::Access::Read}; }
  Operand read(int buffer) { return {{}, buffer, sched::Access::Read}; }
  Operand write(int buffer) { return {{}, buffer, sched::Access::Write}; }
  Operand update(int buffer) { return {{}, buffer, sched::Access::ReadWrite}; }
  Operand constant(int64_t value) { return {sched::ScalarAttr::get(mlir, value)}; }
  Operand constant(float value) { return {sched::ScalarAttr::get(mlir, value)}; }
  Operand size(sched::Dim dim) { return {sched::SizeAttr::get(mlir, dim)}; }
  /// The number of rows, of rows that are no gathered ones: no size is R*T.
  Operand rowCount(Rows rows) { return size(rows == Rows::Logits ? sched::Dim::M : sched::Dim::T); }
  /// Rows of a value per T (or M): for kernels that take the rows of all ranks as longer rows of one.
  int64_t rowFactor(Rows rows) const { return rows == Rows::AllRanks ? ranks : 1; }
  template <typename T> int constantBuffer(ArrayRef<T> values);
  Rows rowsOf(Value value) const {
    return logitRows.contains(value) ? Rows::Logits : gatheredRows.contains(value) ? Rows::AllRanks : Rows::Tokens;
  }
  sched::ExtentAttr perRow(Rows rows, int64_t amount, int64_t fixed = 0);
  sched::ExtentAttr fixedExtent(int64_t amount) { return sched::ExtentAttr::get(mlir, amount); }
  sched::GridAttr gridPerRow(Rows rows, int64_t divisor = 1, int64_t factor = 1);

  // Fusion decisions.
  struct Fused {
    Value result;   ///< what the launch produces: the add's result, or the op's own
    Value residual; ///< null: none
  };
  Fused fuseResidual(Value value);

  // Streams and places of values, when all commands are known.
  bool usesStreams() const;
  SmallVector<Operation *> opsInOrder();
  void planStreams();
  void planArena();
  void emit(OpBuilder &builder, const Command &command, int64_t stream);

  // What kernels take on trust (CheckStep.cpp); finds the rows of logits.
  LogicalResult check();
  LogicalResult checkRows(Operation *op);

  // Ops, by family.
  LogicalResult lower(Operation &op);
  LogicalResult lowerEmbedding(EmbeddingOp op);
  LogicalResult lowerGatherRows(GatherRowsOp op);
  LogicalResult lowerAdd(AddOp op);
  LogicalResult lowerNorm(RMSNormOp op);
  LogicalResult lowerLinear(LinearOp op);
  LogicalResult lowerFFN(FFNOp op);
  LogicalResult lowerRope(RopeOp op);
  LogicalResult lowerAttention(AttentionOp op);
  LogicalResult lowerRoute(RouteOp op);
  LogicalResult lowerExperts(ExpertsOp op);
  LogicalResult lowerCombine(CombineOp op);
  LogicalResult lowerMaskPadding(MaskPaddingOp op);
  LogicalResult lowerLocalize(LocalizeOp op);
  LogicalResult lowerExchange(Operation *op, StringRef part, sched::CollectiveKind kind);
  LogicalResult lowerDispatch(DispatchOp op);
  LogicalResult lowerCollect(CollectOp op);

  /// What LocalizeKernel and DispatchKernel take of a placement; `experts` are the choices that they count.
  SmallVector<Operand> placementOperands(PlacementAttr placement, int layer);
  /// Rows of `bytes` bytes by the counts in `counts`, from `from` into `to`.
  void exchangeRows(Operation *op, StringRef part, int to, int from, int counts, int64_t bytes);

  struct Sorted {
    int list, offsets, slots; ///< list: of experts with work, or of tiles
  };
  /// Rows of the tiles by which the work of experts is listed; 0: by expert.
  int64_t expertTileRows() const { return many ? context.kernels.expertTileRows() : 0; }
  /// The choices of `ids` sorted by expert.
  FailureOr<Sorted> sortByExpert(ExpertsOp op);
  /// Statistics of the route that chose for `op`, as MoE layer `layer`.
  LogicalResult recordRouting(ExpertsOp op, int layer);
  /// A state that counts something per expert of this entry: `name`, i64 [count].
  int counterBuffer(std::string name, int64_t count);
  /// A product kernel for x of type `x` and a weight [.., N, K], or for gate and up in one if there is `up`; with types
  /// and divisibility filled in.
  kernels::Matmul matmul(Type x, Value weight, Value up, Type out);
  /// How a weight value becomes an operand: as a tensor, or as a table of E pointers.
  using WeightOperand = llvm::function_ref<FailureOr<Attribute>(Value)>;
  /// `operandOf`, or tensor maps of what that points at if `kernel` takes its weights so.
  FailureOr<Attribute> mapped(const kernels::Matmul &kernel, WeightOperand operandOf, Value weight);
  /// Appends those of `weights` that are present.
  LogicalResult appendWeights(SmallVectorImpl<Operand> &operands, WeightOperand operandOf, ArrayRef<Value> weights);
  /// The first product of moe.ffn or moe.experts into `hidden`: appends what both take alike after the rows of x, and
  /// gives the kernel.
  template <typename Op>
  FailureOr<kernels::Matmul> appendUp(SmallVectorImpl<Operand> &operands, Op op, WeightOperand operandOf, int64_t width,
                                      int hidden);
  /// The second one, from `hidden` into `result`.
  template <typename Op>
  FailureOr<kernels::Matmul> appendDown(SmallVectorImpl<Operand> &operands, Op op, WeightOperand operandOf, int64_t h,
                                        int result);
  /// Tiles of `n` outputs of `kernel`.
  int64_t tilesOf(const kernels::Matmul &kernel, int64_t n);
  /// The grid of a dense product with `tiles` tiles of outputs.
  sched::GridAttr matmulGrid(const kernels::Matmul &kernel, Rows rows, int64_t tiles);
  /// What people call an op, or a part of it: the name its importer gave it, else the op's own.
  static std::string labelOf(Operation *op, StringRef part);
  LogicalResult launch(Operation *op, StringRef part, const kernels::Kernel &kernel, sched::GridAttr grid,
                       ArrayRef<Operand> operands);

  func::FuncOp step;
  const bool isStep; ///< @step, or what stands for it in large steps; not another entry
  VariantContext &context;
  MLIRContext *mlir;
  const Type logitsType; ///< of @step's result
  const TokenRange range;
  const bool many;
  const int64_t ranks;
  SmallVector<Buffer> buffers;
  SmallVector<Command> commands;
  SmallVector<SideWork> sideWork;
  BufferPlan plan;
  llvm::DenseMap<Value, int> values;
  llvm::DenseSet<Value> logitRows, gatheredRows;
  llvm::DenseSet<Operation *> done; ///< ops that an earlier launch took along
  llvm::MapVector<std::pair<Attribute, Value>, int> angles;
  llvm::DenseMap<Value, Sorted> sorted;
  /// Results of the entry and the buffers that they go to.
  llvm::DenseMap<Value, std::string> results;
  SmallVector<Argument> arguments;
  int expertLayers = 0;
  /// The number of the expert layer that the slots of a localize or dispatch belong to.
  llvm::DenseMap<Value, int> localized;
  /// Of a dispatch, by its slots: what goes back where.
  struct Dispatched {
    int backRows, backCounts, places;
    int64_t backRoom; ///< choices of a token that may fall on one rank
  };
  llvm::DenseMap<Value, Dispatched> dispatched;
};

} // namespace mlir::moe

#endif // MOE_LOWERING_MOETOSCHED_STEPLOWERING_H
