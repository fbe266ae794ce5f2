//===- Operation.cpp - Copies, fills and values -----------------*- C++ -*-===//
//
// Checks at the time of the call, and carries out when the engine says so. The
// two differ on purpose: memory that was freed in between is found when the
// operation runs, as a card would find it (or not).
//
//===----------------------------------------------------------------------===//
#include "runtime/emulator/driver/Operation.h"
#include "runtime/emulator/driver/Modules.h"

#include <cstring>

namespace moert::emulator {

/// One side of a copy, with its memory type resolved.
struct Side {
  uint64_t address = 0; ///< of the first byte
  size_t pitch = 0, height = 0;
  bool known = false; ///< the emulator knows the memory: device, pinned, managed
};

static Side sourceOf(const CUDA_MEMCPY3D_PEER &copy) {
  Side side;
  const uint64_t base =
      copy.srcMemoryType == CU_MEMORYTYPE_HOST ? reinterpret_cast<uint64_t>(copy.srcHost) : copy.srcDevice;
  side.pitch = copy.srcPitch ? copy.srcPitch : copy.WidthInBytes + copy.srcXInBytes;
  side.height = copy.srcHeight ? copy.srcHeight : copy.Height + copy.srcY;
  side.address = base + (copy.srcZ * side.height + copy.srcY) * side.pitch + copy.srcXInBytes;
  side.known = driver()->memory->find(side.address) != nullptr || driver()->memory->isDeviceAddress(side.address);
  return side;
}

static Side destinationOf(const CUDA_MEMCPY3D_PEER &copy) {
  Side side;
  const uint64_t base =
      copy.dstMemoryType == CU_MEMORYTYPE_HOST ? reinterpret_cast<uint64_t>(copy.dstHost) : copy.dstDevice;
  side.pitch = copy.dstPitch ? copy.dstPitch : copy.WidthInBytes + copy.dstXInBytes;
  side.height = copy.dstHeight ? copy.dstHeight : copy.Height + copy.dstY;
  side.address = base + (copy.dstZ * side.height + copy.dstY) * side.pitch + copy.dstXInBytes;
  side.known = driver()->memory->find(side.address) != nullptr || driver()->memory->isDeviceAddress(side.address);
  return side;
}

bool sourceIsPageable(const CUDA_MEMCPY3D_PEER &copy) { return !sourceOf(copy).known; }
bool destinationIsPageable(const CUDA_MEMCPY3D_PEER &copy) { return !destinationOf(copy).known; }

/// Calls `row(offset within side a, offset within side b)` for each row; false stops.
template <typename Row>
static bool forRows(const CUDA_MEMCPY3D_PEER &copy, const Side &from, const Side &to, const Row &row) {
  for (size_t z = 0; z < copy.Depth; ++z) {
    for (size_t y = 0; y < copy.Height; ++y) {
      if (!row(from.address + (z * from.height + y) * from.pitch, to.address + (z * to.height + y) * to.pitch)) {
        return false;
      }
    }
  }
  return true;
}

/// A side that must be memory of the emulator: every byte inside one live allocation.
static CUresult checkSide(const char *name, const Side &side, CUmemorytype type, const CUDA_MEMCPY3D_PEER &copy) {
  DeviceMemory &memory = *driver()->memory;
  if (type < CU_MEMORYTYPE_HOST || type > CU_MEMORYTYPE_UNIFIED || type == CU_MEMORYTYPE_ARRAY) {
    return refuse(type == CU_MEMORYTYPE_ARRAY ? CUDA_ERROR_NOT_SUPPORTED : CUDA_ERROR_INVALID_VALUE, name,
                  " memory type ", type, " must be 1 (host), 2 (device) or 4 (unified)");
  }
  if (side.pitch < copy.WidthInBytes) {
    return refuse(CUDA_ERROR_INVALID_VALUE, name, " pitch (", side.pitch, ") must be at least the width (",
                  copy.WidthInBytes, " bytes)");
  }
  if (type == CU_MEMORYTYPE_HOST && memory.isDeviceAddress(side.address)) {
    return refuse(CUDA_ERROR_INVALID_VALUE, name, " ", hex(side.address), " is a device address, not host memory");
  }
  if (type == CU_MEMORYTYPE_DEVICE && !side.known) {
    return refuse(CUDA_ERROR_INVALID_VALUE, name, " ", hex(side.address), " is no device address");
  }
  if (!side.known) {
    return side.address ? CUDA_SUCCESS : refuse(CUDA_ERROR_INVALID_VALUE, name, " is null");
  }
  const uint64_t bytes = ((copy.Depth - 1) * side.height + copy.Height - 1) * side.pitch + copy.WidthInBytes;
  if (!memory.bytes(side.address, bytes)) {
    return refuse(CUDA_ERROR_INVALID_VALUE, name, " of ", bytes, " bytes at ", hex(side.address), ": ",
                  memory.explain(side.address, bytes));
  }
  return CUDA_SUCCESS;
}

CUresult checkCopy(const Call &call, CopyOperation &operation) {
  const CUDA_MEMCPY3D_PEER &copy = operation.copy;
  if (!copy.WidthInBytes || !copy.Height || !copy.Depth) {
    return CUDA_SUCCESS;
  }
  if (copy.srcLOD || copy.dstLOD) {
    return refuse(CUDA_ERROR_INVALID_VALUE, "a level of detail must be 0");
  }
  MOE_CHECK(checkSide("source", sourceOf(copy), copy.srcMemoryType, copy));
  return checkSide("destination", destinationOf(copy), copy.dstMemoryType, copy);
}

void takeSnapshot(CopyOperation &operation) {
  const CUDA_MEMCPY3D_PEER &copy = operation.copy;
  const Side from = sourceOf(copy);
  forRows(copy, from, from, [&](uint64_t source, uint64_t) {
    const uint8_t *bytes = reinterpret_cast<const uint8_t *>(source);
    operation.snapshot.insert(operation.snapshot.end(), bytes, bytes + copy.WidthInBytes);
    return true;
  });
  operation.packed = true;
}

CopyOperation linearCopy(CUdeviceptr destination, CUdeviceptr source, size_t bytes) {
  CopyOperation operation;
  operation.copy.srcMemoryType = operation.copy.dstMemoryType = CU_MEMORYTYPE_UNIFIED;
  operation.copy.srcDevice = source;
  operation.copy.dstDevice = destination;
  operation.copy.WidthInBytes = bytes;
  operation.copy.Height = operation.copy.Depth = 1;
  return operation;
}

CUDA_MEMCPY3D_PEER as3D(const CUDA_MEMCPY2D &copy) {
  CUDA_MEMCPY3D_PEER result{};
  result.srcXInBytes = copy.srcXInBytes;
  result.srcY = copy.srcY;
  result.srcMemoryType = copy.srcMemoryType;
  result.srcHost = copy.srcHost;
  result.srcDevice = copy.srcDevice;
  result.srcArray = copy.srcArray;
  result.srcPitch = copy.srcPitch;
  result.dstXInBytes = copy.dstXInBytes;
  result.dstY = copy.dstY;
  result.dstMemoryType = copy.dstMemoryType;
  result.dstHost = copy.dstHost;
  result.dstDevice = copy.dstDevice;
  result.dstArray = copy.dstArray;
  result.dstPitch = copy.dstPitch;
  result.WidthInBytes = copy.WidthInBytes;
  result.Height = copy.Height;
  result.Depth = 1;
  return result;
}

/// Reports an access of a host command to memory that is not there.
static CUresult fault(const Command &command, uint64_t address, uint64_t bytes) {
  Finding finding;
  finding.kind = FindingKind::OutOfBounds;
  finding.kernel = command.name;
  finding.what = driver()->memory->explain(address, bytes);
  driver()->sink.report(std::move(finding));
  return CUDA_ERROR_ILLEGAL_ADDRESS;
}

/// A copy to the host is where undefined bytes leave the emulator's sight.
static void checkDefined(const Command &command, uint64_t source, size_t bytes) {
  Driver &all = *driver();
  const uint64_t first = all.memory->firstUndefined(source, bytes);
  if (first == bytes || all.settings.undefinedCopies == UndefinedCopies::Off) {
    return;
  }
  const Allocation *allocation = all.memory->find(source);
  Finding finding;
  finding.kind = FindingKind::Undefined;
  finding.note = all.settings.undefinedCopies == UndefinedCopies::Note;
  finding.kernel = command.name;
  finding.what = concat("copies to the host what nothing has written: byte ", source + first - allocation->base, " of ",
                        allocation->describe());
  all.sink.report(std::move(finding));
}

static CUresult executeCopy(const CopyOperation &operation, Command &command) {
  const CUDA_MEMCPY3D_PEER &copy = operation.copy;
  DeviceMemory &memory = *driver()->memory;
  const Side from = sourceOf(copy), to = destinationOf(copy);
  const bool toHost = !memory.isDeviceAddress(to.address) && memory.options().checks;
  const uint8_t *packed = operation.snapshot.data();
  const size_t width = copy.WidthInBytes;
  CUresult result = CUDA_SUCCESS;
  forRows(copy, from, to, [&](uint64_t source, uint64_t destination) {
    uint8_t *write = to.known ? memory.bytes(destination, width) : reinterpret_cast<uint8_t *>(destination);
    const uint8_t *read = operation.packed ? packed
                          : from.known     ? memory.bytes(source, width)
                                           : reinterpret_cast<const uint8_t *>(source);
    if (!write || !read) {
      result = write ? fault(command, source, width) : fault(command, destination, width);
      return false;
    }
    packed += operation.packed ? width : 0;
    if (from.known && !operation.packed) {
      memory.read(command, source, width, driver()->sink);
      if (toHost) {
        checkDefined(command, source, width);
      }
    }
    if (to.known) {
      memory.write(command, destination, width, driver()->sink);
    }
    std::memmove(write, read, width);
    if (to.known && from.known && !operation.packed) {
      memory.copyDefined(destination, source, width);
    }
    return true;
  });
  return result;
}

CUresult checkFill(const FillOperation &operation) {
  if (!operation.width || !operation.height) {
    return CUDA_SUCCESS;
  }
  const size_t row = operation.width * operation.elementSize;
  if (operation.address % operation.elementSize || operation.pitch % operation.elementSize) {
    return refuse(CUDA_ERROR_INVALID_VALUE, "address ", hex(operation.address), " and pitch ", operation.pitch,
                  " must be multiples of the element size (", operation.elementSize, ")");
  }
  if (operation.height > 1 && operation.pitch < row) {
    return refuse(CUDA_ERROR_INVALID_VALUE, "pitch (", operation.pitch, ") must be at least the width (", row,
                  " bytes)");
  }
  const uint64_t bytes = (operation.height - 1) * operation.pitch + row;
  if (!driver()->memory->bytes(operation.address, bytes)) {
    return refuse(CUDA_ERROR_INVALID_VALUE, bytes, " bytes at ", hex(operation.address), ": ",
                  driver()->memory->explain(operation.address, bytes));
  }
  return CUDA_SUCCESS;
}

static CUresult executeFill(const FillOperation &operation, Command &command) {
  DeviceMemory &memory = *driver()->memory;
  const size_t row = operation.width * operation.elementSize;
  for (size_t y = 0; y < operation.height && row; ++y) {
    const uint64_t address = operation.address + y * operation.pitch;
    uint8_t *bytes = memory.bytes(address, row);
    if (!bytes) {
      return fault(command, address, row);
    }
    memory.write(command, address, row, driver()->sink);
    for (size_t i = 0; i < row; i += operation.elementSize) {
      std::memcpy(bytes + i, &operation.value, operation.elementSize); // little endian: the low bytes
    }
  }
  return CUDA_SUCCESS;
}

bool valueHolds(const ValueOperation &operation) {
  if (operation.write) {
    return true;
  }
  const uint8_t *bytes = driver()->memory->bytes(operation.address, operation.bytes);
  if (!bytes) {
    return true; // execute reports it
  }
  uint64_t value = 0;
  std::memcpy(&value, bytes, operation.bytes);
  const uint64_t mask = operation.bytes == 4 ? UINT32_MAX : UINT64_MAX;
  switch (operation.flags & 3) {
  case CU_STREAM_WAIT_VALUE_GEQ:
    // Cyclic, as the API has it: the difference is not negative.
    return operation.bytes == 4 ? int32_t(uint32_t(value - operation.value)) >= 0
                                : int64_t(value - operation.value) >= 0;
  case CU_STREAM_WAIT_VALUE_EQ:
    return value == (operation.value & mask);
  case CU_STREAM_WAIT_VALUE_AND:
    return (value & operation.value) != 0;
  default:
    return (~(value | operation.value) & mask) != 0;
  }
}

static CUresult executeValue(const ValueOperation &operation, Command &command) {
  uint8_t *bytes = driver()->memory->bytes(operation.address, operation.bytes);
  if (!bytes) {
    return fault(command, operation.address, operation.bytes);
  }
  if (operation.write) {
    std::memcpy(bytes, &operation.value, operation.bytes);
    driver()->memory->setDefined(operation.address, operation.bytes);
  }
  return CUDA_SUCCESS;
}

static CUresult executeAllocation(const AllocationOperation &operation, Command &command) {
  DeviceMemory &memory = *driver()->memory;
  Allocation *allocation = memory.find(operation.address);
  if (!allocation || allocation->freed) {
    return fault(command, operation.address, 1);
  }
  // An access that is not ordered after the allocation, or before the release, races with this write.
  memory.write(command, allocation->base, allocation->size, driver()->sink);
  memory.setDefined(allocation->base, allocation->size, false);
  if (operation.free) {
    memory.free(allocation->base);
  }
  return CUDA_SUCCESS;
}

CUresult execute(const Operation &operation, Command &command) {
  if (const auto *copy = std::get_if<CopyOperation>(&operation)) {
    return executeCopy(*copy, command);
  }
  if (const auto *fill = std::get_if<FillOperation>(&operation)) {
    return executeFill(*fill, command);
  }
  if (const auto *value = std::get_if<ValueOperation>(&operation)) {
    return executeValue(*value, command);
  }
  if (const auto *allocation = std::get_if<AllocationOperation>(&operation)) {
    return executeAllocation(*allocation, command);
  }
  return CUDA_SUCCESS;
}

std::string describe(const Operation &operation) {
  if (const auto *copy = std::get_if<CopyOperation>(&operation)) {
    return concat("memcpy of ", copy->copy.WidthInBytes * copy->copy.Height * copy->copy.Depth, " bytes");
  }
  if (const auto *fill = std::get_if<FillOperation>(&operation)) {
    return concat("memset of ", fill->width * fill->height * fill->elementSize, " bytes");
  }
  if (const auto *kernel = std::get_if<KernelOperation>(&operation)) {
    return concat("kernel ", kernel->function->name);
  }
  if (std::get_if<HostOperation>(&operation)) {
    return "host function";
  }
  if (const auto *allocation = std::get_if<AllocationOperation>(&operation)) {
    return allocation->free ? "cuMemFreeAsync" : "cuMemAllocAsync";
  }
  if (const auto *value = std::get_if<ValueOperation>(&operation)) {
    return value->write ? "write of a value" : "wait for a value";
  }
  return "event";
}

} // namespace moert::emulator
