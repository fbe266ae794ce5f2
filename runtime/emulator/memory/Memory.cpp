//===- Memory.cpp - Allocations, host ranges and host commands -------------===//
//
// See Memory.h. Slots of 64 KiB make the lookup of an address one table access;
// the base of an allocation is 512 bytes into its first slot, and there are at
// least 512 unused bytes behind it.
//
//===----------------------------------------------------------------------===//
#include "runtime/emulator/memory/Memory.h"
#include "runtime/emulator/memory/Shadow.h"
#include "runtime/emulator/memory/Sync.h"

#include <algorithm>
#include <cstdio>
#include <cstdlib>
#include <sys/mman.h>

namespace moert::emulator {

static constexpr uint64_t slotBytes = 64 << 10;
static constexpr uint64_t redZone = 512;
static constexpr uint64_t windows = uint64_t(8) << 30; ///< shared and local window

Allocation::Allocation() = default;

Allocation::~Allocation() {
  if (ownsData && data) {
    munmap(data, std::max<uint64_t>(size, 1) + 64);
  }
}

std::string Allocation::describe() const {
  char text[160];
  std::snprintf(text, sizeof text, " (%llu bytes at 0x%llx)", (unsigned long long)size, (unsigned long long)base);
  std::string what = kind == AllocationKind::Pinned || kind == AllocationKind::Managed ? "host memory "
                     : freed                                                           ? "freed allocation "
                                                                                       : "allocation ";
  return (name.empty() ? what + std::to_string(number) : "variable " + name) + text;
}

/// Zeroed memory that is only backed where it is touched; 64 bytes more than asked for, so that vector code may read
/// on.
static uint8_t *mapBytes(uint64_t size) {
  void *data = mmap(nullptr, std::max<uint64_t>(size, 1) + 64, PROT_READ | PROT_WRITE,
                    MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
  return data == MAP_FAILED ? nullptr : static_cast<uint8_t *>(data);
}

DeviceMemory::DeviceMemory(MemoryOptions options) : settings(options), usedBytes(options.devices) {
  // As much as the process may have: address space limits (ulimit -v, sanitizers) can be tight.
  for (reservedSize = uint64_t(1) << 42; reservedSize > windows; reservedSize /= 2) {
    void *range = mmap(nullptr, reservedSize, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    if (range != MAP_FAILED) {
      reserved = reinterpret_cast<uint64_t>(range);
      break;
    }
  }
  if (!reserved) {
    reservedSize = 0;
  }
  nextSlot = windows / slotBytes + 1;
  firstSlot = nextSlot;
  actors.addLaunch("host");
  syncTable = std::make_unique<SyncTable>();
}

DeviceMemory::~DeviceMemory() {
  if (reserved) {
    munmap(reinterpret_cast<void *>(reserved), reservedSize);
  }
}

uint64_t DeviceMemory::allocate(uint32_t device, uint64_t size, AllocationKind kind, std::string name) {
  if (size == 0 || device >= usedBytes.size() || size > settings.bytesPerDevice - usedBytes[device]) {
    return 0;
  }
  uint64_t needed = (size + 2 * redZone + slotBytes - 1) / slotBytes;
  if ((nextSlot + needed) * slotBytes > reservedSize) {
    return 0;
  }
  uint8_t *data = mapBytes(size);
  if (!data) {
    return 0;
  }
  auto made = std::make_unique<Allocation>();
  // Slots start at multiples of 64 KiB of the address, so bases are 512-byte aligned and no more.
  made->base = (reserved + slotBytes - 1) / slotBytes * slotBytes + nextSlot * slotBytes + redZone;
  made->size = size;
  made->data = data;
  made->kind = kind;
  made->device = device;
  made->number = ++count;
  made->name = std::move(name);
  if (settings.checks) {
    made->shadow = std::make_unique<Shadow>(size, false);
  }
  all.push_back(std::move(made));
  slots.resize(nextSlot - firstSlot + needed, 0);
  for (uint64_t i = 0; i < needed; ++i) {
    slots[nextSlot - firstSlot + i] = uint32_t(all.size());
  }
  nextSlot += needed + 1;
  usedBytes[device] += size;
  return all.back()->base;
}

uint64_t DeviceMemory::addHost(void *data, uint64_t size, AllocationKind kind) {
  if (size == 0) {
    return 0;
  }
  bool own = data == nullptr;
  if (own) {
    data = mapBytes(size);
    if (!data) {
      return 0;
    }
  }
  auto base = reinterpret_cast<uint64_t>(data);
  auto next = hosts.upper_bound(base);
  if (next != hosts.end() && all[next->second]->base < base + size) {
    return 0;
  }
  auto made = std::make_unique<Allocation>();
  made->base = base;
  made->size = size;
  made->data = static_cast<uint8_t *>(data);
  made->kind = kind;
  made->number = ++count;
  made->ownsData = own;
  if (settings.checks) {
    made->shadow = std::make_unique<Shadow>(size, true);
  }
  all.push_back(std::move(made));
  hosts[base + size] = uint32_t(all.size() - 1);
  return base;
}

bool DeviceMemory::free(uint64_t base) {
  Allocation *found = find(base);
  if (!found || found->freed || found->base != base) {
    return false;
  }
  found->freed = true;
  found->shadow.reset();
  if (found->kind == AllocationKind::Pinned || found->kind == AllocationKind::Managed) {
    hosts.erase(found->base + found->size);
  } else {
    usedBytes[found->device] -= found->size;
  }
  if (found->ownsData) {
    munmap(found->data, found->size + 64);
  }
  found->data = nullptr;
  return true;
}

Allocation *DeviceMemory::find(uint64_t address) const {
  if (isDeviceAddress(address)) {
    uint64_t slot = (address - (reserved + slotBytes - 1) / slotBytes * slotBytes) / slotBytes - firstSlot;
    if (slot >= slots.size() || slots[slot] == 0) {
      return nullptr;
    }
    return all[slots[slot] - 1].get();
  }
  auto it = hosts.upper_bound(address);
  if (it == hosts.end() || all[it->second]->base > address) {
    return nullptr;
  }
  return all[it->second].get();
}

uint8_t *DeviceMemory::bytes(uint64_t address, uint64_t size) const {
  Allocation *found = find(address);
  return found && contains(*found, address, size) ? found->data + (address - found->base) : nullptr;
}

std::string DeviceMemory::explain(uint64_t address, uint64_t size) const {
  char text[96];
  std::snprintf(text, sizeof text, "%llu bytes at 0x%llx: ", (unsigned long long)size, (unsigned long long)address);
  Allocation *found = find(address);
  if (!found) {
    return std::string(text) + "no allocation is there";
  }
  if (found->freed) {
    return std::string(text) + "inside " + found->describe();
  }
  if (address < found->base) {
    return std::string(text) + std::to_string(found->base - address) + " bytes before " + found->describe();
  }
  if (address >= found->base + found->size) {
    return std::string(text) + std::to_string(address - found->base - found->size) + " bytes past the end of " +
           found->describe();
  }
  return std::string(text) + "reaches past the end of " + found->describe();
}

uint32_t DeviceMemory::addSites(const std::string &kernel, const std::vector<uint32_t> &lines) {
  kernelNames.push_back(kernel);
  auto first = uint32_t(sites.size() + 1);
  for (uint32_t line : lines) {
    sites.push_back({uint32_t(kernelNames.size() - 1), line});
  }
  return first;
}

std::string DeviceMemory::describeSite(uint32_t site, Actor actor) const {
  if (site == 0 || site > sites.size()) {
    return "host command " + actors.launchName(actors.rangeOf(actor).launch);
  }
  return shortName(kernelNames[sites[site - 1].kernel]) + " line " + std::to_string(sites[site - 1].line);
}

namespace {
/// Judges the accesses of a host command.
class CommandJudge : public Judge {
public:
  CommandJudge(DeviceMemory &memory, const Command &command, const Allocation &allocation, FindingSink &sink)
      : memory(memory), command(command), allocation(allocation), sink(sink) {}

  bool ordered(const Access &earlier, bool, const Access &) override {
    return earlier.actor == command.actor ||
           command.before.knows(memory.actors, earlier.actor, earlier.lane(), earlier.time);
  }
  bool stronglyRelated(const Access &, const Access &) override { return false; }
  bool sameBlock(const Access &, const Access &) override { return false; }
  void conflict(const Access &earlier, bool earlierWrites, const Access &, bool nowWrites, uint64_t offset) override {
    Finding finding;
    finding.kind = FindingKind::Race;
    finding.kernel = command.name;
    finding.partner = earlier.site();
    finding.what = std::string(nowWrites ? "writes" : "reads") + " byte " + std::to_string(offset) + " of " +
                   allocation.describe() + ", which " + memory.describeSite(earlier.site(), earlier.actor) +
                   (earlierWrites ? " writes" : " reads") + " and nothing orders the two";
    sink.report(std::move(finding));
  }

private:
  DeviceMemory &memory;
  const Command &command;
  const Allocation &allocation;
  FindingSink &sink;
};
} // namespace

Command DeviceMemory::begin(const Clock &before, std::string name) {
  Command command;
  command.launch = actors.addLaunch(name);
  command.actor = actors.addRange(command.launch, 1, 0, 1, 0);
  command.before = before;
  command.name = std::move(name);
  return command;
}

static void commandAccess(DeviceMemory &memory, Command &command, uint64_t address, uint64_t size, bool write,
                          FindingSink &sink) {
  Allocation *found = memory.find(address);
  if (!found || !DeviceMemory::contains(*found, address, size) || !found->shadow || size == 0) {
    return;
  }
  CommandJudge judge(memory, command, *found, sink);
  Access now;
  now.time = memory.actors.now();
  now.actor = command.actor;
  now.tag = Access::makeTag(0, Weak, ScopeSys, 0);
  Reach reach;
  reach.floor = command.before.floor();
  found->shadow->access(address - found->base, size, write, now, reach, judge);
  if (write) {
    found->shadow->setDefined(address - found->base, size, true);
  }
}

void DeviceMemory::read(Command &command, uint64_t address, uint64_t size, FindingSink &sink) {
  commandAccess(*this, command, address, size, false, sink);
}

void DeviceMemory::write(Command &command, uint64_t address, uint64_t size, FindingSink &sink) {
  commandAccess(*this, command, address, size, true, sink);
}

Clock DeviceMemory::end(Command &command) {
  Clock after = command.before;
  after.learn(Clock::launchKey(command.launch), actors.tick());
  return after;
}

void DeviceMemory::copyDefined(uint64_t destination, uint64_t source, uint64_t size) {
  Allocation *to = find(destination);
  if (!to || !to->shadow || !contains(*to, destination, size)) {
    return;
  }
  Allocation *from = find(source);
  to->shadow->setDefined(destination - to->base, size, true);
  if (!from || !from->shadow || !contains(*from, source, size) || from->shadow->allDefined(source - from->base, size)) {
    return;
  }
  for (uint64_t i = 0; i < size; ++i) {
    if (!from->shadow->definedBits(source - from->base + i, 1)) {
      to->shadow->setDefined(destination - to->base + i, 1, false);
    }
  }
}

void DeviceMemory::setDefined(uint64_t address, uint64_t size, bool defined) {
  Allocation *found = find(address);
  if (found && found->shadow && contains(*found, address, size)) {
    found->shadow->setDefined(address - found->base, size, defined);
  }
}

uint64_t DeviceMemory::firstUndefined(uint64_t address, uint64_t size) const {
  Allocation *found = find(address);
  if (!found || !found->shadow || !contains(*found, address, size)) {
    return size;
  }
  return found->shadow->firstUndefined(address - found->base, size);
}

} // namespace moert::emulator
