//===- Devices.cpp - cuInit, cuDevice*, errors ------------------*- C++ -*-===//
//
// What a program asks before it has a context. Peer access works between all
// devices. Texture limits, LUIDs and MPS facts are not modelled: they are
// refused, not invented.
//
//===----------------------------------------------------------------------===//
#include "runtime/emulator/driver/Driver.h"

#include <algorithm>
#include <cstdio>
#include <cstring>

namespace moert::emulator {

struct ErrorText {
  CUresult code;
  const char *name;
  const char *text;
};

static const ErrorText errorTexts[] = {
#define ERROR(name, text) {CUDA_##name, "CUDA_" #name, text}
    ERROR(SUCCESS, "no error"),
    ERROR(ERROR_INVALID_VALUE, "invalid argument"),
    ERROR(ERROR_OUT_OF_MEMORY, "out of memory"),
    ERROR(ERROR_NOT_INITIALIZED, "initialization error"),
    ERROR(ERROR_DEINITIALIZED, "driver shutting down"),
    ERROR(ERROR_NO_DEVICE, "no CUDA-capable device is detected"),
    ERROR(ERROR_INVALID_DEVICE, "invalid device ordinal"),
    ERROR(ERROR_INVALID_IMAGE, "device kernel image is invalid"),
    ERROR(ERROR_INVALID_CONTEXT, "invalid device context"),
    ERROR(ERROR_NO_BINARY_FOR_GPU, "no kernel image is available for execution on the device"),
    ERROR(ERROR_UNSUPPORTED_LIMIT, "limit is not supported on this architecture"),
    ERROR(ERROR_PEER_ACCESS_UNSUPPORTED, "peer access is not supported between these two devices"),
    ERROR(ERROR_INVALID_PTX, "a PTX compilation failed"),
    ERROR(ERROR_UNSUPPORTED_PTX_VERSION, "the provided PTX was compiled with an unsupported toolchain."),
    ERROR(ERROR_FILE_NOT_FOUND, "file not found"),
    ERROR(ERROR_INVALID_HANDLE, "invalid resource handle"),
    ERROR(ERROR_ILLEGAL_STATE, "the operation cannot be performed in the present state"),
    ERROR(ERROR_NOT_FOUND, "named symbol not found"),
    ERROR(ERROR_NOT_READY, "device not ready"),
    ERROR(ERROR_ILLEGAL_ADDRESS, "an illegal memory access was encountered"),
    ERROR(ERROR_LAUNCH_OUT_OF_RESOURCES, "too many resources requested for launch"),
    ERROR(ERROR_LAUNCH_TIMEOUT, "the launch timed out and was terminated"),
    ERROR(ERROR_PEER_ACCESS_ALREADY_ENABLED, "peer access is already enabled"),
    ERROR(ERROR_PEER_ACCESS_NOT_ENABLED, "peer access has not been enabled"),
    ERROR(ERROR_PRIMARY_CONTEXT_ACTIVE, "cannot set while device is active in this process"),
    ERROR(ERROR_CONTEXT_IS_DESTROYED, "context is destroyed"),
    ERROR(ERROR_ASSERT, "device-side assert triggered"),
    ERROR(ERROR_HOST_MEMORY_ALREADY_REGISTERED, "part or all of the requested memory range is already mapped"),
    ERROR(ERROR_HOST_MEMORY_NOT_REGISTERED, "pointer does not correspond to a registered memory region"),
    ERROR(ERROR_ILLEGAL_INSTRUCTION, "an illegal instruction was encountered"),
    ERROR(ERROR_MISALIGNED_ADDRESS, "misaligned address"),
    ERROR(ERROR_INVALID_ADDRESS_SPACE, "operation not supported on global/shared address space"),
    ERROR(ERROR_LAUNCH_FAILED, "unspecified launch failure"),
    ERROR(ERROR_COOPERATIVE_LAUNCH_TOO_LARGE, "too many blocks in cooperative launch"),
    ERROR(ERROR_NOT_PERMITTED, "operation not permitted"),
    ERROR(ERROR_NOT_SUPPORTED, "operation not supported"),
    ERROR(ERROR_STREAM_CAPTURE_UNSUPPORTED, "operation not permitted when stream is capturing"),
    ERROR(ERROR_STREAM_CAPTURE_INVALIDATED, "operation failed due to a previous error during capture"),
    ERROR(ERROR_STREAM_CAPTURE_MERGE, "operation would result in a merge of separate capture sequences"),
    ERROR(ERROR_STREAM_CAPTURE_UNMATCHED, "capture was not ended in the same stream as it began"),
    ERROR(ERROR_STREAM_CAPTURE_UNJOINED, "capturing stream has unjoined work"),
    ERROR(ERROR_STREAM_CAPTURE_ISOLATION, "dependency created on uncaptured work in another stream"),
    ERROR(ERROR_STREAM_CAPTURE_IMPLICIT,
          "operation would make the legacy stream depend on a capturing blocking stream"),
    ERROR(ERROR_CAPTURED_EVENT, "operation not permitted on an event last recorded in a capturing stream"),
    ERROR(ERROR_STREAM_CAPTURE_WRONG_THREAD,
          "attempt to terminate a thread-local capture sequence from another thread"),
    ERROR(ERROR_GRAPH_EXEC_UPDATE_FAILURE,
          "the graph update was not performed because it included changes which violated constraints"),
    ERROR(ERROR_INVALID_CLUSTER_SIZE, "invalid cluster size"),
    ERROR(ERROR_UNKNOWN, "unknown error"),
#undef ERROR
};

static const ErrorText *errorText(CUresult code) {
  for (const ErrorText &entry : errorTexts) {
    if (entry.code == code) {
      return &entry;
    }
  }
  return nullptr;
}

const char *errorName(CUresult code) {
  const ErrorText *entry = errorText(code);
  return entry ? entry->name : nullptr;
}

CU_API cuGetErrorName(CUresult error, const char **name) {
  const ErrorText *entry = errorText(error);
  if (!name || !entry) {
    return CUDA_ERROR_INVALID_VALUE;
  }
  *name = entry->name;
  return CUDA_SUCCESS;
}

CU_API cuGetErrorString(CUresult error, const char **text) {
  const ErrorText *entry = errorText(error);
  if (!text || !entry) {
    return CUDA_ERROR_INVALID_VALUE;
  }
  *text = entry->text;
  return CUDA_SUCCESS;
}

CU_API cuInit(unsigned flags) {
  MOE_CALL(Need::Nothing);
  if (flags) {
    return refuse(CUDA_ERROR_INVALID_VALUE, "flags (", flags, ") must be 0");
  }
  return initializeDriver();
}

CU_API cuDriverGetVersion(int *version) {
  MOE_CALL(Need::Nothing);
  MOE_OUT(version);
  const int set = driver() ? driver()->settings.version : 0;
  *version = set ? set : CUDA_VERSION;
  return CUDA_SUCCESS;
}

CU_API cuDeviceGetCount(int *count) {
  MOE_CALL(Need::Init);
  MOE_OUT(count);
  *count = int(driver()->devices.size());
  return CUDA_SUCCESS;
}

CU_API cuDeviceGet(CUdevice *device, int ordinal) {
  MOE_CALL(Need::Init);
  MOE_OUT(device);
  if (!deviceOf(ordinal)) {
    return CUDA_ERROR_INVALID_DEVICE;
  }
  *device = ordinal;
  return CUDA_SUCCESS;
}

CU_API cuDeviceGetName(char *name, int length, CUdevice ordinal) {
  MOE_CALL(Need::Init);
  MOE_OUT(name);
  const Device *device = deviceOf(ordinal);
  if (!device) {
    return CUDA_ERROR_INVALID_DEVICE;
  }
  if (length <= 0) {
    return refuse(CUDA_ERROR_INVALID_VALUE, "length (", length, ") must be positive");
  }
  std::snprintf(name, size_t(length), "%s", device->model->name);
  return CUDA_SUCCESS;
}

static CUresult uuidOf(CUuuid *uuid, CUdevice ordinal) {
  MOE_OUT(uuid);
  if (!deviceOf(ordinal)) {
    return CUDA_ERROR_INVALID_DEVICE;
  }
  std::memcpy(uuid->bytes, "MOE-emulator-dev", 16);
  uuid->bytes[15] = char(ordinal);
  return CUDA_SUCCESS;
}

CU_API cuDeviceGetUuid(CUuuid *uuid, CUdevice ordinal) {
  MOE_CALL(Need::Init);
  return uuidOf(uuid, ordinal);
}

CU_API cuDeviceGetUuid_v2(CUuuid *uuid, CUdevice ordinal) {
  MOE_CALL(Need::Init);
  return uuidOf(uuid, ordinal);
}

CU_API cuDeviceTotalMem_v2(size_t *bytes, CUdevice ordinal) {
  MOE_CALL(Need::Init);
  MOE_OUT(bytes);
  const Device *device = deviceOf(ordinal);
  if (!device) {
    return CUDA_ERROR_INVALID_DEVICE;
  }
  *bytes = device->memoryBytes;
  return CUDA_SUCCESS;
}

CU_API cuDeviceGetAttribute(int *value, CUdevice_attribute attribute, CUdevice ordinal) {
  MOE_CALL(Need::Init);
  MOE_OUT(value);
  const Device *device = deviceOf(ordinal);
  if (!device) {
    return CUDA_ERROR_INVALID_DEVICE;
  }
  if (!device->model->attribute(attribute, ordinal, *value)) {
    return refuse(CUDA_ERROR_INVALID_VALUE, "attribute ", attribute, " is not modelled");
  }
  return CUDA_SUCCESS;
}

CU_API cuDeviceComputeCapability(int *major, int *minor, CUdevice ordinal) {
  MOE_CALL(Need::Init);
  MOE_OUT(major);
  MOE_OUT(minor);
  const Device *device = deviceOf(ordinal);
  if (!device) {
    return CUDA_ERROR_INVALID_DEVICE;
  }
  *major = device->model->major;
  *minor = device->model->minor;
  return CUDA_SUCCESS;
}

CU_API cuDeviceGetProperties(CUdevprop *properties, CUdevice ordinal) {
  MOE_CALL(Need::Init);
  MOE_OUT(properties);
  const Device *device = deviceOf(ordinal);
  if (!device) {
    return CUDA_ERROR_INVALID_DEVICE;
  }
  const CUdevice_attribute order[] = {CU_DEVICE_ATTRIBUTE_MAX_THREADS_PER_BLOCK,
                                      CU_DEVICE_ATTRIBUTE_MAX_BLOCK_DIM_X,
                                      CU_DEVICE_ATTRIBUTE_MAX_BLOCK_DIM_Y,
                                      CU_DEVICE_ATTRIBUTE_MAX_BLOCK_DIM_Z,
                                      CU_DEVICE_ATTRIBUTE_MAX_GRID_DIM_X,
                                      CU_DEVICE_ATTRIBUTE_MAX_GRID_DIM_Y,
                                      CU_DEVICE_ATTRIBUTE_MAX_GRID_DIM_Z,
                                      CU_DEVICE_ATTRIBUTE_MAX_SHARED_MEMORY_PER_BLOCK,
                                      CU_DEVICE_ATTRIBUTE_TOTAL_CONSTANT_MEMORY,
                                      CU_DEVICE_ATTRIBUTE_WARP_SIZE,
                                      CU_DEVICE_ATTRIBUTE_MAX_PITCH,
                                      CU_DEVICE_ATTRIBUTE_MAX_REGISTERS_PER_BLOCK,
                                      CU_DEVICE_ATTRIBUTE_CLOCK_RATE,
                                      CU_DEVICE_ATTRIBUTE_TEXTURE_ALIGNMENT};
  int values[sizeof(order) / sizeof(order[0])];
  static_assert(sizeof(values) == sizeof(CUdevprop), "one attribute per field");
  for (size_t i = 0; i < sizeof(order) / sizeof(order[0]); ++i) {
    device->model->attribute(order[i], ordinal, values[i]);
  }
  std::memcpy(properties, values, sizeof(values));
  return CUDA_SUCCESS;
}

CU_API cuDeviceGetPCIBusId(char *text, int length, CUdevice ordinal) {
  MOE_CALL(Need::Init);
  MOE_OUT(text);
  if (!deviceOf(ordinal)) {
    return CUDA_ERROR_INVALID_DEVICE;
  }
  if (length < 13) {
    return refuse(CUDA_ERROR_INVALID_VALUE, "length (", length, ") must be at least 13");
  }
  std::snprintf(text, size_t(length), "0000:%02x:00.0", unsigned(1 + ordinal));
  return CUDA_SUCCESS;
}

CU_API cuDeviceGetByPCIBusId(CUdevice *device, const char *text) {
  MOE_CALL(Need::Init);
  MOE_OUT(device);
  MOE_OUT(text);
  unsigned domain = 0, bus = 0, slot = 0;
  if (std::sscanf(text, "%x:%x:%x", &domain, &bus, &slot) != 3) {
    return refuse(CUDA_ERROR_INVALID_VALUE, "'", text, "' is no bus id like 0000:01:00.0");
  }
  if (domain || slot || bus < 1 || bus > driver()->devices.size()) {
    return refuse(CUDA_ERROR_INVALID_DEVICE, "no device at '", text, "'");
  }
  *device = int(bus) - 1;
  return CUDA_SUCCESS;
}

CU_API cuDeviceCanAccessPeer(int *can, CUdevice ordinal, CUdevice peer) {
  MOE_CALL(Need::Init);
  MOE_OUT(can);
  if (!deviceOf(ordinal) || !deviceOf(peer)) {
    return CUDA_ERROR_INVALID_DEVICE;
  }
  *can = ordinal != peer;
  return CUDA_SUCCESS;
}

CU_API cuDeviceGetP2PAttribute(int *value, int attribute, CUdevice source, CUdevice destination) {
  MOE_CALL(Need::Init);
  MOE_OUT(value);
  if (!deviceOf(source) || !deviceOf(destination)) {
    return CUDA_ERROR_INVALID_DEVICE;
  }
  if (attribute < 1 || attribute > 4 || source == destination) {
    return refuse(CUDA_ERROR_INVALID_VALUE, "attribute ", attribute, " of devices ", source, " and ", destination);
  }
  // 1 performance rank, 2 access, 3 native atomics, 4 arrays.
  *value = attribute == 2 || attribute == 3;
  return CUDA_SUCCESS;
}

} // namespace moert::emulator
