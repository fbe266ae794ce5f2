//===- LaunchApi.cpp - cuLaunchKernel and its relatives ---------*- C++ -*-===//
//
// Limits are checked when the call is made, each with both values: block and
// grid sizes, what the kernel declares (.maxntid, .reqntid, clusters), shared
// memory above 48 KiB without opt-in, cluster sizes, cooperative launches that
// do not fit. Parameters are copied before the call returns.
//
//===----------------------------------------------------------------------===//
#include "runtime/emulator/driver/Engine.h"
#include "runtime/emulator/driver/Launch.h"
#include "runtime/emulator/driver/Modules.h"

#include <cstring>

namespace moert::emulator {

static std::string text(const Dim3 &dim) { return concat("(", dim.x, ",", dim.y, ",", dim.z, ")"); }

/// The kernel's parameter block from kernelParams or extra.
static CUresult copyParameters(const LaunchRequest &request, std::vector<uint8_t> &block) {
  const Kernel &kernel = *request.function->kernel;
  block.assign(kernel.parameterBytes, 0);
  if (request.parameters && request.extra) {
    return refuse(CUDA_ERROR_INVALID_VALUE, "both kernelParams and extra are given");
  }
  if (request.extra) {
    const void *buffer = nullptr;
    size_t size = 0;
    bool sized = false;
    for (void **entry = request.extra; *entry != CU_LAUNCH_PARAM_END; entry += 2) {
      if (*entry == CU_LAUNCH_PARAM_BUFFER_POINTER) {
        buffer = entry[1];
      } else if (*entry == CU_LAUNCH_PARAM_BUFFER_SIZE) {
        std::memcpy(&size, entry[1], sizeof(size));
        sized = true;
      } else {
        return refuse(CUDA_ERROR_INVALID_VALUE, "extra holds neither a buffer, nor a size, nor the end");
      }
    }
    if (!buffer || !sized || size < kernel.parameterBytes) {
      return refuse(CUDA_ERROR_INVALID_VALUE, "extra gives ", buffer ? size : 0, " bytes, kernel ",
                    request.function->name, " has ", kernel.parameterBytes, " bytes of parameters");
    }
    std::memcpy(block.data(), buffer, kernel.parameterBytes);
    return CUDA_SUCCESS;
  }
  const std::vector<ptx::Variable> &parameters = kernel.function->parameters;
  if (!parameters.empty() && !request.parameters) {
    return refuse(CUDA_ERROR_INVALID_VALUE, "kernel ", request.function->name, " has ", parameters.size(),
                  " parameters, kernelParams is null");
  }
  for (size_t i = 0; i < parameters.size(); ++i) {
    if (!request.parameters[i]) {
      return refuse(CUDA_ERROR_INVALID_VALUE, "kernelParams[", i, "] is null");
    }
    std::memcpy(block.data() + parameters[i].offset, request.parameters[i], parameters[i].size);
  }
  return CUDA_SUCCESS;
}

CUresult applyAttribute(KernelOperation &operation, CUlaunchAttributeID attribute,
                        const CUlaunchAttributeValue &value) {
  switch (attribute) {
  case CU_LAUNCH_ATTRIBUTE_IGNORE:
  case CU_LAUNCH_ATTRIBUTE_ACCESS_POLICY_WINDOW:
  case CU_LAUNCH_ATTRIBUTE_SYNCHRONIZATION_POLICY:
  case CU_LAUNCH_ATTRIBUTE_CLUSTER_SCHEDULING_POLICY_PREFERENCE:
  case CU_LAUNCH_ATTRIBUTE_MEM_SYNC_DOMAIN_MAP:
  case CU_LAUNCH_ATTRIBUTE_MEM_SYNC_DOMAIN:
  case CU_LAUNCH_ATTRIBUTE_PREFERRED_CLUSTER_DIMENSION:
  case CU_LAUNCH_ATTRIBUTE_PREFERRED_SHARED_MEMORY_CARVEOUT:
    return CUDA_SUCCESS; // about speed only
  case CU_LAUNCH_ATTRIBUTE_COOPERATIVE:
    operation.config.cooperative = value.cooperative != 0;
    return CUDA_SUCCESS;
  case CU_LAUNCH_ATTRIBUTE_CLUSTER_DIMENSION:
    operation.config.cluster = {value.clusterDim.x, value.clusterDim.y, value.clusterDim.z};
    operation.clusterGiven = 1;
    return CUDA_SUCCESS;
  case CU_LAUNCH_ATTRIBUTE_PROGRAMMATIC_STREAM_SERIALIZATION:
    // Programs ask for it on every card; one before 9.0 launches in the order of the stream.
    operation.programmatic = value.programmaticStreamSerializationAllowed != 0 &&
                             operation.function->module->context->device->model->clusters;
    return CUDA_SUCCESS;
  case CU_LAUNCH_ATTRIBUTE_PRIORITY:
    operation.priority = value.priority;
    return CUDA_SUCCESS;
  default:
    return refuse(CUDA_ERROR_NOT_SUPPORTED, "launch attribute ", attribute);
  }
}

/// What the kernel itself declares.
static CUresult checkBounds(const KernelOperation &operation) {
  const ptx::LaunchBounds &bounds = operation.function->kernel->function->bounds;
  const Dim3 &block = operation.config.block;
  const std::string &name = operation.function->name;
  if (bounds.reqntid[0]) {
    const Dim3 required{bounds.reqntid[0], bounds.reqntid[1], bounds.reqntid[2]};
    if (block.x != required.x || block.y != required.y || block.z != required.z) {
      return refuse(CUDA_ERROR_INVALID_VALUE, "block ", text(block), " must be ", text(required), ", as .reqntid of ",
                    name, " says");
    }
  }
  const uint64_t most = uint64_t(bounds.maxntid[0]) * bounds.maxntid[1] * bounds.maxntid[2];
  if (bounds.maxntid[0] && block.count() > most) {
    return refuse(CUDA_ERROR_INVALID_VALUE, "block ", text(block), " has ", block.count(), " threads, .maxntid of ",
                  name, " allows ", most);
  }
  return CUDA_SUCCESS;
}

static CUresult checkCluster(const KernelOperation &operation) {
  const CUfunc_st &function = *operation.function;
  const ptx::LaunchBounds &bounds = function.kernel->function->bounds;
  const Dim3 &cluster = operation.config.cluster, &grid = operation.config.grid;
  const bool required = bounds.reqnctapercluster[0] != 0;
  if (bounds.explicitcluster && !operation.clusterGiven && !required) {
    return refuse(CUDA_ERROR_INVALID_CLUSTER_SIZE, "kernel ", function.name,
                  " has .explicitcluster: the launch must say how large a cluster is");
  }
  const uint64_t size = cluster.count();
  if (size == 1) {
    return CUDA_SUCCESS;
  }
  const Device &device = *function.module->context->device;
  if (!device.model->clusters) {
    return refuse(CUDA_ERROR_NOT_SUPPORTED, "clusters need compute capability 9.0, this is ", device.model->name);
  }
  if (!size || grid.x % cluster.x || grid.y % cluster.y || grid.z % cluster.z) {
    return refuse(CUDA_ERROR_INVALID_CLUSTER_SIZE, "grid ", text(grid), " must be a multiple of the cluster ",
                  text(cluster));
  }
  const uint64_t most = function.nonPortableCluster ? largestClusterSize : portableClusterSize;
  if (size > most || (bounds.maxclusterrank && size > bounds.maxclusterrank)) {
    return refuse(CUDA_ERROR_INVALID_CLUSTER_SIZE, "cluster ", text(cluster), " has ", size, " blocks, ", function.name,
                  " may have ", bounds.maxclusterrank ? std::min<uint64_t>(most, bounds.maxclusterrank) : most,
                  function.nonPortableCluster ? "" : " (up to 16 with the non-portable attribute)");
  }
  return CUDA_SUCCESS;
}

CUresult checkLaunch(const KernelOperation &operation) {
  const CUfunc_st &function = *operation.function;
  const Dim3 &grid = operation.config.grid, &block = operation.config.block;
  if (!grid.count() || grid.x > 0x7FFFFFFF || grid.y > 65535 || grid.z > 65535) {
    return refuse(CUDA_ERROR_INVALID_VALUE, "grid ", text(grid), " must be in (1,1,1) to (2147483647,65535,65535)");
  }
  if (!block.count() || block.x > 1024 || block.y > 1024 || block.z > 64 || block.count() > maxThreadsPerBlock) {
    return refuse(CUDA_ERROR_INVALID_VALUE, "block ", text(block),
                  " must be in (1,1,1) to (1024,1024,64) with at most 1024 threads");
  }
  MOE_CHECK(checkBounds(operation));
  MOE_CHECK(checkCluster(operation));
  const uint64_t shared = uint64_t(function.kernel->staticShared) + operation.config.dynamicShared;
  if (shared > sharedLimit(function)) {
    return refuse(CUDA_ERROR_INVALID_VALUE, "kernel ", function.name, " asks for ", shared,
                  " bytes of shared memory per block (", function.kernel->staticShared, " static, ",
                  operation.config.dynamicShared, " dynamic), it may have ", sharedLimit(function),
                  "; raise CU_FUNC_ATTRIBUTE_MAX_DYNAMIC_SHARED_SIZE_BYTES with cuFuncSetAttribute");
  }
  const int resident = residentBlocks(function, block.count(), operation.config.dynamicShared);
  if (!resident) {
    return refuse(CUDA_ERROR_LAUNCH_OUT_OF_RESOURCES, "a block of kernel ", function.name, " (", block.count(),
                  " threads of ", function.kernel->registers, " registers) does not fit a multiprocessor");
  }
  const uint64_t capacity = uint64_t(resident) * uint64_t(function.module->context->device->model->multiprocessors);
  if (operation.config.cooperative && grid.count() > capacity) {
    return refuse(CUDA_ERROR_COOPERATIVE_LAUNCH_TOO_LARGE, "cooperative grid ", text(grid), " has ", grid.count(),
                  " blocks, ", capacity, " fit at a time");
  }
  return CUDA_SUCCESS;
}

CUresult makeLaunch(const LaunchRequest &request, KernelOperation &operation) {
  operation.function = request.function;
  operation.config.grid = request.grid;
  operation.config.block = request.block;
  operation.config.dynamicShared = request.dynamicShared;
  operation.config.cooperative = request.cooperative;
  const ptx::LaunchBounds &bounds = request.function->kernel->function->bounds;
  if (bounds.reqnctapercluster[0]) {
    operation.config.cluster = {bounds.reqnctapercluster[0], bounds.reqnctapercluster[1], bounds.reqnctapercluster[2]};
  }
  for (unsigned i = 0; i < request.attributeCount; ++i) {
    const CUlaunchAttribute &attribute = request.attributes[i];
    const Dim3 declared = operation.config.cluster;
    MOE_CHECK(applyAttribute(operation, attribute.id, attribute.value));
    const Dim3 &given = operation.config.cluster;
    if (attribute.id == CU_LAUNCH_ATTRIBUTE_CLUSTER_DIMENSION && bounds.reqnctapercluster[0] &&
        (declared.x != given.x || declared.y != given.y || declared.z != given.z)) {
      return refuse(CUDA_ERROR_INVALID_CLUSTER_SIZE, "cluster ", text(given), " must be ", text(declared),
                    ", as .reqnctapercluster of ", request.function->name, " says");
    }
  }
  MOE_CHECK(checkLaunch(operation));
  return copyParameters(request, operation.config.parameters);
}

static CUresult launchOn(const Call &call, LaunchRequest request, CUfunction function, CUstream handle,
                         bool perThread) {
  CUstream_st *stream = streamOf(call, handle, perThread);
  if (!stream) {
    return CUDA_ERROR_INVALID_HANDLE;
  }
  request.function = functionOf(call, function);
  if (!request.function) {
    return CUDA_ERROR_INVALID_HANDLE;
  }
  if (request.function->module->context != stream->context) {
    return refuse(CUDA_ERROR_INVALID_HANDLE, "kernel ", request.function->name,
                  " and the stream belong to different contexts");
  }
  KernelOperation operation;
  MOE_CHECK(makeLaunch(request, operation));
  return submit(stream, std::move(operation));
}

#define LAUNCH(name, perThread)                                                                                        \
  CU_API name(CUfunction function, unsigned gridX, unsigned gridY, unsigned gridZ, unsigned blockX, unsigned blockY,   \
              unsigned blockZ, unsigned shared, CUstream stream, void **parameters, void **extra) {                    \
    MOE_CALL(Need::Context);                                                                                           \
    LaunchRequest request;                                                                                             \
    request.grid = {gridX, gridY, gridZ};                                                                              \
    request.block = {blockX, blockY, blockZ};                                                                          \
    request.dynamicShared = shared;                                                                                    \
    request.parameters = parameters;                                                                                   \
    request.extra = extra;                                                                                             \
    return launchOn(call, request, function, stream, perThread);                                                       \
  }
LAUNCH(cuLaunchKernel, false)
LAUNCH(cuLaunchKernel_ptsz, true)

#define LAUNCH_COOPERATIVE(name, perThread)                                                                            \
  CU_API name(CUfunction function, unsigned gridX, unsigned gridY, unsigned gridZ, unsigned blockX, unsigned blockY,   \
              unsigned blockZ, unsigned shared, CUstream stream, void **parameters) {                                  \
    MOE_CALL(Need::Context);                                                                                           \
    LaunchRequest request;                                                                                             \
    request.grid = {gridX, gridY, gridZ};                                                                              \
    request.block = {blockX, blockY, blockZ};                                                                          \
    request.dynamicShared = shared;                                                                                    \
    request.parameters = parameters;                                                                                   \
    request.cooperative = true;                                                                                        \
    return launchOn(call, request, function, stream, perThread);                                                       \
  }
LAUNCH_COOPERATIVE(cuLaunchCooperativeKernel, false)
LAUNCH_COOPERATIVE(cuLaunchCooperativeKernel_ptsz, true)

static CUresult launchConfigured(const Call &call, const CUlaunchConfig *config, CUfunction function, void **parameters,
                                 void **extra, bool perThread) {
  MOE_OUT(config);
  if (config->numAttrs && !config->attrs) {
    return refuse(CUDA_ERROR_INVALID_VALUE, config->numAttrs, " attributes at a null pointer");
  }
  LaunchRequest request;
  request.grid = {config->gridDimX, config->gridDimY, config->gridDimZ};
  request.block = {config->blockDimX, config->blockDimY, config->blockDimZ};
  request.dynamicShared = config->sharedMemBytes;
  request.parameters = parameters;
  request.extra = extra;
  request.attributes = config->attrs;
  request.attributeCount = config->numAttrs;
  return launchOn(call, request, function, config->hStream, perThread);
}

CU_API cuLaunchKernelEx(const CUlaunchConfig *config, CUfunction function, void **parameters, void **extra) {
  MOE_CALL(Need::Context);
  return launchConfigured(call, config, function, parameters, extra, false);
}

CU_API cuLaunchKernelEx_ptsz(const CUlaunchConfig *config, CUfunction function, void **parameters, void **extra) {
  MOE_CALL(Need::Context);
  return launchConfigured(call, config, function, parameters, extra, true);
}

} // namespace moert::emulator
