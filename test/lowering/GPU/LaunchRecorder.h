//===- LaunchRecorder.h - Launches of the kernels' tests, for a card -------===//
//
// Tests compile kernels and compare what the emulator makes of them with f64.
// With --record=FILE the test program also writes every launch that was right:
// its PTX, its operands and its results. `bench-gpu replay` (bench/gpu/Replay.cpp)
// repeats them on a card, where there is neither the compiler nor the tests.
//
// The file: lines of text, each followed by the bytes that it announces.
//
//   ptx BYTES
//   case TEST KERNEL PTX GRID THREADS SHARED BOX OPERANDS
//   word VALUE
//   in|out|update ELEMENT BYTES ROWS COLUMNS
//   table ROWS COLUMNS ENTRIES BYTES...
//
// PTX of a case is the number of a text above it, BOX the rows of its tensor
// maps, or 0. Of an operand come the bytes before (in, update), then those after
// (out, update); of a table the bytes of every entry.
//
//===----------------------------------------------------------------------===//

#ifndef MOE_TEST_LOWERING_GPU_LAUNCHRECORDER_H
#define MOE_TEST_LOWERING_GPU_LAUNCHRECORDER_H

#include "llvm/ADT/ArrayRef.h"
#include "llvm/ADT/StringMap.h"
#include "llvm/ADT/Twine.h"
#include "llvm/Support/ErrorHandling.h"
#include "llvm/Support/raw_ostream.h"
#include "gtest/gtest.h"

namespace mlir::moe::gpu::test {

class LaunchRecorder {
public:
  /// The recorder of this program, which writes nothing until it is opened.
  static LaunchRecorder &get() {
    static LaunchRecorder recorder;
    return recorder;
  }
  void open(llvm::StringRef path) {
    std::error_code problem;
    file = std::make_unique<llvm::raw_fd_ostream>(path, problem);
    if (problem) {
      llvm::report_fatal_error(llvm::Twine("cannot write ") + path + ": " + problem.message());
    }
  }
  bool isOpen() const { return file != nullptr; }

  /// A launch of the test that runs; operands follow.
  void beginCase(const std::string &text, llvm::StringRef kernel, int64_t grid, int64_t threads, int64_t sharedBytes,
                 int64_t box, size_t operands) {
    auto [known, isNew] = texts.try_emplace(text, texts.size());
    if (isNew) {
      *file << "ptx " << text.size() << "\n" << text;
    }
    const testing::TestInfo &test = *testing::UnitTest::GetInstance()->current_test_info();
    *file << "case " << test.test_suite_name() << "." << test.name() << " " << kernel << " " << known->second << " "
          << grid << " " << threads << " " << sharedBytes << " " << box << " " << operands << "\n";
  }
  void addWord(uint64_t word) { *file << "word " << word << "\n"; }
  void addData(llvm::StringRef kind, llvm::StringRef element, llvm::StringRef before, llvm::StringRef after,
               int64_t rows, int64_t columns) {
    *file << kind << " " << element << " " << std::max(before.size(), after.size()) << " " << rows << " " << columns
          << "\n"
          << before << after;
  }
  void addTable(llvm::ArrayRef<llvm::StringRef> entries, int64_t rows, int64_t columns) {
    *file << "table " << rows << " " << columns << " " << entries.size();
    for (llvm::StringRef entry : entries) {
      *file << " " << entry.size();
    }
    *file << "\n";
    for (llvm::StringRef entry : entries) {
      *file << entry;
    }
  }

private:
  std::unique_ptr<llvm::raw_fd_ostream> file;
  llvm::StringMap<size_t> texts;
};

} // namespace mlir::moe::gpu::test

#endif // MOE_TEST_LOWERING_GPU_LAUNCHRECORDER_H
