//===- SchedOps.cpp - Declarations: text, builders, verifiers ---------------===//
//
// What an op can check by itself. Everything that needs a symbol is checked by
// the program as a whole (SchedProgramOps.cpp), with one table of symbols.
//
//===----------------------------------------------------------------------===//

#include "dialects/Sched/IR/SchedOps.h"
#include "dialects/Sched/IR/SchedAttrs.h"
#include "mlir/IR/Builders.h"
#include "llvm/ADT/StringExtras.h"

using namespace mlir;
using namespace mlir::sched;

//===----------------------------------------------------------------------===//
// Directives of the assembly formats
//===----------------------------------------------------------------------===//

namespace mlir::sched {
static void printExtent(OpAsmPrinter &printer, Operation *, ExtentAttr extent) { printExtent(printer, extent); }
static void printGrid(OpAsmPrinter &printer, Operation *, GridAttr grid) { printGrid(printer, grid); }
static void printArgs(OpAsmPrinter &printer, Operation *, ArrayAttr args) { printArgs(printer, args); }
} // namespace mlir::sched

/// `[@a, @b[4096]]`: tensors, with a byte offset where it is not 0.
static ParseResult parseEntries(OpAsmParser &parser, ArrayAttr &entries) {
  SmallVector<Attribute> spans;
  auto parseEntry = [&]() -> ParseResult {
    SMLoc location = parser.getCurrentLocation();
    StringAttr tensor;
    int64_t offset = 0;
    if (parser.parseSymbolName(tensor) ||
        (succeeded(parser.parseOptionalLSquare()) && (parser.parseInteger(offset) || parser.parseRSquare()))) {
      return failure();
    }
    auto emitError = [&] { return parser.emitError(location); };
    spans.push_back(WeightAttr::getChecked(emitError, FlatSymbolRefAttr::get(tensor), offset));
    return success(static_cast<bool>(spans.back()));
  };
  if (parser.parseCommaSeparatedList(AsmParser::Delimiter::Square, parseEntry)) {
    return failure();
  }
  entries = parser.getBuilder().getArrayAttr(spans);
  return success();
}

static void printEntries(OpAsmPrinter &printer, Operation *, ArrayAttr entries) {
  printer << "[";
  llvm::interleaveComma(entries.getAsRange<WeightAttr>(), printer, [&](WeightAttr entry) {
    printer << entry.getTensor();
    if (entry.getOffset()) {
      printer << "[" << entry.getOffset() << "]";
    }
  });
  printer << "]";
}

static ParseResult parseHexBytes(OpAsmParser &parser, StringAttr &bytes) {
  SMLoc location = parser.getCurrentLocation();
  std::string digits, raw;
  if (parser.parseString(&digits)) {
    return failure();
  }
  if (digits.size() % 2 || !llvm::tryGetFromHex(digits, raw)) {
    return parser.emitError(location, "bytes must be an even number of hexadecimal digits, got ")
           << digits.size() << " characters";
  }
  bytes = parser.getBuilder().getStringAttr(raw);
  return success();
}

static void printHexBytes(OpAsmPrinter &printer, Operation *, StringAttr bytes) {
  printer << '"' << llvm::toHex(bytes.getValue(), /*LowerCase=*/true) << '"';
}

#define GET_OP_CLASSES
#include "dialects/Sched/IR/SchedOps.cpp.inc"

//===----------------------------------------------------------------------===//
// Helpers
//===----------------------------------------------------------------------===//

unsigned sched::getStorageBits(Type element) {
  if (element.isInteger(1)) {
    return 8; // A BOOL of safetensors is one byte.
  }
  if (isa<Float32Type, BFloat16Type, Float16Type, Float64Type, Float8E4M3FNType, Float8E5M2Type, Float8E8M0FNUType,
          Float4E2M1FNType>(element) ||
      element.isSignlessInteger(8) || element.isSignlessInteger(16) || element.isSignlessInteger(32) ||
      element.isSignlessInteger(64) || element.isUnsignedInteger(8) || element.isUnsignedInteger(16) ||
      element.isUnsignedInteger(32) || element.isUnsignedInteger(64)) {
    return element.getIntOrFloatBitWidth();
  }
  return 0;
}

bool sched::isSha256(StringRef text) {
  return text.size() == 64 && llvm::all_of(text, [](char c) { return llvm::isDigit(c) || (c >= 'a' && c <= 'f'); });
}

/// Adds a one-block region, ready to be filled.
static Block &addBody(OperationState &state) { return state.addRegion()->emplaceBlock(); }

/// `text`, when there is one, must be a SHA-256.
static LogicalResult verifySha256(Operation *op, StringRef name, std::optional<StringRef> text) {
  if (text && !isSha256(*text)) {
    return op->emitOpError() << name << " must be 64 lower-case hexadecimal digits, got \"" << *text << "\"";
  }
  return success();
}

//===----------------------------------------------------------------------===//
// Program and variant
//===----------------------------------------------------------------------===//

void ProgramOp::build(OpBuilder &builder, OperationState &state, int64_t vocab, int64_t maxTokens, int64_t maxContext,
                      Type dtype) {
  Properties &properties = state.getOrAddProperties<Properties>();
  properties.vocab = builder.getI64IntegerAttr(vocab);
  properties.max_tokens = builder.getI64IntegerAttr(maxTokens);
  properties.max_context = builder.getI64IntegerAttr(maxContext);
  properties.dtype = TypeAttr::get(dtype);
  addBody(state);
}

void VariantOp::build(OpBuilder &builder, OperationState &state, StringRef target, ArrayRef<StringRef> features,
                      int64_t streams, int64_t events) {
  Properties &properties = state.getOrAddProperties<Properties>();
  properties.target = builder.getStringAttr(target);
  properties.features = builder.getStrArrayAttr(features);
  properties.streams = builder.getI64IntegerAttr(streams);
  properties.events = builder.getI64IntegerAttr(events);
  addBody(state);
}

void EntryOp::build(OpBuilder &builder, OperationState &state, StringRef name, ArrayRef<StringRef> inputs,
                    ArrayRef<StringRef> outputs) {
  auto references = [&](ArrayRef<StringRef> names) {
    return builder.getArrayAttr(llvm::map_to_vector(
        names, [&](StringRef n) -> Attribute { return FlatSymbolRefAttr::get(builder.getContext(), n); }));
  };
  Properties &properties = state.getOrAddProperties<Properties>();
  properties.sym_name = builder.getStringAttr(name);
  properties.inputs = references(inputs);
  properties.outputs = references(outputs);
  addBody(state);
}

LogicalResult VariantOp::verify() {
  if (getBlob().has_value() != getSha256().has_value()) { // variant_c1
    return emitOpError("blob and sha256 must be given together: ") << (getBlob() ? "sha256" : "blob") << " is missing";
  }
  return verifySha256(*this, "sha256", getSha256()); // variant_c2
}

//===----------------------------------------------------------------------===//
// Files, tensors, tables
//===----------------------------------------------------------------------===//

LogicalResult FileOp::verify() {
  if (getInPackage() && !getSha256()) { // file_c3
    return emitOpError("in_package must have the sha256 of the whole file: its time says nothing");
  }
  return success(succeeded(verifySha256(*this, "header", getHeaderSha256())) && // file_c1
                 succeeded(verifySha256(*this, "sha256", getSha256())));        // file_c2
}

LogicalResult PackageFileOp::verify() { return verifySha256(*this, "sha256", getSha256()); } // package_file_c1

void TensorOp::build(OpBuilder &builder, OperationState &state, StringRef name, RankedTensorType type, bool computed) {
  build(builder, state, builder.getStringAttr(name), TypeAttr::get(type), computed ? builder.getUnitAttr() : UnitAttr(),
        FlatSymbolRefAttr(), IntegerAttr());
}

int64_t TensorOp::getByteSize() {
  RankedTensorType type = getTensorType();
  return llvm::divideCeil(type.getNumElements() * getStorageBits(type.getElementType()), 8);
}

LogicalResult TensorOp::verify() {
  RankedTensorType type = getTensorType();
  if (!getStorageBits(type.getElementType())) { // tensor_c1
    return emitOpError("element type ") << type.getElementType() << " must be one that a checkpoint stores";
  }
  if (type.getRank() > 3) { // tensor_c2
    return emitOpError("rank ") << type.getRank() << " must be at most 3: fold leading dims";
  }
  int64_t bits = getStorageBits(type.getElementType());
  for (auto [dim, size] : llvm::enumerate(type.getShape())) {
    if (ShapedType::isDynamic(size)) { // tensor_c3
      return emitOpError("dim ") << dim << " of " << type << " must be static";
    }
    if (llvm::MulOverflow(bits, size, bits)) { // tensor_c4
      return emitOpError("the size of ") << type << " must be below 2^63 bits";
    }
  }
  if (getFile().has_value() != getOffset().has_value()) { // tensor_c5
    return emitOpError("file and offset must be given together: ") << (getFile() ? "offset" : "file") << " is missing";
  }
  if (getFile() && getComputed()) { // tensor_c6
    return emitOpError("a computed tensor has no place in a file, but lies in ") << getFileAttr();
  }
  return success();
}

void TableOp::build(OpBuilder &builder, OperationState &state, StringRef name, ArrayRef<StringRef> tensors) {
  auto entries = llvm::map_to_vector(tensors, [&](StringRef tensor) -> Attribute {
    return WeightAttr::get(FlatSymbolRefAttr::get(builder.getContext(), tensor));
  });
  build(builder, state, builder.getStringAttr(name), builder.getArrayAttr(entries));
}

LogicalResult TableOp::verify() {
  if (getEntries().empty()) { // table_c1
    return emitOpError("must have at least 1 entry, got 0");
  }
  for (auto entry : getEntries().getAsRange<WeightAttr>()) {
    if (entry.getExtent() || entry.getAccess() != Access::Read) { // table_c2
      return emitOpError("entry must be a tensor and an offset, got ") << entry;
    }
  }
  return success();
}

//===----------------------------------------------------------------------===//
// Kernels, buffers, constants
//===----------------------------------------------------------------------===//

void KernelOp::build(OpBuilder &builder, OperationState &state, StringRef name, StringRef description, int64_t threads,
                     int64_t sharedBytes, bool waits) {
  Properties &properties = state.getOrAddProperties<Properties>();
  properties.sym_name = builder.getStringAttr(name);
  properties.waits = waits ? builder.getUnitAttr() : UnitAttr();
  properties.description = description.empty() ? StringAttr() : builder.getStringAttr(description);
  properties.threads = threads == 0 ? IntegerAttr() : builder.getI64IntegerAttr(threads);
  properties.shared_bytes = sharedBytes == 0 ? IntegerAttr() : builder.getI64IntegerAttr(sharedBytes);
}

static LogicalResult verifyAlignment(Operation *op, int64_t alignment, int64_t limit) {
  if (!llvm::isPowerOf2_64(alignment) || alignment > limit) { // buffer_c1, constant_c1
    return op->emitOpError("alignment ") << alignment << " must be a power of two up to " << limit;
  }
  return success();
}

LogicalResult BufferOp::verify() {
  if (isa<InitializerOp>((*this)->getParentOp()) &&
      (getKind() != BufferKind::Arena || !getSize().isConstant())) { // buffer_c2
    return emitOpError("scratch of an initializer must be an arena of fixed size, got ")
           << stringifyBufferKind(getKind()) << " of size " << getSize();
  }
  return verifyAlignment(*this, getAlignment(), 2 << 20);
}

void ConstantOp::build(OpBuilder &builder, OperationState &state, StringRef name, ArrayRef<char> bytes,
                       int64_t alignment) {
  Properties &properties = state.getOrAddProperties<Properties>();
  properties.sym_name = builder.getStringAttr(name);
  properties.bytes = builder.getStringAttr(StringRef(bytes.data(), bytes.size()));
  properties.alignment = builder.getI64IntegerAttr(alignment);
}

LogicalResult ConstantOp::verify() {
  if (getBytes().empty() || getBytes().size() > (1 << 20)) { // constant_c2
    return emitOpError("must hold 1 to 1048576 bytes, got ")
           << getBytes().size() << ": larger data belongs in the checkpoint or an initializer";
  }
  return verifyAlignment(*this, getAlignment(), 64);
}

//===----------------------------------------------------------------------===//
// Initializers and steps
//===----------------------------------------------------------------------===//

void InitializerOp::build(OpBuilder &builder, OperationState &state, StringRef result) {
  state.getOrAddProperties<Properties>().result = FlatSymbolRefAttr::get(builder.getContext(), result);
  addBody(state);
}

LogicalResult InitializerOp::verify() { return verifySha256(*this, "key", getKey()); } // initializer_c1

void StepOp::build(OpBuilder &builder, OperationState &state, int64_t minTokens, int64_t maxTokens) {
  Properties &properties = state.getOrAddProperties<Properties>();
  properties.min_tokens = builder.getI64IntegerAttr(minTokens);
  properties.max_tokens = builder.getI64IntegerAttr(maxTokens);
  addBody(state);
}
