//===- DeserializeProgram.cpp - The bytes of a program file to sched IR -----===//
//
// The reverse of SerializeProgram.cpp, for tests and for people who inspect a
// package. Checks the seal, the FlatBuffer and every index; what the program
// means is then checked by the verifier of the IR.
//
//===----------------------------------------------------------------------===//

#include "lowering/SchedToProgram/ProgramTypes.h"
#include "lowering/SchedToProgram/SchedToProgram.h"
#include "mlir/IR/Builders.h"
#include "mlir/IR/Verifier.h"
#include "runtime/format/Checksum.h"
#include "llvm/ADT/StringExtras.h"
#include "llvm/ADT/bit.h"

using namespace mlir;
using namespace mlir::sched;
namespace format = moert::format;

namespace {

/// Names of things that commands refer to by position.
using Names = SmallVector<StringAttr>;

class ProgramReader {
public:
  ProgramReader(const format::Program &source, Location location)
      : source(source), location(location), context(location.getContext()), builder(context) {}
  OwningOpRef<ModuleOp> read();

private:
  LogicalResult readDeclarations();
  LogicalResult readVariant(const format::Variant &variant);
  LogicalResult readBuffer(const format::Buffer &buffer, Names &names);
  LogicalResult readSteps(const format::Variant &variant, const flatbuffers::Vector<const format::StepVariant *> *steps,
                          const Names &buffers);
  LogicalResult readEntry(const format::Variant &variant, const format::Entry &entry, const Names &buffers);
  LogicalResult readInitializer(const format::Variant &variant, const format::Initializer &initializer);
  LogicalResult readCommands(const format::Variant &variant, uint32_t first, uint32_t count, const Names &buffers);
  LogicalResult readCommand(const format::Variant &variant, const format::Command &command, const Names &buffers);
  FailureOr<Attribute> readOperand(const format::Operand &operand, const Names &buffers);
  Attribute readTensorMap(uint32_t index);

  LogicalResult fail(const Twine &message) { return emitError(location, "no valid program: ") << message; }
  /// The string at an index, or null with an error.
  StringAttr string(uint32_t index, StringRef what);
  /// The name at a position, or null with an error.
  FlatSymbolRefAttr symbol(const Names &names, uint32_t index, StringRef what);
  /// An optional string: null if it is missing or empty.
  StringAttr optional(const flatbuffers::String *text) {
    return text && text->size() ? builder.getStringAttr(text->str()) : StringAttr();
  }
  FailureOr<ExtentAttr> extent(const format::Extent &extent);
  static std::string hex(const flatbuffers::Vector<uint8_t> *bytes) {
    return bytes ? llvm::toHex(ArrayRef(bytes->data(), bytes->size()), /*LowerCase=*/true) : "";
  }
  template <typename T> static uint64_t sizeOf(const flatbuffers::Vector<T> *vector) {
    return vector ? vector->size() : 0;
  }

  const format::Program &source;
  Location location;
  MLIRContext *context;
  OpBuilder builder;
  ProgramOp program;
  Names files, tensors, tables, kernels;
  const flatbuffers::Vector<const format::TensorMap *> *tensorMaps = nullptr; ///< of the variant at hand
};

} // namespace

StringAttr ProgramReader::string(uint32_t index, StringRef what) {
  if (index >= sizeOf(source.strings())) {
    (void)fail(what + " has name " + Twine(index) + " of " + Twine(sizeOf(source.strings())));
    return nullptr;
  }
  return builder.getStringAttr(source.strings()->Get(index)->str());
}

FlatSymbolRefAttr ProgramReader::symbol(const Names &names, uint32_t index, StringRef what) {
  if (index >= names.size()) {
    (void)fail(what + " " + Twine(index) + " does not exist, there are " + Twine(names.size()));
    return nullptr;
  }
  return FlatSymbolRefAttr::get(names[index]);
}

FailureOr<ExtentAttr> ProgramReader::extent(const format::Extent &e) {
  auto emitError = [&] { return mlir::emitError(location, "no valid program: "); };
  auto attr = ExtentAttr::getChecked(emitError, context, e.fixed(), e.per_token(), e.per_row(), e.per_sequence(),
                                     e.per_cache_row());
  if (!attr) {
    return failure();
  }
  return attr;
}

LogicalResult ProgramReader::readDeclarations() {
  for (uint32_t i = 0; i < sizeOf(source.files()); ++i) {
    const format::File &file = *source.files()->Get(i);
    files.push_back(builder.getStringAttr(file.name()->str()));
    auto op =
        FileOp::create(builder, location, files.back(), builder.getI64IntegerAttr(file.size()),
                       builder.getI64IntegerAttr(file.mtime_ns()), builder.getStringAttr(hex(file.header_sha256())),
                       StringAttr(), file.in_package() ? builder.getUnitAttr() : UnitAttr(), IntegerAttr());
    if (file.sha256()) {
      op.setSha256(hex(file.sha256()));
    }
    if (file.header_bytes() != 0) {
      op.setHeaderBytes(file.header_bytes());
    }
  }
  for (uint32_t i = 0; i < sizeOf(source.package_files()); ++i) {
    const format::PackageFile &file = *source.package_files()->Get(i);
    PackageFileOp::create(builder, location, builder.getStringAttr(file.name()->str()),
                          builder.getI64IntegerAttr(file.size()), builder.getStringAttr(hex(file.sha256())));
  }
  for (uint32_t i = 0; i < sizeOf(source.tensors()); ++i) {
    const format::Tensor &tensor = *source.tensors()->Get(i);
    Type element = fromDType(tensor.dtype(), context);
    StringAttr name = string(tensor.name(), "tensor");
    int64_t dims[3] = {tensor.d0(), tensor.d1(), tensor.d2()};
    if (!name) {
      return failure();
    }
    if (!element || tensor.rank() > 3 || llvm::any_of(dims, [](int64_t dim) { return dim < 0; })) {
      return fail("tensor '" + name.getValue() + "' has type " + Twine(int(tensor.dtype())) + " and rank " +
                  Twine(int(tensor.rank())) + " with dims " + Twine(dims[0]) + ", " + Twine(dims[1]) + ", " +
                  Twine(dims[2]));
    }
    bool computed = tensor.file() == ~0u;
    auto type = RankedTensorType::get(ArrayRef(dims, tensor.rank()), element);
    tensors.push_back(name);
    auto op = TensorOp::create(builder, location, name.getValue(), type, computed);
    if (!computed) {
      FlatSymbolRefAttr file = symbol(files, tensor.file(), "file");
      if (!file) {
        return failure();
      }
      op.setFileAttr(file);
      op.setOffsetAttr(builder.getI64IntegerAttr(tensor.offset()));
    }
  }
  for (uint32_t i = 0; i < sizeOf(source.tables()); ++i) {
    const format::WeightTable &table = *source.tables()->Get(i);
    StringAttr name = string(table.name(), "table");
    if (!name) {
      return failure();
    }
    SmallVector<Attribute> entries;
    if (uint64_t(table.first()) + table.count() > sizeOf(source.table_entries())) {
      return fail("table '" + name.getValue() + "' has entries past the " + Twine(sizeOf(source.table_entries())) +
                  " there are");
    }
    for (uint32_t e = 0; e < table.count(); ++e) {
      const format::TableEntry &entry = *source.table_entries()->Get(table.first() + e);
      FlatSymbolRefAttr tensor = symbol(tensors, entry.tensor(), "tensor");
      if (!tensor || entry.offset() > INT64_MAX) {
        return failure();
      }
      entries.push_back(WeightAttr::get(tensor, entry.offset()));
    }
    tables.push_back(name);
    TableOp::create(builder, location, name, builder.getArrayAttr(entries));
  }
  return success();
}

LogicalResult ProgramReader::readBuffer(const format::Buffer &buffer, Names &names) {
  StringAttr name = string(buffer.name(), "buffer");
  FailureOr<ExtentAttr> size = extent(buffer.size());
  if (!name || failed(size)) {
    return failure();
  }
  names.push_back(name);
  if (buffer.kind() == format::BufferKind::Constant) {
    uint64_t total = sizeOf(source.constants()), bytes = size->getFixed();
    if (!size->isConstant() || buffer.constant_offset() > total || bytes > total - buffer.constant_offset()) {
      return fail("constant '" + name.getValue() + "' lies past the " + Twine(total) + " bytes there are");
    }
    auto data = reinterpret_cast<const char *>(source.constants()->data()) + buffer.constant_offset();
    ConstantOp::create(builder, location, name.getValue(), ArrayRef<char>(data, bytes), buffer.alignment());
    return success();
  }
  std::optional<BufferKind> kind = symbolizeBufferKind(static_cast<uint32_t>(buffer.kind()));
  if (!kind) {
    return fail("buffer '" + name.getValue() + "' has kind " + Twine(int(buffer.kind())));
  }
  BufferOp::create(builder, location, name.getValue(), *kind, *size, buffer.alignment());
  return success();
}

FailureOr<Attribute> ProgramReader::readOperand(const format::Operand &operand, const Names &buffers) {
  auto emitError = [&] { return mlir::emitError(location, "no valid program: "); };
  std::optional<Access> access = symbolizeAccess(static_cast<uint32_t>(operand.access()));
  FailureOr<ExtentAttr> size = extent(operand.extent());
  const bool hasPerRank =
      operand.kind() == format::OperandKind::WeightSpan || operand.kind() == format::OperandKind::WeightTable;
  if (failed(size) || operand.offset() > INT64_MAX || (hasPerRank && operand.value() > INT64_MAX)) {
    return failure();
  }
  Attribute attr;
  switch (operand.kind()) {
  case format::OperandKind::Slice:
    if (FlatSymbolRefAttr buffer = symbol(buffers, operand.index(), "buffer"); buffer && access) {
      attr = SliceAttr::getChecked(emitError, *access, buffer, operand.offset(), *size);
    }
    break;
  case format::OperandKind::WeightSpan:
    if (FlatSymbolRefAttr tensor = symbol(tensors, operand.index(), "tensor"); tensor && access) {
      bool toEnd = *size == ExtentAttr::get(context, 0);
      attr = WeightAttr::getChecked(emitError, tensor, operand.offset(), toEnd ? ExtentAttr() : *size, *access,
                                    operand.value());
    }
    break;
  case format::OperandKind::WeightTable:
    if (FlatSymbolRefAttr table = symbol(tables, operand.index(), "table")) {
      attr = TableRefAttr::get(table, operand.value());
    }
    break;
  case format::OperandKind::TensorMap:
    attr = readTensorMap(operand.index());
    break;
  case format::OperandKind::Size:
    if (std::optional<Dim> dim = operand.value() < 256 ? symbolizeDim(operand.value()) : std::nullopt) {
      attr = SizeAttr::get(context, *dim);
    }
    break;
  case format::OperandKind::Constant:
    attr = ScalarAttr::get(context, llvm::bit_cast<int64_t>(operand.value()));
    break;
  }
  if (!attr) {
    return fail("operand of kind " + Twine(int(operand.kind())) + ", access " + Twine(int(operand.access())) +
                " and value " + Twine(operand.value()));
  }
  return attr;
}

/// Null if there is no such map.
Attribute ProgramReader::readTensorMap(uint32_t index) {
  if (index >= sizeOf(tensorMaps)) {
    return {};
  }
  const format::TensorMap &map = *tensorMaps->Get(index);
  FlatSymbolRefAttr of = symbol(map.table() ? tables : tensors, map.index(), map.table() ? "table" : "tensor");
  if (!of || std::max({map.offset(), map.per_rank(), map.rows(), map.columns()}) > INT64_MAX) {
    return {};
  }
  auto emitError = [&] { return mlir::emitError(location, "no valid program: "); };
  // A span that every rank has at a place of its own says how long it is.
  ExtentAttr extent;
  if (Type element =
          map.per_rank() && !map.table() ? fromDType(source.tensors()->Get(map.index())->dtype(), context) : Type()) {
    extent = ExtentAttr::get(context, map.rows() * map.columns() * element.getIntOrFloatBitWidth() / 8);
  }
  Attribute source =
      map.table()
          ? Attribute(TableRefAttr::getChecked(emitError, of, map.per_rank()))
          : Attribute(WeightAttr::getChecked(emitError, of, map.offset(), extent, Access::Read, map.per_rank()));
  return source ? TensorMapAttr::getChecked(emitError, source, map.rows(), map.columns(), map.box_rows()) : Attribute();
}

LogicalResult ProgramReader::readCommand(const format::Variant &variant, const format::Command &command,
                                         const Names &buffers) {
  if (uint64_t(command.first_operand()) + command.operand_count() > sizeOf(variant.operands())) {
    return fail("a command has operands past the " + Twine(sizeOf(variant.operands())) + " there are");
  }
  SmallVector<Attribute> args;
  for (uint32_t i = 0; i < command.operand_count(); ++i) {
    FailureOr<Attribute> operand = readOperand(*variant.operands()->Get(command.first_operand() + i), buffers);
    if (failed(operand)) {
      return failure();
    }
    args.push_back(*operand);
  }
  StringAttr label = string(command.name(), "command");
  if (!label) {
    return failure();
  }
  ArrayAttr array = builder.getArrayAttr(args);
  uint64_t stream = command.stream(), target = command.target();
  auto needs = [&](size_t count) {
    return args.size() == count ? success()
                                : fail("a command of kind " + Twine(int(command.kind())) + " has " +
                                       Twine(args.size()) + " operands instead of " + Twine(count));
  };
  switch (command.kind()) {
  case format::CommandKind::Launch: {
    FlatSymbolRefAttr kernel = symbol(kernels, target, "kernel");
    const format::Grid &grid = command.grid();
    FailureOr<ExtentAttr> units = extent(grid.units());
    if (!kernel || failed(units)) {
      return failure();
    }
    auto emitError = [&] { return mlir::emitError(location, "no valid program: "); };
    GridAttr attr = GridAttr::getChecked(emitError, *units, grid.divisor(), grid.cap(), grid.factor());
    if (!attr) {
      return failure();
    }
    LaunchOp::create(builder, location, kernel.getValue(), attr, args, label, stream);
    return success();
  }
  case format::CommandKind::Copy:
    if (failed(needs(2))) {
      return failure();
    }
    CopyOp::create(builder, location, args[0], args[1], label, stream);
    return success();
  case format::CommandKind::Fill:
    if (failed(needs(1))) {
      return failure();
    }
    FillOp::create(builder, location, args[0], command.value(), label, stream);
    return success();
  case format::CommandKind::Collective: {
    std::optional<CollectiveKind> kind = symbolizeCollectiveKind(target);
    if (!kind) {
      return fail("collective " + Twine(target) + " does not exist");
    }
    const bool isSum = *kind == CollectiveKind::AllReduceSum || *kind == CollectiveKind::ReduceScatterSum;
    const bool isExchange = *kind == CollectiveKind::Exchange;
    Type element =
        isSum && command.value() < 256 ? fromDType(static_cast<format::DType>(command.value()), context) : Type();
    if (isSum && !(element && (element.isF32() || element.isBF16()))) {
      return fail("collective " + Twine(target) + " sums elements of type " + Twine(command.value()) +
                  ", but those are f32 or bf16");
    }
    if (isExchange && (command.value() == 0 || command.value() > INT64_MAX)) {
      return fail("an exchange has rows of " + Twine(command.value()) + " bytes");
    }
    CollectiveOp::create(builder, location, *kind, element, isExchange ? command.value() : 0, args, label, stream);
    return success();
  }
  case format::CommandKind::GroupBegin:
    GroupBeginOp::create(builder, location, label, stream);
    return needs(0);
  case format::CommandKind::GroupEnd:
    GroupEndOp::create(builder, location, label, stream);
    return needs(0);
  case format::CommandKind::Record:
    RecordOp::create(builder, location, target, label, stream);
    return needs(0);
  case format::CommandKind::Wait:
    WaitOp::create(builder, location, target, label, stream);
    return needs(0);
  case format::CommandKind::HostCall: {
    StringAttr callee = string(target, "host call");
    if (!callee) {
      return failure();
    }
    HostCallOp::create(builder, location, callee, array, label, stream);
    return success();
  }
  }
  return fail("a command has kind " + Twine(int(command.kind())));
}

LogicalResult ProgramReader::readCommands(const format::Variant &variant, uint32_t first, uint32_t count,
                                          const Names &buffers) {
  if (uint64_t(first) + count > sizeOf(variant.commands())) {
    return fail("commands " + Twine(first) + " to " + Twine(uint64_t(first) + count) + " lie past the " +
                Twine(sizeOf(variant.commands())) + " there are");
  }
  for (uint32_t i = 0; i < count; ++i) {
    if (failed(readCommand(variant, *variant.commands()->Get(first + i), buffers))) {
      return failure();
    }
  }
  return success();
}

LogicalResult ProgramReader::readInitializer(const format::Variant &variant, const format::Initializer &initializer) {
  FlatSymbolRefAttr result = symbol(tensors, initializer.result(), "tensor");
  if (!result) {
    return failure();
  }
  auto op = InitializerOp::create(builder, location, result.getValue());
  op.setKey(initializer.key()->str());
  OpBuilder::InsertionGuard guard(builder);
  builder.setInsertionPointToStart(&op.getBody().front());
  Names scratch;
  for (uint32_t i = 0; i < sizeOf(initializer.scratch()); ++i) {
    if (failed(readBuffer(*initializer.scratch()->Get(i), scratch))) {
      return failure();
    }
  }
  return readCommands(variant, initializer.first_command(), initializer.command_count(), scratch);
}

LogicalResult ProgramReader::readVariant(const format::Variant &variant) {
  std::string target = variant.target()->str();
  SmallVector<std::string> featureTexts;
  for (uint32_t i = 0; i < sizeOf(variant.features()); ++i) {
    featureTexts.push_back(variant.features()->Get(i)->str());
  }
  auto features = llvm::map_to_vector(featureTexts, [](const std::string &text) { return StringRef(text); });
  auto op = VariantOp::create(builder, location, target, features, variant.streams(), variant.events());
  op.setBlob(variant.blob()->str());
  op.setSha256(hex(variant.blob_sha256()));
  op.setRanks(variant.ranks());
  tensorMaps = variant.tensor_maps();
  op.setDistributed(variant.rank_inputs() == format::RankInputs::Distributed);
  OpBuilder::InsertionGuard guard(builder);
  builder.setInsertionPointToStart(&op.getBody().front());
  kernels.clear();
  for (uint32_t i = 0; i < sizeOf(variant.kernels()); ++i) {
    const format::Kernel &kernel = *variant.kernels()->Get(i);
    kernels.push_back(builder.getStringAttr(kernel.symbol()->str()));
    KernelOp::create(builder, location, kernels.back().getValue(),
                     kernel.description() ? StringRef(kernel.description()->c_str()) : "", kernel.threads(),
                     kernel.shared_bytes(), kernel.waits());
  }
  Names buffers;
  for (uint32_t i = 0; i < sizeOf(variant.buffers()); ++i) {
    if (failed(readBuffer(*variant.buffers()->Get(i), buffers))) {
      return failure();
    }
  }
  for (uint32_t i = 0; i < sizeOf(variant.initializers()); ++i) {
    if (failed(readInitializer(variant, *variant.initializers()->Get(i)))) {
      return failure();
    }
  }
  if (failed(readSteps(variant, variant.steps(), buffers))) {
    return failure();
  }
  for (uint32_t i = 0; i < sizeOf(variant.entries()); ++i) {
    if (failed(readEntry(variant, *variant.entries()->Get(i), buffers))) {
      return failure();
    }
  }
  return success();
}

LogicalResult ProgramReader::readSteps(const format::Variant &variant,
                                       const flatbuffers::Vector<const format::StepVariant *> *steps,
                                       const Names &buffers) {
  for (uint32_t i = 0; i < sizeOf(steps); ++i) {
    const format::StepVariant &step = *steps->Get(i);
    auto op = StepOp::create(builder, location, step.min_tokens(), step.max_tokens());
    OpBuilder::InsertionGuard guard(builder);
    builder.setInsertionPointToStart(&op.getBody().front());
    if (failed(readCommands(variant, step.first_command(), step.command_count(), buffers))) {
      return failure();
    }
  }
  return success();
}

LogicalResult ProgramReader::readEntry(const format::Variant &variant, const format::Entry &entry,
                                       const Names &buffers) {
  SmallVector<StringRef> arguments[2];
  for (auto [indices, names] : {std::pair(entry.inputs(), &arguments[0]), {entry.outputs(), &arguments[1]}}) {
    for (uint32_t i = 0; i < sizeOf(indices); ++i) {
      FlatSymbolRefAttr buffer = symbol(buffers, indices->Get(i), "buffer");
      if (!buffer) {
        return failure();
      }
      names->push_back(buffer.getValue());
    }
  }
  const std::string name = entry.name()->str();
  auto op = EntryOp::create(builder, location, name, arguments[0], arguments[1]);
  OpBuilder::InsertionGuard guard(builder);
  builder.setInsertionPointToStart(&op.getBody().front());
  return readSteps(variant, entry.steps(), buffers);
}

OwningOpRef<ModuleOp> ProgramReader::read() {
  OwningOpRef<ModuleOp> module(ModuleOp::create(location));
  builder.setInsertionPointToStart(module->getBody());
  Type dtype = fromDType(source.activation_dtype(), context);
  if (!dtype) {
    (void)fail("activations have type " + Twine(int(source.activation_dtype())));
    return nullptr;
  }
  program = ProgramOp::create(builder, location, source.vocab(), source.max_tokens(), source.max_context(), dtype);
  program.setCompilerAttr(optional(source.compiler()));
  program.setModelAttr(optional(source.model_json()));
  program.setCheckpointAttr(optional(source.checkpoint_hint()));
  SmallVector<NamedAttribute> metadata;
  for (uint32_t i = 0; i < sizeOf(source.metadata()); ++i) {
    const format::KeyValue &entry = *source.metadata()->Get(i);
    if (!entry.key()->size()) {
      (void)fail("metadata without a name");
      return nullptr;
    }
    metadata.push_back(builder.getNamedAttr(entry.key()->str(), builder.getStringAttr(entry.value()->str())));
  }
  if (!metadata.empty()) {
    program.setMetadataAttr(builder.getDictionaryAttr(metadata));
  }
  builder.setInsertionPointToStart(&program.getBody().front());
  if (failed(readDeclarations())) {
    return nullptr;
  }
  for (uint32_t i = 0; i < sizeOf(source.variants()); ++i) {
    if (failed(readVariant(*source.variants()->Get(i)))) {
      return nullptr;
    }
  }
  return succeeded(verify(*module)) ? std::move(module) : nullptr;
}

OwningOpRef<ModuleOp> sched::deserializeProgram(StringRef bytes, Location location) {
  size_t payload = 0;
  format::Digest expected = {}, actual = {};
  switch (format::unsealProgram(bytes.data(), bytes.size(), payload, expected, actual)) {
  case format::Seal::Missing:
    emitError(location) << "no program file: its last " << format::kSealSize << " bytes are no seal (" << bytes.size()
                        << " bytes in all)";
    return nullptr;
  case format::Seal::Broken:
    emitError(location) << "corrupted program file: its SHA-256 is " << format::toHex(actual) << ", but must be "
                        << format::toHex(expected);
    return nullptr;
  case format::Seal::Intact:
    break;
  }
  // FlatBuffers reads integers in place: the bytes must be aligned for the largest.
  std::vector<uint64_t> aligned(llvm::divideCeil(payload, 8));
  std::memcpy(aligned.data(), bytes.data(), payload);
  const auto *data = reinterpret_cast<const uint8_t *>(aligned.data());
  flatbuffers::Verifier verifier(data, payload);
  if (payload < 8 || !format::ProgramBufferHasIdentifier(data)) {
    emitError(location) << "no program file: the identifier MOEP is missing";
    return nullptr;
  }
  const format::Program *program = format::GetProgram(data);
  auto major = [&] { return program->format_major(); };
  if (!format::VerifyProgramBuffer(verifier)) {
    emitError(location) << "corrupted program file: its tables point outside of it";
    return nullptr;
  }
  if (major() != format::kFormatMajor) {
    emitError(location) << "program file of format " << major() << ", this tool reads format " << format::kFormatMajor
                        << ": compile the model again";
    return nullptr;
  }
  location.getContext()->loadDialect<SchedDialect>();
  return ProgramReader(*program, location).read();
}
