//===- LinkApi.cpp - cuLink* for one PTX text -------------------*- C++ -*-===//
//
// Programs that compile at run time hand their PTX to the linker and load what
// it returns. With one text there is nothing to link: the "cubin" that comes out
// is that text. Several inputs, and inputs that are no PTX, are refused.
//
//===----------------------------------------------------------------------===//
#include "runtime/emulator/driver/Driver.h"

struct CUlinkState_st {
  std::string text;
  int inputs = 0;
};

namespace moert::emulator {

using LinkState = CUlinkState_st;

static Registry<LinkState> &states() {
  static auto *all = new Registry<LinkState>;
  return *all;
}

static CUresult checkState(const LinkState *state) {
  return states().has(state) ? CUDA_SUCCESS : refuse(CUDA_ERROR_INVALID_HANDLE, "not a live link state");
}

CU_API cuLinkCreate_v2(unsigned, int *, void **, LinkState **state) {
  MOE_CALL(Need::Context);
  MOE_OUT(state);
  *state = states().add(new LinkState);
  return CUDA_SUCCESS;
}

CU_API cuLinkAddData_v2(LinkState *state, int type, void *data, size_t size, const char *, unsigned, int *, void **) {
  MOE_CALL(Need::Context);
  MOE_CHECK(checkState(state));
  MOE_OUT(data);
  constexpr int ptx = 1;
  if (type != ptx) {
    return refuse(CUDA_ERROR_NOT_SUPPORTED, "input type ", type, " must be 1 (PTX): the emulator runs nothing else");
  }
  if (state->inputs++) {
    return refuse(CUDA_ERROR_NOT_SUPPORTED, "linking several inputs; give one PTX text that holds everything");
  }
  state->text.assign(static_cast<const char *>(data), size);
  return CUDA_SUCCESS;
}

CU_API cuLinkComplete(LinkState *state, void **image, size_t *size) {
  MOE_CALL(Need::Context);
  MOE_CHECK(checkState(state));
  MOE_OUT(image);
  if (!state->inputs) {
    return refuse(CUDA_ERROR_INVALID_VALUE, "nothing was added");
  }
  *image = state->text.data(); // with a zero at its end, as cuModuleLoadData wants it
  if (size) {
    *size = state->text.size() + 1;
  }
  return CUDA_SUCCESS;
}

CU_API cuLinkDestroy(LinkState *state) {
  MOE_CALL(Need::Init);
  MOE_CHECK(checkState(state));
  states().remove(state);
  delete state;
  return CUDA_SUCCESS;
}

} // namespace moert::emulator
