//===- SerializeProgram.cpp - sched IR to the bytes of a program file -------===//
//
// Walks the program once. Symbols become positions, names become indices into
// one table of strings, equal constants share their bytes. The IR is verified,
// so that every symbol resolves; what may still be missing (a tensor's place, a
// blob, a key) is an error here.
//
//===----------------------------------------------------------------------===//

#include "lowering/SchedToProgram/ProgramTypes.h"
#include "lowering/SchedToProgram/SchedToProgram.h"
#include "runtime/format/Checksum.h"
#include "llvm/ADT/StringExtras.h"
#include "llvm/ADT/StringMap.h"
#include "llvm/ADT/TypeSwitch.h"
#include "llvm/Support/MathExtras.h"

using namespace mlir;
using namespace mlir::sched;
namespace format = moert::format;

namespace {

/// Position of every symbol of one kind.
using Positions = DenseMap<StringAttr, uint32_t>;

class ProgramWriter {
public:
  explicit ProgramWriter(ProgramOp program) : program(program) { intern(""); }
  FailureOr<std::string> write();

private:
  template <typename T> using Offset = flatbuffers::Offset<T>;
  template <typename T> using Offsets = std::vector<Offset<T>>;
  using Text = Offset<flatbuffers::String>;

  uint32_t intern(StringRef text);
  Text text(StringRef text) { return builder.CreateString(text.data(), text.size()); }
  Offset<flatbuffers::Vector<uint8_t>> digest(StringRef hex);
  LogicalResult writeTensors();
  void writeTables();
  FailureOr<Offset<format::Variant>> writeVariant(VariantOp variant);
  FailureOr<Offset<format::Initializer>> writeInitializer(InitializerOp initializer);
  format::Buffer writeBuffer(BufferOp buffer);
  format::Buffer writeConstant(ConstantOp constant);
  /// Appends the commands of a block; returns first and count.
  std::pair<uint32_t, uint32_t> writeCommands(Block &block, const Positions &buffers);
  format::Command writeCommand(CommandOpInterface command, const Positions &buffers);
  format::Operand writeOperand(Attribute operand, const Positions &buffers);
  uint32_t writeTensorMap(TensorMapAttr map);

  ProgramOp program;
  flatbuffers::FlatBufferBuilder builder{1 << 16};
  llvm::StringMap<uint32_t> stringIndices;
  std::vector<StringRef> strings;
  llvm::StringMap<uint64_t> constantOffsets;
  std::string constants;
  std::vector<format::Tensor> tensors;
  std::vector<format::TableEntry> entries;
  std::vector<format::WeightTable> tables;
  Positions filePositions, tensorPositions, tablePositions;
  // Of the variant at hand.
  Positions kernelPositions;
  std::vector<format::Operand> operands;
  std::vector<format::Command> commands;
  std::vector<format::TensorMap> tensorMaps;
  llvm::DenseMap<Attribute, uint32_t> mapPositions;
};

} // namespace

uint32_t ProgramWriter::intern(StringRef text) {
  auto [entry, inserted] = stringIndices.try_emplace(text, strings.size());
  if (inserted) {
    strings.push_back(entry->getKey());
  }
  return entry->getValue();
}

flatbuffers::Offset<flatbuffers::Vector<uint8_t>> ProgramWriter::digest(StringRef hex) {
  std::string bytes = llvm::fromHex(hex);
  return builder.CreateVector(reinterpret_cast<const uint8_t *>(bytes.data()), bytes.size());
}

LogicalResult ProgramWriter::writeTensors() {
  for (auto tensor : program.getBody().getOps<TensorOp>()) {
    uint32_t file = ~0u;
    if (tensor.getFile()) {
      file = filePositions.lookup(tensor.getFileAttr().getAttr());
    } else if (!tensor.getComputed()) {
      return tensor.emitOpError("has no place in a file: locate the program's tensors in a checkpoint first");
    }
    RankedTensorType type = tensor.getTensorType();
    int64_t dims[3] = {};
    llvm::copy(type.getShape(), dims);
    tensorPositions[tensor.getSymNameAttr()] = tensors.size();
    tensors.emplace_back(file, *toDType(type.getElementType()), type.getRank(), intern(tensor.getSymName()),
                         tensor.getOffset().value_or(0), tensor.getByteSize(), dims[0], dims[1], dims[2]);
  }
  return success();
}

void ProgramWriter::writeTables() {
  for (auto table : program.getBody().getOps<TableOp>()) {
    tablePositions[table.getSymNameAttr()] = tables.size();
    tables.emplace_back(intern(table.getSymName()), entries.size(), table.getEntries().size());
    for (auto entry : table.getEntries().getAsRange<WeightAttr>()) {
      entries.emplace_back(tensorPositions.lookup(entry.getTensor().getAttr()), entry.getOffset());
    }
  }
}

format::Buffer ProgramWriter::writeBuffer(BufferOp buffer) {
  return format::Buffer(static_cast<format::BufferKind>(buffer.getKind()), intern(buffer.getSymName()),
                        buffer.getAlignment(), 0, toExtent(buffer.getSize()));
}

format::Buffer ProgramWriter::writeConstant(ConstantOp constant) {
  // Every constant starts at a multiple of 64, so that equal bytes can be shared at any alignment.
  auto [entry, inserted] = constantOffsets.try_emplace(constant.getBytes(), llvm::alignTo(constants.size(), 64));
  if (inserted) {
    constants.resize(entry->getValue());
    constants += constant.getBytes();
  }
  return format::Buffer(format::BufferKind::Constant, intern(constant.getSymName()), constant.getAlignment(),
                        entry->getValue(), format::Extent(constant.getBytes().size(), 0, 0, 0, 0));
}

format::Operand ProgramWriter::writeOperand(Attribute operand, const Positions &buffers) {
  const format::Extent none(0, 0, 0, 0, 0);
  return llvm::TypeSwitch<Attribute, format::Operand>(operand)
      .Case([&](SliceAttr slice) {
        return format::Operand(format::OperandKind::Slice, static_cast<format::Access>(slice.getAccess()),
                               buffers.lookup(slice.getBuffer().getAttr()), slice.getOffset(),
                               toExtent(slice.getExtent()), 0);
      })
      .Case([&](WeightAttr weight) {
        return format::Operand(format::OperandKind::WeightSpan, static_cast<format::Access>(weight.getAccess()),
                               tensorPositions.lookup(weight.getTensor().getAttr()), weight.getOffset(),
                               weight.getExtent() ? toExtent(weight.getExtent()) : none, weight.getPerRank());
      })
      .Case([&](TableRefAttr table) {
        return format::Operand(format::OperandKind::WeightTable, format::Access::Read,
                               tablePositions.lookup(table.getTable().getAttr()), 0, none, table.getPerRank());
      })
      .Case([&](TensorMapAttr map) {
        return format::Operand(format::OperandKind::TensorMap, format::Access::Read, writeTensorMap(map), 0, none, 0);
      })
      .Case([&](SizeAttr size) {
        return format::Operand(format::OperandKind::Size, format::Access::None, 0, 0, none,
                               static_cast<uint64_t>(size.getDim()));
      })
      .Case([&](ScalarAttr scalar) {
        return format::Operand(format::OperandKind::Constant, format::Access::None, 0, 0, none, scalar.getValue());
      });
}

/// The number of `map` among those of the variant.
uint32_t ProgramWriter::writeTensorMap(TensorMapAttr map) {
  auto [entry, isNew] = mapPositions.try_emplace(map, tensorMaps.size());
  if (isNew) {
    auto weight = dyn_cast<WeightAttr>(map.getSource());
    auto table = dyn_cast<TableRefAttr>(map.getSource());
    tensorMaps.emplace_back(static_cast<bool>(table),
                            weight ? tensorPositions.lookup(weight.getTensor().getAttr())
                                   : tablePositions.lookup(table.getTable().getAttr()),
                            map.getBoxRows(), weight ? weight.getOffset() : 0,
                            weight ? weight.getPerRank() : table.getPerRank(), map.getRows(), map.getColumns());
  }
  return entry->second;
}

format::Command ProgramWriter::writeCommand(CommandOpInterface command, const Positions &buffers) {
  using format::CommandKind;
  CommandKind kind = CommandKind::Launch;
  uint32_t target = 0;
  uint64_t value = 0;
  format::Grid grid(format::Extent(0, 0, 0, 0, 0), 1, 0, 1);
  llvm::TypeSwitch<Operation *>(command)
      .Case([&](LaunchOp launch) {
        target = kernelPositions.lookup(launch.getKernelAttr().getAttr());
        GridAttr attr = launch.getGrid();
        grid = format::Grid(toExtent(attr.getUnits()), attr.getDivisor(), attr.getCap(), attr.getFactor());
      })
      .Case([&](CopyOp) { kind = CommandKind::Copy; })
      .Case([&](FillOp fill) {
        kind = CommandKind::Fill;
        value = fill.getValue();
      })
      .Case([&](CollectiveOp collective) {
        kind = CommandKind::Collective;
        target = static_cast<uint32_t>(collective.getKind());
        if (std::optional<Type> element = collective.getElement()) {
          value = static_cast<uint64_t>(*toDType(*element));
        } else {
          value = collective.getRowBytes().value_or(0);
        }
      })
      .Case([&](GroupBeginOp) { kind = CommandKind::GroupBegin; })
      .Case([&](GroupEndOp) { kind = CommandKind::GroupEnd; })
      .Case([&](RecordOp record) {
        kind = CommandKind::Record;
        target = record.getEvent();
      })
      .Case([&](WaitOp wait) {
        kind = CommandKind::Wait;
        target = wait.getEvent();
      })
      .Case([&](HostCallOp call) {
        kind = CommandKind::HostCall;
        target = intern(call.getCallee());
      });
  uint32_t first = operands.size();
  for (Attribute operand : command.getOperandAttrs()) {
    operands.push_back(writeOperand(operand, buffers));
  }
  return format::Command(kind, command.getStream(), target, first, operands.size() - first, intern(command.getLabel()),
                         value, grid);
}

std::pair<uint32_t, uint32_t> ProgramWriter::writeCommands(Block &block, const Positions &buffers) {
  uint32_t first = commands.size();
  for (auto command : block.getOps<CommandOpInterface>()) {
    commands.push_back(writeCommand(command, buffers));
  }
  return {first, commands.size() - first};
}

FailureOr<flatbuffers::Offset<format::Initializer>> ProgramWriter::writeInitializer(InitializerOp initializer) {
  if (!initializer.getKey()) {
    return initializer.emitOpError("has no key: compute the keys of the program's initializers first");
  }
  std::vector<format::Buffer> scratch;
  Positions positions;
  for (auto buffer : initializer.getBody().getOps<BufferOp>()) {
    positions[buffer.getSymNameAttr()] = scratch.size();
    scratch.push_back(writeBuffer(buffer));
  }
  auto [first, count] = writeCommands(initializer.getBody().front(), positions);
  auto key = text(*initializer.getKey());
  auto buffers = builder.CreateVectorOfStructs(scratch);
  return format::CreateInitializer(builder, tensorPositions.lookup(initializer.getResultAttr().getAttr()), key, first,
                                   count, buffers);
}

FailureOr<flatbuffers::Offset<format::Variant>> ProgramWriter::writeVariant(VariantOp variant) {
  if (!variant.getBlob()) {
    return variant.emitOpError("has no blob: attach the kernels of ") << variant.getTargetAttr() << " first";
  }
  operands.clear();
  commands.clear();
  kernelPositions.clear();
  tensorMaps.clear();
  mapPositions.clear();
  Positions bufferPositions;
  Offsets<format::Kernel> kernels;
  Offsets<format::Initializer> initializers;
  std::vector<format::Buffer> buffers;
  // Declarations first: commands refer to them wherever they stand.
  for (Operation &op : variant.getBody().front()) {
    if (auto kernel = dyn_cast<KernelOp>(op)) {
      kernelPositions[kernel.getSymNameAttr()] = kernels.size();
      auto symbol = text(kernel.getSymName());
      auto description = kernel.getDescription() ? text(*kernel.getDescription()) : Text();
      kernels.push_back(format::CreateKernel(builder, symbol, description, kernel.getThreads().value_or(0),
                                             kernel.getSharedBytes().value_or(0), kernel.getWaits()));
    } else if (auto buffer = dyn_cast<BufferOp>(op)) {
      bufferPositions[buffer.getSymNameAttr()] = buffers.size();
      buffers.push_back(writeBuffer(buffer));
    } else if (auto constant = dyn_cast<ConstantOp>(op)) {
      bufferPositions[constant.getSymNameAttr()] = buffers.size();
      buffers.push_back(writeConstant(constant));
    }
  }
  for (auto initializer : variant.getBody().getOps<InitializerOp>()) {
    auto offset = writeInitializer(initializer);
    if (failed(offset)) {
      return failure();
    }
    initializers.push_back(*offset);
  }
  auto writeSteps = [&](Block &block) {
    std::vector<format::StepVariant> steps;
    for (auto step : block.getOps<StepOp>()) {
      auto [first, count] = writeCommands(step.getBody().front(), bufferPositions);
      steps.emplace_back(step.getMinTokens(), step.getMaxTokens(), first, count);
    }
    return steps;
  };
  std::vector<format::StepVariant> steps = writeSteps(variant.getBody().front());
  Offsets<format::Entry> entries;
  for (auto entry : variant.getBody().getOps<EntryOp>()) {
    auto indices = [&](ArrayAttr buffers) {
      std::vector<uint32_t> positions;
      for (auto buffer : buffers.getAsRange<FlatSymbolRefAttr>()) {
        positions.push_back(bufferPositions.lookup(buffer.getAttr()));
      }
      return builder.CreateVector(positions);
    };
    auto name = text(entry.getSymName());
    auto inputs = indices(entry.getInputs()), outputs = indices(entry.getOutputs());
    auto entrySteps = builder.CreateVectorOfStructs(writeSteps(entry.getBody().front()));
    entries.push_back(format::CreateEntry(builder, name, inputs, outputs, entrySteps));
  }
  std::string printed;
  llvm::raw_string_ostream stream(printed);
  variant->print(stream, OpPrintingFlags().useLocalScope());

  auto target = text(variant.getTarget());
  std::vector<Text> featureTexts;
  for (auto feature : variant.getFeatures().getAsValueRange<StringAttr>()) {
    featureTexts.push_back(text(feature));
  }
  auto features = builder.CreateVector(featureTexts);
  auto blob = text(*variant.getBlob());
  auto sha256 = digest(*variant.getSha256());
  auto kernelVector = builder.CreateVector(kernels);
  auto bufferVector = builder.CreateVectorOfStructs(buffers);
  auto operandVector = builder.CreateVectorOfStructs(operands);
  auto commandVector = builder.CreateVectorOfStructs(commands);
  auto stepVector = builder.CreateVectorOfStructs(steps);
  auto initializerVector = builder.CreateVector(initializers);
  auto entryVector = builder.CreateVector(entries);
  auto schedMlir = text(printed);
  flatbuffers::Offset<flatbuffers::Vector<const format::TensorMap *>> mapVector;
  if (!tensorMaps.empty()) {
    mapVector = builder.CreateVectorOfStructs(tensorMaps);
  }
  return format::CreateVariant(
      builder, target, features, blob, sha256, kernelVector, bufferVector, operandVector, commandVector, stepVector,
      initializerVector, variant.getEvents(), variant.getStreams(), schedMlir, variant.getRanks(), entryVector,
      variant.getDistributed() ? format::RankInputs::Distributed : format::RankInputs::Replicated, mapVector);
}

FailureOr<std::string> ProgramWriter::write() {
  Offsets<format::File> files;
  Offsets<format::PackageFile> packageFiles;
  for (auto file : program.getBody().getOps<FileOp>()) {
    filePositions[file.getSymNameAttr()] = files.size();
    auto name = text(file.getSymName());
    auto header = digest(file.getHeaderSha256());
    Offset<flatbuffers::Vector<uint8_t>> whole;
    if (file.getSha256()) {
      whole = digest(*file.getSha256());
    }
    files.push_back(format::CreateFile(builder, name, file.getSize(), file.getMtimeNs(), header, whole,
                                       file.getInPackage(), file.getHeaderBytes().value_or(0)));
  }
  for (auto file : program.getBody().getOps<PackageFileOp>()) {
    auto name = text(file.getName());
    auto sha256 = digest(file.getSha256());
    packageFiles.push_back(format::CreatePackageFile(builder, name, file.getSize(), sha256));
  }
  if (failed(writeTensors())) {
    return failure();
  }
  writeTables();
  Offsets<format::Variant> variants;
  for (auto variant : program.getBody().getOps<VariantOp>()) {
    auto offset = writeVariant(variant);
    if (failed(offset)) {
      return failure();
    }
    variants.push_back(*offset);
  }
  Offsets<format::KeyValue> metadata;
  if (DictionaryAttr dictionary = program.getMetadataAttr()) {
    for (NamedAttribute entry : dictionary) {
      auto key = text(entry.getName());
      auto value = text(cast<StringAttr>(entry.getValue()));
      metadata.push_back(format::CreateKeyValue(builder, key, value));
    }
  }
  std::vector<Text> stringTexts;
  for (StringRef string : strings) {
    stringTexts.push_back(text(string));
  }
  auto fileVector = builder.CreateVector(files);
  auto packageFileVector = builder.CreateVector(packageFiles);
  auto variantVector = builder.CreateVector(variants);
  auto metadataVector = builder.CreateVector(metadata);
  auto stringVector = builder.CreateVector(stringTexts);
  auto tensorVector = builder.CreateVectorOfStructs(tensors);
  auto tableVector = builder.CreateVectorOfStructs(tables);
  auto entryVector = builder.CreateVectorOfStructs(entries);
  builder.ForceVectorAlignment(constants.size(), 1, 64);
  auto constantVector = builder.CreateVector(reinterpret_cast<const uint8_t *>(constants.data()), constants.size());
  auto compiler = text(program.getCompiler().value_or(""));
  auto model = text(program.getModel().value_or(""));
  auto checkpoint = program.getCheckpoint() ? text(*program.getCheckpoint()) : Text();
  auto root = format::CreateProgram(
      builder, format::kFormatMajor, format::kFormatMinor, compiler, model, program.getVocab(), program.getMaxTokens(),
      program.getMaxContext(), *toDType(program.getDtype()), checkpoint, stringVector, fileVector, tensorVector,
      tableVector, entryVector, constantVector, variantVector, metadataVector, packageFileVector);
  format::FinishProgramBuffer(builder, root);
  std::string bytes(reinterpret_cast<const char *>(builder.GetBufferPointer()), builder.GetSize());
  bytes += format::sealProgram(bytes.data(), bytes.size());
  return bytes;
}

FailureOr<std::string> sched::serializeProgram(ProgramOp program) { return ProgramWriter(program).write(); }
