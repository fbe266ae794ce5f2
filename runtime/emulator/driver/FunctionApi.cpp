//===- FunctionApi.cpp - Attributes of functions, occupancy -----*- C++ -*-===//
//
// What a kernel needs and how many of its blocks fit a multiprocessor, from
// threads, shared memory and an estimate of registers: nothing here assembles
// PTX, so a real card may give another number of registers.
//
//===----------------------------------------------------------------------===//
#include "runtime/emulator/driver/Launch.h"
#include "runtime/emulator/driver/Modules.h"

#include <algorithm>

namespace moert::emulator {

static int registersOf(const CUfunc_st &function) {
  const ptx::LaunchBounds &bounds = function.kernel->function->bounds;
  int registers = int(std::clamp<uint32_t>(function.kernel->registers, 16, 255));
  // The assembler spills rather than break what the kernel declares.
  if (bounds.maxnreg) {
    registers = std::min(registers, int(bounds.maxnreg));
  }
  const uint64_t threads = std::max<uint64_t>(uint64_t(bounds.maxntid[0]) * bounds.maxntid[1] * bounds.maxntid[2],
                                              uint64_t(bounds.reqntid[0]) * bounds.reqntid[1] * bounds.reqntid[2]);
  const uint64_t warps = threads ? (threads + 31) / 32 : 1;
  const uint64_t blocks = std::max<uint32_t>(1, bounds.minnctapersm);
  const uint64_t most = uint64_t(registersPerMultiprocessor) / (warps * 32 * blocks) / 8 * 8;
  return threads ? std::min(registers, int(std::clamp<uint64_t>(most, 16, 255))) : registers;
}

uint64_t sharedLimit(const CUfunc_st &function) {
  return std::max<uint64_t>(sharedWithoutOptin,
                            uint64_t(function.kernel->staticShared) + uint64_t(function.maxDynamicShared));
}

int residentBlocks(const CUfunc_st &function, uint64_t threads, uint64_t dynamicShared) {
  const DeviceModel &model = *function.module->context->device->model;
  if (!threads || threads > maxThreadsPerBlock) {
    return 0;
  }
  const uint64_t warps = (threads + 31) / 32;
  uint64_t blocks = std::min<uint64_t>(maxBlocksPerMultiprocessor, maxThreadsPerMultiprocessor / 32 / warps);
  const uint64_t perWarp = (uint64_t(registersOf(function)) * 32 + 255) / 256 * 256;
  blocks = std::min(blocks, uint64_t(registersPerMultiprocessor) / perWarp / warps);
  const uint64_t shared = (function.kernel->staticShared + dynamicShared + reservedSharedPerBlock + 127) / 128 * 128;
  return int(std::min(blocks, uint64_t(model.sharedPerMultiprocessor) / shared));
}

static CUresult attributeOf(int *value, CUfunction_attribute attribute, const CUfunc_st &function) {
  const ptx::LaunchBounds &bounds = function.kernel->function->bounds;
  const ptx::Target &target = function.module->library->source->target;
  switch (attribute) {
  case CU_FUNC_ATTRIBUTE_MAX_THREADS_PER_BLOCK: {
    const uint32_t *most = bounds.reqntid[0] ? bounds.reqntid : bounds.maxntid;
    *value = most[0] ? int(std::min<uint64_t>(1024, uint64_t(most[0]) * most[1] * most[2])) : 1024;
    return CUDA_SUCCESS;
  }
  case CU_FUNC_ATTRIBUTE_SHARED_SIZE_BYTES:
    *value = int(function.kernel->staticShared);
    return CUDA_SUCCESS;
  case CU_FUNC_ATTRIBUTE_CONST_SIZE_BYTES: {
    uint64_t bytes = 0;
    for (const ptx::Variable &variable : function.module->library->source->variables) {
      bytes += variable.space == ptx::Space::Const ? variable.size : 0;
    }
    *value = int(bytes);
    return CUDA_SUCCESS;
  }
  case CU_FUNC_ATTRIBUTE_LOCAL_SIZE_BYTES:
    *value = int(function.kernel->localBytes);
    return CUDA_SUCCESS;
  case CU_FUNC_ATTRIBUTE_NUM_REGS:
    *value = registersOf(function);
    return CUDA_SUCCESS;
  case CU_FUNC_ATTRIBUTE_PTX_VERSION:
  case CU_FUNC_ATTRIBUTE_BINARY_VERSION:
    *value = target.sm;
    return CUDA_SUCCESS;
  case CU_FUNC_ATTRIBUTE_CACHE_MODE_CA:
    *value = 0;
    return CUDA_SUCCESS;
  case CU_FUNC_ATTRIBUTE_MAX_DYNAMIC_SHARED_SIZE_BYTES:
    *value = int(sharedLimit(function) - function.kernel->staticShared);
    return CUDA_SUCCESS;
  case CU_FUNC_ATTRIBUTE_PREFERRED_SHARED_MEMORY_CARVEOUT:
    *value = function.carveout;
    return CUDA_SUCCESS;
  case CU_FUNC_ATTRIBUTE_CLUSTER_SIZE_MUST_BE_SET:
    *value = bounds.explicitcluster;
    return CUDA_SUCCESS;
  case CU_FUNC_ATTRIBUTE_REQUIRED_CLUSTER_WIDTH:
  case CU_FUNC_ATTRIBUTE_REQUIRED_CLUSTER_HEIGHT:
  case CU_FUNC_ATTRIBUTE_REQUIRED_CLUSTER_DEPTH:
    *value = int(bounds.reqnctapercluster[attribute - CU_FUNC_ATTRIBUTE_REQUIRED_CLUSTER_WIDTH]);
    return CUDA_SUCCESS;
  case CU_FUNC_ATTRIBUTE_NON_PORTABLE_CLUSTER_SIZE_ALLOWED:
    *value = function.nonPortableCluster;
    return CUDA_SUCCESS;
  case CU_FUNC_ATTRIBUTE_CLUSTER_SCHEDULING_POLICY_PREFERENCE:
    *value = function.clusterPreference;
    return CUDA_SUCCESS;
  default:
    return refuse(CUDA_ERROR_INVALID_VALUE, "function attribute ", attribute, " is not in 0 to 15");
  }
}

static CUresult setAttribute(CUfunc_st &function, CUfunction_attribute attribute, int value) {
  const DeviceModel &model = *function.module->context->device->model;
  switch (attribute) {
  case CU_FUNC_ATTRIBUTE_MAX_DYNAMIC_SHARED_SIZE_BYTES: {
    const int most = model.sharedPerBlockOptin - int(function.kernel->staticShared);
    if (value < 0 || value > most) {
      return refuse(CUDA_ERROR_INVALID_VALUE, value, " bytes of dynamic shared memory for kernel ", function.name,
                    ", which may have 0 to ", most, " on ", model.name);
    }
    function.maxDynamicShared = value;
    return CUDA_SUCCESS;
  }
  case CU_FUNC_ATTRIBUTE_PREFERRED_SHARED_MEMORY_CARVEOUT:
    if (value < -1 || value > 100) {
      return refuse(CUDA_ERROR_INVALID_VALUE, "carveout ", value, " must be in -1 to 100");
    }
    function.carveout = value;
    return CUDA_SUCCESS;
  case CU_FUNC_ATTRIBUTE_NON_PORTABLE_CLUSTER_SIZE_ALLOWED:
    function.nonPortableCluster = value != 0;
    return CUDA_SUCCESS;
  case CU_FUNC_ATTRIBUTE_CLUSTER_SCHEDULING_POLICY_PREFERENCE:
    function.clusterPreference = value;
    return CUDA_SUCCESS;
  default:
    return refuse(CUDA_ERROR_INVALID_VALUE, "function attribute ", attribute, " cannot be set");
  }
}

/// Defines an API function whose body sees `function`, the CUfunc_st behind `handle`.
#define ON_FUNCTION(name, parameters, ...)                                                                             \
  CU_API name parameters {                                                                                             \
    MOE_CALL(Need::Context);                                                                                           \
    CUfunc_st *function = functionOf(call, handle);                                                                    \
    if (!function) {                                                                                                   \
      return CUDA_ERROR_INVALID_HANDLE;                                                                                \
    }                                                                                                                  \
    __VA_ARGS__                                                                                                        \
  }

ON_FUNCTION(cuFuncGetAttribute, (int *value, CUfunction_attribute attribute, CUfunction handle), {
  MOE_OUT(value);
  return attributeOf(value, attribute, *function);
})
ON_FUNCTION(cuFuncSetAttribute, (CUfunction handle, CUfunction_attribute attribute, int value),
            return setAttribute(*function, attribute, value);)
ON_FUNCTION(cuFuncSetCacheConfig, (CUfunction handle, int), return CUDA_SUCCESS;)
ON_FUNCTION(cuFuncSetSharedMemConfig, (CUfunction handle, int), return CUDA_SUCCESS;)
ON_FUNCTION(cuFuncGetModule, (CUmodule * module, CUfunction handle), {
  MOE_OUT(module);
  *module = function->module;
  return CUDA_SUCCESS;
})
ON_FUNCTION(cuFuncGetName, (const char **name, CUfunction handle), {
  MOE_OUT(name);
  *name = function->name.c_str();
  return CUDA_SUCCESS;
})
ON_FUNCTION(cuFuncLoad, (CUfunction handle), return CUDA_SUCCESS;)
ON_FUNCTION(cuFuncIsLoaded, (int *state, CUfunction handle), {
  MOE_OUT(state);
  *state = 1;
  return CUDA_SUCCESS;
})

static CUresult parameterInfo(const ptx::Function &function, size_t index, size_t *offset, size_t *size) {
  MOE_OUT(offset);
  if (index >= function.parameters.size()) {
    return CUDA_ERROR_INVALID_VALUE; // how programs find the end: no message
  }
  *offset = function.parameters[index].offset;
  if (size) {
    *size = function.parameters[index].size;
  }
  return CUDA_SUCCESS;
}

ON_FUNCTION(cuFuncGetParamInfo, (CUfunction handle, size_t index, size_t *offset, size_t *size),
            return parameterInfo(*function->kernel->function, index, offset, size);)

/// The function of `kernel` on a device: of the current context, or of that device's primary one.
static CUresult functionOn(const Call &call, CUkernel kernel, CUdevice ordinal, CUfunc_st *&function) {
  Device *device = deviceOf(ordinal);
  if (!device) {
    return CUDA_ERROR_INVALID_DEVICE;
  }
  if (!driver()->kernels.has(kernel)) {
    return refuse(CUDA_ERROR_INVALID_HANDLE, "not a live kernel");
  }
  CUctx_st *context = call.context && call.context->device == device ? call.context : device->primary;
  if (!context) {
    return refuse(CUDA_ERROR_INVALID_CONTEXT, "device ", ordinal, " has no context");
  }
  CUmod_st *module = nullptr;
  MOE_CHECK(moduleOf(kernel->library, context, module));
  function = module->functions[kernel->index].get();
  return CUDA_SUCCESS;
}

CU_API cuKernelGetAttribute(int *value, CUfunction_attribute attribute, CUkernel kernel, CUdevice device) {
  MOE_CALL(Need::Init);
  MOE_OUT(value);
  CUfunc_st *function = nullptr;
  MOE_CHECK(functionOn(call, kernel, device, function));
  return attributeOf(value, attribute, *function);
}

CU_API cuKernelSetAttribute(CUfunction_attribute attribute, int value, CUkernel kernel, CUdevice device) {
  MOE_CALL(Need::Init);
  CUfunc_st *function = nullptr;
  MOE_CHECK(functionOn(call, kernel, device, function));
  return setAttribute(*function, attribute, value);
}

CU_API cuKernelSetCacheConfig(CUkernel kernel, int, CUdevice) {
  MOE_CALL(Need::Init);
  return driver()->kernels.has(kernel) ? CUDA_SUCCESS : refuse(CUDA_ERROR_INVALID_HANDLE, "not a live kernel");
}

CU_API cuKernelGetParamInfo(CUkernel kernel, size_t index, size_t *offset, size_t *size) {
  MOE_CALL(Need::Init);
  if (!driver()->kernels.has(kernel)) {
    return refuse(CUDA_ERROR_INVALID_HANDLE, "not a live kernel");
  }
  const ptx::Module &source = *kernel->library->source;
  return parameterInfo(source.functions[source.findFunction(kernel->name)], index, offset, size);
}

static CUresult activeBlocks(int *blocks, const CUfunc_st &function, int threads, size_t shared) {
  MOE_OUT(blocks);
  if (threads <= 0) {
    return refuse(CUDA_ERROR_INVALID_VALUE, "block size (", threads, ") must be positive");
  }
  *blocks = residentBlocks(function, uint64_t(threads), shared);
  return CUDA_SUCCESS;
}

ON_FUNCTION(cuOccupancyMaxActiveBlocksPerMultiprocessor, (int *blocks, CUfunction handle, int threads, size_t shared),
            return activeBlocks(blocks, *function, threads, shared);)
ON_FUNCTION(cuOccupancyMaxActiveBlocksPerMultiprocessorWithFlags,
            (int *blocks, CUfunction handle, int threads, size_t shared, unsigned),
            return activeBlocks(blocks, *function, threads, shared);)

/// The block size with most threads resident; the largest of equals.
static CUresult bestBlock(int *grid, int *block, const CUfunc_st &function, CUoccupancyB2DSize sharedOf, size_t shared,
                          int limit) {
  MOE_OUT(grid);
  MOE_OUT(block);
  int most = 1024, best = 0;
  MOE_CHECK(attributeOf(&most, CU_FUNC_ATTRIBUTE_MAX_THREADS_PER_BLOCK, function));
  most = limit > 0 ? std::min(most, limit) : most;
  for (int threads = most; threads > 0; threads = (threads - 1) / 32 * 32) {
    const int resident = residentBlocks(function, uint64_t(threads), sharedOf ? sharedOf(threads) : shared);
    if (resident * threads > best) {
      best = resident * threads;
      *block = threads;
      *grid = resident * function.module->context->device->model->multiprocessors;
    }
  }
  return best ? CUDA_SUCCESS : refuse(CUDA_ERROR_INVALID_VALUE, "no block of ", function.name, " fits");
}

ON_FUNCTION(cuOccupancyMaxPotentialBlockSize,
            (int *grid, int *block, CUfunction handle, CUoccupancyB2DSize sharedOf, size_t shared, int limit),
            return bestBlock(grid, block, *function, sharedOf, shared, limit);)
ON_FUNCTION(cuOccupancyMaxPotentialBlockSizeWithFlags,
            (int *grid, int *block, CUfunction handle, CUoccupancyB2DSize sharedOf, size_t shared, int limit, unsigned),
            return bestBlock(grid, block, *function, sharedOf, shared, limit);)

ON_FUNCTION(cuOccupancyAvailableDynamicSMemPerBlock, (size_t *bytes, CUfunction handle, int blocks, int threads), {
  MOE_OUT(bytes);
  if (blocks <= 0 || residentBlocks(*function, uint64_t(threads), 0) < blocks) {
    return refuse(CUDA_ERROR_INVALID_VALUE, blocks, " blocks of ", threads, " threads do not fit a multiprocessor");
  }
  const DeviceModel &model = *function->module->context->device->model;
  const uint64_t each = uint64_t(model.sharedPerMultiprocessor) / uint64_t(blocks) / 128 * 128;
  const uint64_t used = function->kernel->staticShared + reservedSharedPerBlock;
  *bytes = each > used ? std::min<uint64_t>(each - used, uint64_t(model.sharedPerBlockOptin)) : 0;
  return CUDA_SUCCESS;
})

/// The cluster size that a launch configuration asks for, or 1.
static uint64_t clusterOf(const CUlaunchConfig &config, const CUfunc_st &function) {
  const uint32_t *required = function.kernel->function->bounds.reqnctapercluster;
  uint64_t size = required[0] ? uint64_t(required[0]) * required[1] * required[2] : 1;
  for (unsigned i = 0; i < config.numAttrs; ++i) {
    if (config.attrs[i].id == CU_LAUNCH_ATTRIBUTE_CLUSTER_DIMENSION) {
      const auto &dim = config.attrs[i].value.clusterDim;
      size = uint64_t(dim.x) * dim.y * dim.z;
    }
  }
  return size;
}

/// Blocks that fit one GPU processing cluster, of 16 multiprocessors as on the H100-like card.
static uint64_t blocksPerProcessingCluster(const CUfunc_st &function, const CUlaunchConfig &config) {
  return 16 * uint64_t(residentBlocks(function, uint64_t(config.blockDimX) * config.blockDimY * config.blockDimZ,
                                      config.sharedMemBytes));
}

ON_FUNCTION(cuOccupancyMaxActiveClusters, (int *clusters, CUfunction handle, const CUlaunchConfig *config), {
  MOE_OUT(clusters);
  MOE_OUT(config);
  const DeviceModel &model = *function->module->context->device->model;
  const uint64_t size = clusterOf(*config, *function);
  if (!model.clusters || !size || size > uint64_t(function->nonPortableCluster ? 16 : 8)) {
    return refuse(CUDA_ERROR_INVALID_CLUSTER_SIZE, "clusters of ", size, " blocks on ", model.name);
  }
  *clusters = int(uint64_t(model.multiprocessors) / 16 * (blocksPerProcessingCluster(*function, *config) / size));
  return CUDA_SUCCESS;
})

ON_FUNCTION(cuOccupancyMaxPotentialClusterSize, (int *size, CUfunction handle, const CUlaunchConfig *config), {
  MOE_OUT(size);
  MOE_OUT(config);
  const DeviceModel &model = *function->module->context->device->model;
  if (!model.clusters) {
    return refuse(CUDA_ERROR_INVALID_CLUSTER_SIZE, "no clusters on ", model.name);
  }
  const uint64_t most = function->nonPortableCluster ? largestClusterSize : portableClusterSize;
  *size = int(std::min(most, blocksPerProcessingCluster(*function, *config)));
  return CUDA_SUCCESS;
})

} // namespace moert::emulator
