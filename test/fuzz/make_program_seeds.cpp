// Writes the seeds of fuzz_program: the toy package's program (test/runtime/core/TestPackage.h) as it is, with two
// streams and events, with every other command kind, and for two ranks. Run after a change of the format:
//   make_program_seeds test/fuzz/corpus/program
#include "test/runtime/core/TestPackage.h"

#include <cstdio>

using namespace moert;
using namespace moert::test;
using format::Access;
using format::CommandKind;

int main(int argc, char **argv) {
  if (argc != 2) {
    fprintf(stderr, "usage: make_program_seeds FOLDER\n");
    return 1;
  }
  Toy toy;
  toy.program.hint = "checkpoint"; // not this machine's folder
  toy.program.files[0].mtimeNs = 0;
  VariantSpec &v = toy.variant();
  v.blobSha256 = std::string(32, 'k');
  auto write = [&](const char *name) { test::writeFile(std::string(argv[1]) + "/" + name, toy.program.flatbuffer()); };
  write("toy");

  const uint32_t first = uint32_t(v.commands.size());
  const format::Grid one(extent(1), 1, 0, 1);
  v.streams = 2;
  v.events = 1;
  addCommand(toy.program, v, CommandKind::Fill, "fill", 0, {slice(kArena, Access::Write, extent(64))}, one, 7);
  addCommand(toy.program, v, CommandKind::Record, "record", 0, {});
  addCommand(toy.program, v, CommandKind::Wait, "wait", 0, {}, one, 0, 1);
  addCommand(toy.program, v, CommandKind::Copy, "copy", 0,
             {slice(kArena, Access::Write, extent(64), 64), slice(kArena, Access::Read, extent(64))}, one, 0, 1);
  v.steps = {format::StepVariant(1, kMaxTokens, first, 4)};
  write("streams");

  addCommand(toy.program, v, CommandKind::GroupBegin, "group", 0, {});
  addCommand(toy.program, v, CommandKind::Collective, "reduce", 0, {slice(kState, Access::ReadWrite, extent(4))});
  addCommand(toy.program, v, CommandKind::GroupEnd, "group", 0, {});
  addCommand(toy.program, v, CommandKind::HostCall, "call", 0, {});
  v.steps[0].mutate_command_count(8);
  toy.program.constants.assign(64, 'c');
  v.buffers.push_back(format::Buffer(format::BufferKind::Constant, 0, 4, 0, extent(64)));
  write("all-kinds");

  const auto arguments = uint32_t(v.buffers.size());
  v.buffers.push_back(format::Buffer(format::BufferKind::Input, toy.program.string("x"), 64, 0, extent(0, 4)));
  v.buffers.push_back(format::Buffer(format::BufferKind::Output, toy.program.string("y"), 64, 0, extent(0, 4)));
  v.entries = {{"entry",
                {arguments},
                {arguments + 1, kLogits},
                {format::StepVariant(1, kMaxTokens, uint32_t(v.commands.size()), 1)}}};
  addCommand(toy.program, v, CommandKind::Copy, "copy", 0,
             {slice(arguments + 1, Access::Write, extent(0, 4)), slice(arguments, Access::Read, extent(0, 4))});
  write("entries");

  v.ranks = 2;
  v.rankInputs = format::RankInputs::Distributed;
  const auto begin = uint32_t(v.commands.size());
  addCommand(toy.program, v, CommandKind::Launch, "shares", 0,
             {span(kEmbed, 0, 16, Access::Read, 16), table(0, 1), size(format::Dim::Rank)});
  addCommand(toy.program, v, CommandKind::Collective, "gather", uint32_t(format::CollectiveKind::AllGather),
             {slice(kArena, Access::Write, extent(0, 4)), slice(kArena, Access::Read, extent(0, 2), 64)});
  addCommand(toy.program, v, CommandKind::Collective, "exchange", uint32_t(format::CollectiveKind::Exchange),
             {slice(kArena, Access::Write, extent(32)), slice(kArena, Access::Read, extent(32), 32),
              slice(kArena, Access::Write, extent(8), 64), slice(kArena, Access::Read, extent(8), 72)},
             one, 4);
  v.steps = {format::StepVariant(1, kMaxTokens, begin, 3)};
  write("ranks");
}
