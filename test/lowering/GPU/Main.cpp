// main of the kernels' tests: GoogleTest's, and --record=FILE (LaunchRecorder.h).
#include "test/lowering/GPU/LaunchRecorder.h"

int main(int argc, char **argv) {
  testing::InitGoogleTest(&argc, argv);
  for (int i = 1; i < argc; ++i) {
    llvm::StringRef argument = argv[i];
    if (!argument.consume_front("--record=")) {
      llvm::errs() << argv[0] << ": unknown argument " << argument << "; besides GoogleTest's there is --record=FILE\n";
      return 1;
    }
    mlir::moe::gpu::test::LaunchRecorder::get().open(argument);
  }
  return RUN_ALL_TESTS();
}
