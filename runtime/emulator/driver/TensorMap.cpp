//===- TensorMap.cpp - cuTensorMapEncodeTiled -------------------*- C++ -*-===//
//
// Encodes a tiled tensor map after checking every rule that the driver checks:
// alignment of map, address and strides, ranges of sizes, the box against the
// swizzle span. Each refusal names the rule and both values. im2col maps are
// not supported.
//
//===----------------------------------------------------------------------===//
#include "runtime/emulator/driver/TensorMap.h"
#include "runtime/emulator/driver/Driver.h"

namespace moert::emulator {

/// Fills `fields`, or returns what is wrong.
static CUresult encode(TensorMapFields &fields, uint32_t type, uint32_t rank, uint64_t address, const uint64_t *dims,
                       const uint64_t *strides, const uint32_t *box, const uint32_t *steps, int interleave, int swizzle,
                       int promotion, int fill) {
  const unsigned bytes = tensorElementBytes(type);
  if (!bytes) {
    return refuse(CUDA_ERROR_INVALID_VALUE, "data type ", type, " is none of 0 to 12");
  }
  if (rank < 1 || rank > 5) {
    return refuse(CUDA_ERROR_INVALID_VALUE, "rank ", rank, " is not in 1 to 5");
  }
  if (interleave < 0 || interleave > 2 || swizzle < 0 || swizzle > 3 || promotion < 0 || promotion > 3 || fill < 0 ||
      fill > 1) {
    return refuse(CUDA_ERROR_INVALID_VALUE, "interleave ", interleave, ", swizzle ", swizzle, ", L2 promotion ",
                  promotion, " or fill ", fill, " is not a value of its enumeration");
  }
  if (interleave != CU_TENSOR_MAP_INTERLEAVE_NONE && rank < 3) {
    return refuse(CUDA_ERROR_INVALID_VALUE, "rank ", rank, " must be at least 3 with an interleaved layout");
  }
  const unsigned alignment = interleave == CU_TENSOR_MAP_INTERLEAVE_32B ? 32 : 16;
  if (address % alignment) {
    return refuse(CUDA_ERROR_INVALID_VALUE, "global address ", hex(address), " must be a multiple of ", alignment,
                  " bytes");
  }
  for (uint32_t i = 0; i < rank; ++i) {
    if (dims[i] == 0 || dims[i] > uint64_t(1) << 32) {
      return refuse(CUDA_ERROR_INVALID_VALUE, "global dim ", i, " (", dims[i], ") must be in 1 to 2^32");
    }
    if (box[i] == 0 || box[i] > 256) {
      return refuse(CUDA_ERROR_INVALID_VALUE, "box dim ", i, " (", box[i], ") must be in 1 to 256");
    }
    if (steps[i] == 0 || steps[i] > 8) {
      return refuse(CUDA_ERROR_INVALID_VALUE, "element stride ", i, " (", steps[i], ") must be in 1 to 8");
    }
  }
  for (uint32_t i = 0; i + 1 < rank; ++i) {
    if (strides[i] % alignment || strides[i] >= uint64_t(1) << 40) {
      return refuse(CUDA_ERROR_INVALID_VALUE, "global stride ", i, " (", strides[i], " bytes) must be a multiple of ",
                    alignment, " below 2^40");
    }
  }
  const unsigned inner = box[0] * bytes;
  if (interleave == CU_TENSOR_MAP_INTERLEAVE_NONE) {
    if (inner % 16) {
      return refuse(CUDA_ERROR_INVALID_VALUE, "box dim 0 (", box[0], " elements of ", bytes, " bytes = ", inner,
                    ") must be a multiple of 16 bytes");
    }
    const unsigned span = swizzle == CU_TENSOR_MAP_SWIZZLE_NONE ? 0 : 16u << swizzle;
    if (span && inner > span) {
      return refuse(CUDA_ERROR_INVALID_VALUE, "box dim 0 (", box[0], " elements of ", bytes, " bytes = ", inner,
                    ") must not exceed the swizzle span of ", span, " bytes");
    }
  }
  if (interleave == CU_TENSOR_MAP_INTERLEAVE_32B && swizzle != CU_TENSOR_MAP_SWIZZLE_32B) {
    return refuse(CUDA_ERROR_INVALID_VALUE, "swizzle ", swizzle,
                  " must be 1 (32 bytes) with the interleave of 32 bytes");
  }
  if (fill == CU_TENSOR_MAP_FLOAT_OOB_FILL_NAN_REQUEST_ZERO_FMA && !tensorElementIsFloat(type)) {
    return refuse(CUDA_ERROR_INVALID_VALUE, "fill with NaN needs a floating-point type, not data type ", type);
  }
  fields.globalAddress = address;
  fields.rank = uint8_t(rank - 1);
  for (uint32_t i = 0; i < rank; ++i) {
    fields.globalDim[i] = dims[i];
    fields.boxDim[i] = uint16_t(box[i]);
    fields.elementStride[i] = uint8_t(steps[i]);
    if (i + 1 < rank) {
      fields.globalStride[i] = strides[i];
    }
  }
  fields.elementType = uint8_t(type);
  fields.interleave = uint8_t(interleave);
  fields.swizzle = uint8_t(swizzle);
  fields.fill = uint8_t(fill);
  fields.l2Promotion = uint8_t(promotion);
  return CUDA_SUCCESS;
}

/// Checks common to encode and replace: a context on a card with TMA, an aligned map.
static CUresult checkMap(const Call &call, const CUtensorMap *map) {
  if (!call.context->device->model->clusters) {
    return refuse(CUDA_ERROR_NOT_SUPPORTED, "tensor maps need compute capability 9.0, this is ",
                  call.context->device->model->name);
  }
  if (!map || reinterpret_cast<uintptr_t>(map) % 64) {
    return refuse(CUDA_ERROR_INVALID_VALUE, "the tensor map at ", hex(reinterpret_cast<uintptr_t>(map)),
                  " must be aligned to 64 bytes");
  }
  return CUDA_SUCCESS;
}

CU_API cuTensorMapEncodeTiled(CUtensorMap *map, CUtensorMapDataType type, uint32_t rank, void *globalAddress,
                              const uint64_t *globalDim, const uint64_t *globalStrides, const uint32_t *boxDim,
                              const uint32_t *elementStrides, CUtensorMapInterleave interleave,
                              CUtensorMapSwizzle swizzle, CUtensorMapL2promotion promotion,
                              CUtensorMapFloatOOBfill fill) {
  MOE_CALL(Need::Context);
  MOE_CHECK(checkMap(call, map));
  if (!globalDim || !boxDim || !elementStrides || (rank > 1 && !globalStrides)) {
    return refuse(CUDA_ERROR_INVALID_VALUE, "a null pointer for dims, strides, box or element strides");
  }
  TensorMapFields fields;
  MOE_CHECK(encode(fields, uint32_t(type), rank, reinterpret_cast<uint64_t>(globalAddress), globalDim, globalStrides,
                   boxDim, elementStrides, interleave, swizzle, promotion, fill));
  std::memcpy(map, &fields, sizeof(fields));
  return CUDA_SUCCESS;
}

CU_API cuTensorMapReplaceAddress(CUtensorMap *map, void *globalAddress) {
  MOE_CALL(Need::Context);
  MOE_CHECK(checkMap(call, map));
  TensorMapFields fields;
  std::memcpy(&fields, map, sizeof(fields));
  const uint64_t address = reinterpret_cast<uint64_t>(globalAddress);
  const unsigned alignment = fields.interleave == CU_TENSOR_MAP_INTERLEAVE_32B ? 32 : 16;
  if (address % alignment) {
    return refuse(CUDA_ERROR_INVALID_VALUE, "global address ", hex(address), " must be a multiple of ", alignment,
                  " bytes");
  }
  fields.globalAddress = address;
  std::memcpy(map, &fields, sizeof(fields));
  return CUDA_SUCCESS;
}

} // namespace moert::emulator
