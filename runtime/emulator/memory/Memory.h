//===- Memory.h - The address space of the emulated devices -----*- C++ -*-===//
//
// Global memory of all devices and pinned host memory in one address space, as
// the driver API presents it. A device address lies in a range that is reserved
// and never accessible, so the host faults when it dereferences one; the bytes
// live elsewhere (`Allocation::data`). Every allocation stands alone in slots of
// 64 KiB with unused bytes on both sides (red zones); freed ones stay known, so
// that an access to them is told from a wild one.
//
// With checks on, each allocation has a `Shadow`: which bytes are defined, and
// who read and wrote them last, when. Host commands (memcpy, memset, host
// functions) take part in the judgement as actors of their own: `begin`, `read`
// and `write`, `end`.
//
// Not thread-safe but for the data bytes themselves: whoever shares a
// DeviceMemory between host threads locks around calls. Kernels: exec/Launch.h.
//
//===----------------------------------------------------------------------===//
#ifndef MOERT_EMULATOR_MEMORY_MEMORY_H
#define MOERT_EMULATOR_MEMORY_MEMORY_H

#include "runtime/emulator/memory/Clock.h"
#include "runtime/emulator/memory/Finding.h"

#include <cstddef>
#include <map>
#include <memory>
#include <string>
#include <unordered_set>
#include <vector>

namespace moert::emulator {

class Shadow;
class SyncTable;

enum class AllocationKind {
  Device, ///< cuMemAlloc: not accessible to the host
  Module, ///< a .global or .const variable of a loaded module
  Pinned, ///< host memory at its own address (cuMemHostAlloc, cuMemHostRegister)
  Managed ///< accessible to both at one address
};

/// One allocation. `data` is where its bytes are; for Pinned and Managed `data` equals `base`.
struct Allocation {
  uint64_t base = 0;
  uint64_t size = 0;
  uint8_t *data = nullptr;
  AllocationKind kind = AllocationKind::Device;
  uint32_t device = 0;
  uint32_t number = 0; ///< counts allocations, for messages
  bool freed = false;
  bool readOnly = false; ///< .const
  bool ownsData = true;
  std::string name;               ///< of a module variable
  std::unique_ptr<Shadow> shadow; ///< null with checks off

  Allocation();
  ~Allocation();
  Allocation(Allocation &&) = delete;
  /// "allocation 3 (4096 bytes at 0x...)" or "variable x (...)".
  std::string describe() const;
};

/// A host command that accesses device memory: memcpy, memset, a host function.
struct Command {
  Actor actor = 0;
  uint32_t launch = 0;
  Clock before; ///< what is ordered before it
  std::string name;
};

struct MemoryOptions {
  bool checks = true;                           ///< shadow state, races, undefined bytes
  uint64_t bytesPerDevice = uint64_t(80) << 30; ///< allocate() fails beyond
  uint32_t devices = 1;
};

/// The memory of all devices.
class DeviceMemory {
public:
  explicit DeviceMemory(MemoryOptions options = {});
  ~DeviceMemory();
  DeviceMemory(const DeviceMemory &) = delete;

  /// `size` bytes on `device`, 512-byte aligned, all undefined; 0 when the device is full or `size` is 0.
  uint64_t allocate(uint32_t device, uint64_t size, AllocationKind kind = AllocationKind::Device,
                    std::string name = {});
  /// Host memory that devices may access at the same address. `data` stays the caller's when given; otherwise it is
  /// allocated here, page aligned. Defined from the start. 0 when it overlaps another registration.
  uint64_t addHost(void *data, uint64_t size, AllocationKind kind = AllocationKind::Pinned);
  /// False when `base` is not the first byte of a live allocation. The bytes are gone, the range stays known as freed.
  bool free(uint64_t base);

  /// The allocation that holds `address`, live or freed, or whose slot it lies in (a red zone); null when wild.
  /// Check `contains` before use.
  Allocation *find(uint64_t address) const;
  static bool contains(const Allocation &allocation, uint64_t address, uint64_t size) {
    return !allocation.freed && address >= allocation.base && size <= allocation.size &&
           address - allocation.base <= allocation.size - size;
  }
  /// The bytes of [address, address + size), or null when they are not all inside one live allocation.
  uint8_t *bytes(uint64_t address, uint64_t size) const;
  /// Why `bytes` is null, in words: "17 bytes past the end of allocation 3 (...)".
  std::string explain(uint64_t address, uint64_t size) const;

  uint64_t used(uint32_t device) const { return usedBytes[device]; }
  const MemoryOptions &options() const { return settings; }
  /// Is `address` in the range that device addresses come from?
  bool isDeviceAddress(uint64_t address) const { return address - reserved < reservedSize; }

  // Host commands. With checks off these only keep the books that clocks need.

  /// A command that starts after all that `before` knows.
  Command begin(const Clock &before, std::string name);
  /// It reads or writes [address, address + size) (which must be valid): reports races with kernels and commands.
  /// `written` defines the bytes.
  void read(Command &command, uint64_t address, uint64_t size, FindingSink &sink);
  void write(Command &command, uint64_t address, uint64_t size, FindingSink &sink);
  /// The clock of whoever comes after the command.
  Clock end(Command &command);

  /// Copies which bytes are defined, as a memcpy does. A side that is no known memory counts as defined.
  void copyDefined(uint64_t destination, uint64_t source, uint64_t size);
  void setDefined(uint64_t address, uint64_t size, bool defined = true);
  /// Offset of the first undefined byte, or `size` when all are defined (or unknown to the emulator).
  uint64_t firstUndefined(uint64_t address, uint64_t size) const;

  /// A place in a kernel, for messages about earlier accesses. Numbers are handed out from 1; 0 is a host command.
  struct Site {
    uint32_t kernel; ///< index into kernelNames
    uint32_t line;
  };
  uint32_t addSites(const std::string &kernel, const std::vector<uint32_t> &lines);
  /// "kernel k line 7" or "host command memcpy".
  std::string describeSite(uint32_t site, Actor actor) const;

  /// Generic addresses of shared and of local memory: 4 GiB each, never accessible either.
  uint64_t sharedWindow() const { return reserved; }
  uint64_t localWindow() const { return reserved + (uint64_t(1) << 32); }

  /// What flags in global memory hand over (memory/Sync.h).
  SyncTable &flags() { return *syncTable; }

  Actors actors;
  Clock sequential; ///< what those who have executed a fence.sc knew
  /// Sites of plain reads whose value a lane then compared and swapped, so that it was a first guess.
  std::unordered_set<uint32_t> guessSites;

private:
  MemoryOptions settings;
  uint64_t reserved = 0, reservedSize = 0;
  uint64_t firstSlot = 0, nextSlot = 0; ///< the first slot behind the windows; the next free one
  uint32_t count = 0;
  std::vector<uint32_t> slots; ///< per slot of 64 KiB, from firstSlot: index into `all`, plus 1
  std::vector<std::unique_ptr<Allocation>> all;
  std::map<uint64_t, uint32_t> hosts; ///< by end address: index into `all`
  std::vector<uint64_t> usedBytes;
  std::unique_ptr<SyncTable> syncTable;
  std::vector<std::string> kernelNames;
  std::vector<Site> sites;
};

} // namespace moert::emulator

#endif // MOERT_EMULATOR_MEMORY_MEMORY_H
