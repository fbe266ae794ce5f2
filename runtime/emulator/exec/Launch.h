//===- Launch.h - Programs, kernels and launches ----------------*- C++ -*-===//
//
// The execution core as the driver sees it. A `Program` is a parsed PTX module
// translated for execution and loaded on one device: its .global and .const
// variables have addresses. A `Grid` is one launch; `step` runs it for a while,
// so that grids of several streams take turns; `launch` runs one to its end.
// One host thread and one seed replay exactly.
//
// What the device allows (block size, shared memory, cluster size) is the
// driver's to check before; what the kernel itself declares (.reqntid,
// parameter bytes) is checked here.
//
//===----------------------------------------------------------------------===//
#ifndef MOERT_EMULATOR_EXEC_LAUNCH_H
#define MOERT_EMULATOR_EXEC_LAUNCH_H

#include "runtime/core/Status.h"
#include "runtime/emulator/memory/Memory.h"
#include "runtime/emulator/ptx/Module.h"

#include <functional>
#include <memory>
#include <string>
#include <vector>

namespace moert::emulator {

/// When asynchronous work (cp.async, bulk copies, wgmma) lands: as late or as early as waits allow, or at seeded times.
enum class Timing { Late, Early, Random };

/// How a kernel is run; the same for all launches of a process, as a rule.
struct ExecOptions {
  bool checks = true; ///< needs a DeviceMemory with checks on
  Timing timing = Timing::Late;
  uint64_t seed = 0;
  bool delayLanes = false;       ///< runs lanes of a warp apart where only bar.warp.sync would keep them together
  bool allProxyFences = false;   ///< asks for those, too, that compilers leave out
  unsigned hostThreads = 1;      ///< above 1, with checks off: blocks of one launch run on so many host threads
  uint64_t stepLimit = 0;        ///< warp instructions of one launch, then a finding of kind Limit; 0: none
  uint32_t residentBlocks = 256; ///< blocks that make progress at the same time (the device's capacity for this kernel)
};

class Program;
struct Code;

/// A kernel of a loaded program.
struct Kernel {
  const Program *program = nullptr;
  const ptx::Function *function = nullptr; ///< name, bounds, parameters
  uint32_t functionIndex = 0;
  uint32_t staticShared = 0;
  uint32_t parameterBytes = 0;
  uint64_t localBytes = 0;
  uint32_t registers = 0; ///< an estimate: 32-bit registers per thread
};

/// A module's variable with its address on the device.
struct ProgramVariable {
  std::string name;
  uint64_t address = 0;
  uint64_t size = 0;
};

/// A module on one device.
class Program {
public:
  /// Translates every function and allocates and initialises the variables. `module` must outlive the program.
  static Result<std::unique_ptr<Program>> load(const ptx::Module &module, DeviceMemory &memory, uint32_t device);
  ~Program(); ///< frees the variables
  Program(const Program &) = delete;

  const Kernel *kernel(std::string_view name) const;
  const std::vector<Kernel> &kernels() const { return all; }
  const ProgramVariable *variable(std::string_view name) const;
  const std::vector<ProgramVariable> &variables() const { return globals; }
  const Code &code() const { return *translated; }
  const ptx::Module &module() const { return *source; }
  uint32_t device() const { return deviceIndex; }
  DeviceMemory &memory() const { return *space; }

private:
  Program();

  const ptx::Module *source = nullptr;
  DeviceMemory *space = nullptr;
  uint32_t deviceIndex = 0;
  std::vector<Kernel> all;
  std::vector<ProgramVariable> globals;
  std::unique_ptr<Code> translated;
};

/// One launch.
struct LaunchConfig {
  Dim3 grid, block;
  Dim3 cluster{1, 1, 1};
  uint32_t dynamicShared = 0;
  std::vector<uint8_t> parameters; ///< the kernel's parameter block, Kernel::parameterBytes long
  Clock before;                    ///< what is ordered before the launch
  /// A programmatic secondary: griddepcontrol.wait blocks until Grid::primaryDone; `before` holds only what is ordered
  /// before the primary's launch.
  bool waitsForPrimary = false;
  bool cooperative = false;                       ///< all blocks are resident at once
  uint64_t gridWorkspace = 0;                     ///< zeroed memory for grid-wide barriers: %envreg1 (high), %envreg2
  std::function<void(const std::string &)> print; ///< where printf and assert write; stdout when empty
};

/// Why a launch failed; what a sticky driver error is made of.
enum class LaunchError { None, IllegalAddress, MisalignedAddress, IllegalInstruction, Trap, Assert, Deadlock, Limit };

/// Bank conflicts and coalescing of one launch.
struct AccessCounts {
  uint64_t sharedAccesses = 0; ///< warp-wide shared-memory instructions
  uint64_t bankConflicts = 0;  ///< extra wavefronts: (wavefronts - the least the access needs)
  uint64_t globalAccesses = 0; ///< warp-wide global-memory instructions
  uint64_t globalSectors = 0;  ///< 32-byte sectors they touch
  uint64_t instructions = 0;   ///< warp instructions executed
  uint64_t threadInstructions = 0;
};

/// A running launch.
class Grid {
public:
  enum class State { Running, WaitsForPrimary, Done, Failed };

  /// An error when the configuration does not fit the kernel. `sink` must outlive the grid.
  static Result<std::unique_ptr<Grid>> create(const Kernel &kernel, const LaunchConfig &config,
                                              const ExecOptions &options, FindingSink &sink);
  virtual ~Grid();

  /// Runs about `instructions` warp instructions. Running: call again. A deadlock is declared only when `alone` (no
  /// other grid or host command could still help); otherwise Running with no progress made.
  virtual State step(uint64_t instructions, bool alone = true) = 0;
  /// Did the last step execute anything?
  virtual bool progressed() const = 0;
  /// Every block has executed griddepcontrol.launch_dependents or exited: a programmatic secondary may start.
  virtual bool mayStartDependents() const = 0;
  /// The primary grid is done and its memory is visible as `clock` says.
  virtual void primaryDone(const Clock &clock) = 0;
  /// After Done or Failed: what whoever comes after the launch knows.
  virtual Clock end() const = 0;
  virtual LaunchError error() const = 0;
  virtual const AccessCounts &counts() const = 0;

protected:
  Grid() = default;
};

struct LaunchResult {
  LaunchError error = LaunchError::None;
  Clock end;
  AccessCounts counts;
};

/// Creates a grid and runs it to its end.
Result<LaunchResult> launch(const Kernel &kernel, const LaunchConfig &config, const ExecOptions &options,
                            FindingSink &sink);

} // namespace moert::emulator

#endif // MOERT_EMULATOR_EXEC_LAUNCH_H
