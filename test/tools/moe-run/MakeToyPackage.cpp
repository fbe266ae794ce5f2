//===- MakeToyPackage.cpp - The runtime's toy package as files ------------===//
//
//   make-toy-package DIR [--no-tokenizer]               writes DIR/package and DIR/checkpoint
//   make-toy-package DIR replicated|distributed R       the same for R ranks (test/runtime/ranks/RankToy.h)
//
// The toy of test/runtime/core with a tokenizer of eight letters, so that the
// tests of moe-run need no compiler. Its logits rise with (v / 2 + v mod 3)
// whatever the tokens are: ids 5 ("f") and 7 ("h") are equal and largest.
//
//===----------------------------------------------------------------------===//
#include "test/runtime/ranks/RankToy.h"

#include <cstdio>
#include <cstdlib>
#include <filesystem>
#include <memory>

using namespace moert::test;

int main(int argc, char **argv) {
  const std::string kind = argc > 2 ? argv[2] : "";
  const bool hasRanks = argc == 4 && (kind == "replicated" || kind == "distributed");
  const bool hasTokenizer = argc == 2 || hasRanks;
  if (!hasTokenizer && (argc != 3 || kind != "--no-tokenizer")) {
    std::fprintf(stderr, "usage: make-toy-package DIR [--no-tokenizer | replicated R | distributed R]\n");
    return 1;
  }
  std::filesystem::path target = argv[1];
  std::filesystem::remove_all(target);
  std::filesystem::create_directories(target);
  const std::unique_ptr<Toy> made =
      hasRanks ? std::unique_ptr<Toy>(new RankToy(std::atoi(argv[3]), kind == "distributed")) : std::make_unique<Toy>();
  Toy &toy = *made;
  if (hasRanks) {
    toy.program.maxContext = 0; // tests of failures generate until they are stopped
  }
  toy.program.hint = std::filesystem::absolute(target / "checkpoint");
  toy.program.packageFiles = {{"tokenizer.json",
                               R"({"version": "1.0", "added_tokens": [], "model": {"type": "BPE", "merges": [],)"
                               R"( "vocab": {"a": 0, "b": 1, "c": 2, "d": 3, "e": 4, "f": 5, "g": 6, "h": 7}},)"
                               R"( "decoder": {"type": "Fuse"}})"},
                              {"generation_config.json", R"({"eos_token_id": [7]})"}};
  if (!hasTokenizer) {
    toy.program.packageFiles.erase(toy.program.packageFiles.begin());
  }
  toy.write();
  std::filesystem::copy(toy.package(), target / "package", std::filesystem::copy_options::recursive);
  std::filesystem::copy(toy.checkpoint(), target / "checkpoint");
  // The time of change is part of a checkpoint's identity.
  std::filesystem::last_write_time(target / "checkpoint" / "model.safetensors",
                                   std::filesystem::last_write_time(toy.checkpoint() + "/model.safetensors"));
  return 0;
}
