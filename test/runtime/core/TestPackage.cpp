// See TestPackage.h.
#include "test/runtime/core/TestPackage.h"

#include "runtime/format/Checksum.h"

#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <filesystem>
#include <fstream>
#include <sstream>
#include <sys/stat.h>

namespace moert::test {

using namespace format;

Extent extent(int64_t fixed, int64_t perToken, int64_t perRow, int64_t perSequence, int64_t perCacheRow) {
  return Extent(fixed, perToken, perRow, perSequence, perCacheRow);
}

uint32_t ProgramSpec::string(const std::string &text) {
  for (uint32_t i = 0; i < strings.size(); ++i) {
    if (strings[i] == text) {
      return i;
    }
  }
  strings.push_back(text);
  return uint32_t(strings.size() - 1);
}

namespace {

flatbuffers::Offset<flatbuffers::Vector<uint8_t>> bytesOf(flatbuffers::FlatBufferBuilder &builder,
                                                          const std::string &text) {
  return builder.CreateVector(reinterpret_cast<const uint8_t *>(text.data()), text.size());
}

std::string rawDigest(const std::string &text) {
  Digest digest = sha256(text.data(), text.size());
  return std::string(reinterpret_cast<const char *>(digest.data()), digest.size());
}

} // namespace

std::string ProgramSpec::flatbuffer() const {
  flatbuffers::FlatBufferBuilder builder;
  std::vector<flatbuffers::Offset<Variant>> variantOffsets;
  for (const VariantSpec &v : variants) {
    std::vector<flatbuffers::Offset<Kernel>> kernels;
    for (const KernelSpec &kernel : v.kernels) {
      kernels.push_back(CreateKernel(builder, builder.CreateString(kernel.symbol), builder.CreateString("test kernel"),
                                     kernel.threads, kernel.sharedBytes, kernel.waits));
    }
    std::vector<flatbuffers::Offset<Initializer>> initializers;
    for (const InitializerSpec &i : v.initializers) {
      auto key = builder.CreateString(i.key);
      auto scratch = builder.CreateVectorOfStructs(i.scratch);
      initializers.push_back(CreateInitializer(builder, i.result, key, i.firstCommand, i.commandCount, scratch));
    }
    auto target = builder.CreateString(v.target);
    auto features = builder.CreateVectorOfStrings(v.features);
    auto blob = builder.CreateString(v.blob);
    auto blobDigest = bytesOf(builder, v.blobSha256);
    auto kernelVector = builder.CreateVector(kernels);
    auto buffers = builder.CreateVectorOfStructs(v.buffers);
    auto operands = builder.CreateVectorOfStructs(v.operands);
    auto commands = builder.CreateVectorOfStructs(v.commands);
    auto steps = builder.CreateVectorOfStructs(v.steps);
    auto initializerVector = builder.CreateVector(initializers);
    std::vector<flatbuffers::Offset<Entry>> entries;
    for (const EntrySpec &e : v.entries) {
      auto name = builder.CreateString(e.name);
      auto inputs = builder.CreateVector(e.inputs), outputs = builder.CreateVector(e.outputs);
      entries.push_back(CreateEntry(builder, name, inputs, outputs, builder.CreateVectorOfStructs(e.steps)));
    }
    auto entryVector = builder.CreateVector(entries);
    variantOffsets.push_back(CreateVariant(builder, target, features, blob, blobDigest, kernelVector, buffers, operands,
                                           commands, steps, initializerVector, v.events, v.streams, 0, v.ranks,
                                           entryVector, v.rankInputs, builder.CreateVectorOfStructs(v.tensorMaps)));
  }
  std::vector<flatbuffers::Offset<format::File>> fileOffsets;
  for (const FileSpec &f : files) {
    auto name = builder.CreateString(f.name);
    auto header = bytesOf(builder, f.headerSha256);
    auto whole = f.sha256.empty() ? 0 : bytesOf(builder, f.sha256);
    fileOffsets.push_back(
        CreateFile(builder, name, f.size, f.mtimeNs, header, whole, /*in_package=*/false, f.headerBytes));
  }
  std::vector<flatbuffers::Offset<PackageFile>> packageOffsets;
  for (const auto &[name, contents] : packageFiles) {
    auto nameOffset = builder.CreateString(name);
    auto digest = bytesOf(builder, packageDigest.empty() ? rawDigest(contents) : packageDigest);
    packageOffsets.push_back(CreatePackageFile(builder, nameOffset, contents.size(), digest));
  }
  auto compiler = builder.CreateString("test 1.0");
  auto model = builder.CreateString("{\"family\":\"toy\"}");
  auto hintOffset = builder.CreateString(hint);
  auto stringVector = builder.CreateVectorOfStrings(strings);
  auto fileVector = builder.CreateVector(fileOffsets);
  auto tensorVector = builder.CreateVectorOfStructs(tensors);
  auto tableVector = builder.CreateVectorOfStructs(tables);
  auto entryVector = builder.CreateVectorOfStructs(tableEntries);
  builder.ForceVectorAlignment(constants.size(), 1, 64);
  auto constantVector = bytesOf(builder, constants);
  auto variantVector = builder.CreateVector(variantOffsets);
  auto packageVector = builder.CreateVector(packageOffsets);
  ProgramBuilder root(builder);
  root.add_format_major(major);
  root.add_format_minor(minor);
  root.add_compiler(compiler);
  root.add_model_json(model);
  root.add_vocab(vocab);
  root.add_max_tokens(maxTokens);
  root.add_max_context(maxContext);
  root.add_activation_dtype(DType::F32);
  root.add_checkpoint_hint(hintOffset);
  root.add_strings(stringVector);
  root.add_files(fileVector);
  root.add_tensors(tensorVector);
  root.add_tables(tableVector);
  root.add_table_entries(entryVector);
  root.add_constants(constantVector);
  root.add_variants(variantVector);
  root.add_package_files(packageVector);
  FinishProgramBuffer(builder, root.Finish());
  return std::string(reinterpret_cast<const char *>(builder.GetBufferPointer()), builder.GetSize());
}

uint32_t addCommand(ProgramSpec &program, VariantSpec &variant, CommandKind kind, const std::string &name,
                    uint32_t target, const std::vector<Operand> &operands, const Grid &grid, uint64_t value,
                    uint8_t stream) {
  variant.commands.push_back(Command(kind, stream, target, uint32_t(variant.operands.size()), uint32_t(operands.size()),
                                     program.string(name), value, grid));
  variant.operands.insert(variant.operands.end(), operands.begin(), operands.end());
  return uint32_t(variant.commands.size() - 1);
}

Operand slice(uint32_t buffer, Access access, const Extent &bytes, uint64_t offset) {
  return Operand(OperandKind::Slice, access, buffer, offset, bytes, 0);
}
Operand span(uint32_t tensor, uint64_t offset, int64_t bytes, Access access, uint64_t perRank) {
  return Operand(OperandKind::WeightSpan, access, tensor, offset, extent(bytes), perRank);
}
Operand table(uint32_t index, uint64_t perRank) {
  return Operand(OperandKind::WeightTable, Access::Read, index, 0, extent(0), perRank);
}
Operand size(Dim dim) { return Operand(OperandKind::Size, Access::None, 0, 0, extent(0), uint64_t(dim)); }
Operand constant(uint64_t value) { return Operand(OperandKind::Constant, Access::None, 0, 0, extent(0), value); }

TemporaryFolder::TemporaryFolder() {
  const char *base = getenv("TMPDIR");
  std::string pattern = std::string(base ? base : "/tmp") + "/moert-test-XXXXXX";
  path = mkdtemp(pattern.data());
}

TemporaryFolder::~TemporaryFolder() {
  std::error_code ignored;
  std::filesystem::permissions(path + "/package", std::filesystem::perms::owner_all, ignored);
  std::filesystem::remove_all(path, ignored);
}

std::string readFile(const std::string &path) {
  std::ifstream in(path, std::ios::binary);
  std::stringstream contents;
  contents << in.rdbuf();
  return contents.str();
}

void writeFile(const std::string &path, const std::string &contents) {
  std::ofstream(path, std::ios::binary) << contents;
}

Toy::Toy() {
  std::filesystem::create_directories(checkpoint());
  std::filesystem::create_directories(package());
  VariantSpec v;
  v.kernels = {"embed", "accumulate", "scale", "project", "fold", "hang", "mark", "keep"};
  program.strings = {"none"};
  auto buffer = [&](BufferKind kind, const char *name, const Extent &bytes) {
    v.buffers.push_back(Buffer(kind, program.string(name), 64, 0, bytes));
  };
  buffer(BufferKind::Arena, "arena", extent(2 * 4 * kMaxTokens));
  buffer(BufferKind::Input, "tokens", extent(0, 4));
  buffer(BufferKind::Input, "seq", extent(0, 4));
  buffer(BufferKind::Input, "pos", extent(0, 4));
  buffer(BufferKind::Input, "runs", extent(4, 0, 0, 4));
  buffer(BufferKind::Input, "rows", extent(0, 0, 4));
  buffer(BufferKind::Output, "logits", extent(0, 0, 4 * kVocab));
  buffer(BufferKind::State, "kv", extent(0, 0, 0, 0, 4));
  program.variants.push_back(v);
  writeCheckpoint(1);

  const Extent perToken = extent(0, 4);
  const uint64_t y = 4 * kMaxTokens;
  // Step variant 1: one token. Step variant 2: more. The commands are the same, listed twice.
  for (int64_t first : {int64_t(1), int64_t(2)}) {
    uint32_t begin = uint32_t(variant().commands.size());
    addCommand(
        program, variant(), CommandKind::Launch, "embed", 0,
        {slice(kTokens, Access::Read, perToken), span(kEmbed), slice(kArena, Access::Write, perToken), size(Dim::T)},
        Grid(extent(0, 1), 2, 0, 1));
    addCommand(program, variant(), CommandKind::Launch, "accumulate", 1,
               {slice(kArena, Access::Read, perToken), slice(kSeq, Access::Read, perToken),
                slice(kPos, Access::Read, perToken), slice(kState, Access::ReadWrite, extent(0, 0, 0, 0, 4)),
                slice(kArena, Access::Write, perToken, y), size(Dim::T), size(Dim::C),
                slice(kRuns, Access::Read, extent(4, 0, 0, 4))},
               Grid(extent(0, 0, 0, 1), 1, 0, 1));
    addCommand(program, variant(), CommandKind::Launch, "scale", 2,
               {table(0), slice(kArena, Access::ReadWrite, perToken, y), size(Dim::T), constant(1)});
    addCommand(program, variant(), CommandKind::Launch, "logits", 3,
               {slice(kArena, Access::Read, perToken, y), slice(kRows, Access::Read, extent(0, 0, 4)), span(kHead),
                slice(kLogits, Access::Write, extent(0, 0, 4 * kVocab)), constant(kVocab)},
               Grid(extent(0, 0, 1), 1, 0, 1));
    variant().steps.push_back(
        StepVariant(first, first == 1 ? 1 : kMaxTokens, begin, uint32_t(variant().commands.size()) - begin));
  }
  // head = 2 * raw head + bias, through scratch.
  InitializerSpec head;
  head.result = kHead;
  head.key = std::string(64, 'a');
  head.firstCommand = uint32_t(variant().commands.size());
  head.scratch = {Buffer(BufferKind::Arena, program.string("scratch"), 64, 0, extent(4 * kVocab))};
  addCommand(program, variant(), CommandKind::Fill, "clear", 0, {span(kHead, 0, 4 * kVocab, Access::Write)},
             Grid(extent(1), 1, 0, 1), 0xff);
  addCommand(program, variant(), CommandKind::Copy, "fetch", 0,
             {slice(0, Access::Write, extent(4 * kVocab)), span(kRawHead, 0, 4 * kVocab)});
  addCommand(program, variant(), CommandKind::Launch, "fold", 4,
             {slice(0, Access::ReadWrite, extent(4 * kVocab)), span(kBias), constant(kVocab)});
  addCommand(program, variant(), CommandKind::Copy, "store", 0,
             {span(kHead, 0, 4 * kVocab, Access::Write), slice(0, Access::Read, extent(4 * kVocab))});
  head.commandCount = uint32_t(variant().commands.size()) - head.firstCommand;
  variant().initializers.push_back(head);
  program.packageFiles = {{"tokenizer.json", "{\"model\":{}}"}};
}

void Toy::writeCheckpoint(float scale) {
  embedScale = scale;
  // Like a safetensors file as far as the runtime looks: a length, so many bytes of header, data.
  std::string header = "{\"embed\":{},\"experts\":{},\"head\":{},\"bias\":{}}   ";
  header.resize((header.size() + 7) / 8 * 8, ' ');
  uint64_t length = header.size();
  std::string contents(reinterpret_cast<const char *>(&length), 8);
  contents += header;
  const uint64_t data = contents.size();
  auto append = [&](const std::vector<float> &values) {
    contents.append(reinterpret_cast<const char *>(values.data()), values.size() * sizeof(float));
  };
  std::vector<float> embed, head, bias;
  for (int v = 0; v < kVocab; ++v) {
    embed.push_back(scale * float(v + 1));
    head.push_back(zeroHead ? 0.0f : 0.25f * float(v));
    bias.push_back(zeroHead ? 0.0f : float(v % 3));
  }
  append(embed);   // data
  append({0.5f});  // data + 32: expert 0
  append({3.0f});  // data + 36: expert 1
  append(head);    // data + 40
  contents += 'x'; // one byte, so that what follows is not aligned
  append(bias);    // data + 73
  writeFile(checkpoint() + "/model.safetensors", contents);

  struct stat facts;
  stat((checkpoint() + "/model.safetensors").c_str(), &facts);
  program.hint = checkpoint();
  program.files = {{"model.safetensors", contents.size(),
                    int64_t(facts.st_mtim.tv_sec) * 1000000000 + facts.st_mtim.tv_nsec,
                    rawDigest(contents.substr(0, data)), rawDigest(contents)}};
  auto tensor = [&](const char *name, uint64_t offset, int64_t count) {
    return Tensor(0, DType::F32, 1, program.string(name), data + offset, uint64_t(count) * 4, count, 0, 0);
  };
  program.tensors = {tensor("embed", 0, kVocab),
                     tensor("experts.0", 32, 1),
                     tensor("experts.1", 36, 1),
                     tensor("head", 40, kVocab),
                     tensor("bias", 73, kVocab),
                     Tensor(0xffffffffu, DType::F32, 1, program.string("head.folded"), 0, 4 * kVocab, kVocab, 0, 0)};
  program.tableEntries = {TableEntry(kExpert0, 0), TableEntry(kExpert1, 0)};
  program.tables = {WeightTable(program.string("experts"), 0, 2)};
}

void Toy::write() const {
  ProgramSpec copy = program;
  for (VariantSpec &v : copy.variants) {
    const std::string kernels = readFile(v.kernelFile.empty() ? TEST_KERNELS : v.kernelFile);
    writeFile(package() + "/" + v.blob, kernels);
    if (v.blobSha256.empty()) {
      v.blobSha256 = rawDigest(kernels);
    }
  }
  for (const auto &[name, contents] : copy.packageFiles) {
    writeFile(package() + "/" + name, contents);
  }
  std::string file = copy.flatbuffer();
  file += sealProgram(file.data(), file.size());
  writeFile(programPath(), file);
}

float Toy::expected(const std::vector<int32_t> &sequence, int64_t v) const {
  float sum = 0;
  for (int32_t token : sequence) {
    sum += embedScale * float(token + 1);
  }
  return zeroHead ? 0.0f : sum * 3.0f * (2 * 0.25f * float(v) + float(v % 3));
}

Loaded::~Loaded() {
  moert_session_free(session);
  moert_program_free(program);
}

bool Loaded::take(moert_status *status) {
  code = moert_status_code(status);
  message = moert_status_message(status);
  moert_status_free(status);
  return status == nullptr;
}

bool Loaded::load(const std::string &package) {
  moert_program_free(program);
  program = nullptr;
  return take(moert_program_load(package.c_str(), &program));
}

bool Loaded::open(const moert_session_options &options) {
  moert_session_free(session);
  session = nullptr;
  return take(moert_session_create(program, &options, &session));
}

bool Loaded::step(const std::vector<int32_t> &tokens, const std::vector<int32_t> &seq, const std::vector<int32_t> &pos,
                  const std::vector<int32_t> &rows, std::vector<float> &logits) {
  logits.assign(rows.size() * size_t(kVocab), -1);
  moert_step_input input{int64_t(tokens.size()), tokens.data(), seq.data(), pos.data(),
                         int64_t(rows.size()),   rows.data()};
  return take(moert_session_step(session, &input, logits.data()));
}

std::string Loaded::report() {
  const char *json = nullptr;
  take(moert_session_report(session, &json));
  return json ? json : "";
}

moert_session_options defaultOptions() {
  moert_session_options options = {};
  options.struct_size = sizeof(options);
  options.sequences = 3;
  options.context = 32;
  options.threads = 2;
  options.deadline_seconds = 10;
  return options;
}

} // namespace moert::test
