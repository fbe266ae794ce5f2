/* Kernels of the toy model that the runtime's tests run (see TestPackage.h). Built as real ones are: one shared object
 * that needs nothing. */
#include "runtime/include/moert/kernel_abi.h"

const uint32_t moert_kernel_abi = MOERT_KERNEL_ABI_VERSION;

#define POINTER(type, word) ((type *)(uintptr_t)(word))
typedef const uint64_t *Args;

/* (tokens, embed, out, T): out[t] = embed[tokens[t]], two tokens per workgroup. */
void embed(Args args, int64_t workgroup, void *scratch) {
  const int32_t *tokens = POINTER(const int32_t, args[0]);
  const float *table = POINTER(const float, args[1]);
  float *out = POINTER(float, args[2]);
  int64_t count = (int64_t)args[3];
  for (int64_t t = 2 * workgroup; t < 2 * workgroup + 2 && t < count; ++t) {
    out[t] = table[tokens[t]];
  }
}

/* (x, seq, pos, state [B, C], out, T, C, runs): writes x into the state, then out[t] = sum of state up to pos[t].
 * One workgroup per sequence. */
void accumulate(Args args, int64_t workgroup, void *scratch) {
  const float *x = POINTER(const float, args[0]);
  const int32_t *pos = POINTER(const int32_t, args[2]);
  float *state = POINTER(float, args[3]) + workgroup * (int64_t)args[6];
  float *out = POINTER(float, args[4]);
  const int32_t *runs = POINTER(const int32_t, args[7]);
  for (int32_t t = runs[workgroup]; t < runs[workgroup + 1]; ++t) {
    state[pos[t]] = x[t];
    float sum = 0;
    for (int32_t p = 0; p <= pos[t]; ++p) {
      sum += state[p];
    }
    out[t] = sum;
  }
}

/* (experts, y, T, expert): y[t] *= experts[expert][0]. */
void scale(Args args, int64_t workgroup, void *scratch) {
  const uint64_t *experts = POINTER(const uint64_t, args[0]);
  float *y = POINTER(float, args[1]);
  float factor = *POINTER(const float, experts[args[3]]);
  for (int64_t t = 0; t < (int64_t)args[2]; ++t) {
    y[t] *= factor;
  }
}

/* (y, rows, head, logits [M, V], V): logits[m][v] = y[rows[m]] * head[v], one row per workgroup. */
void project(Args args, int64_t workgroup, void *scratch) {
  const float *y = POINTER(const float, args[0]);
  const int32_t *rows = POINTER(const int32_t, args[1]);
  const float *head = POINTER(const float, args[2]);
  float *out = POINTER(float, args[3]);
  int64_t vocab = (int64_t)args[4];
  for (int64_t v = 0; v < vocab; ++v) {
    out[workgroup * vocab + v] = y[rows[workgroup]] * head[v];
  }
}

/* (weight, add, count): weight[i] = weight[i] * 2 + add[i], of an initializer. */
void fold(Args args, int64_t workgroup, void *scratch) {
  float *weight = POINTER(float, args[0]);
  const float *add = POINTER(const float, args[1]);
  for (int64_t i = 0; i < (int64_t)args[2]; ++i) {
    weight[i] = weight[i] * 2 + add[i];
  }
}

/* (flags): run with one workgroup, that is on the caller: remembers the caller by its scratch. */
void mark(Args args, int64_t workgroup, void *scratch) {
  POINTER(uint64_t, args[0])[0] = (uint64_t)(uintptr_t)scratch;
  POINTER(uint64_t, args[0])[1] = 0;
}

/* (flags, over): the first workgroup on a worker that is not the caller takes until the test sets *over, a uint32_t;
 * the caller waits until there is such a one. Makes a step miss its deadline. */
void hang(Args args, int64_t workgroup, void *scratch) {
  uint64_t *flags = POINTER(uint64_t, args[0]);
  if (flags[0] == (uint64_t)(uintptr_t)scratch) {
    while (!__atomic_load_n(&flags[1], __ATOMIC_RELAXED)) {
    }
  } else if (!__atomic_exchange_n(&flags[1], 1, __ATOMIC_RELAXED)) {
    while (!__atomic_load_n(POINTER(uint32_t, args[1]), __ATOMIC_RELAXED)) {
    }
  }
}

/* (out, a, b, c, d, e, f, g): keeps its arguments, as 64-bit words. */
void keep(Args args, int64_t workgroup, void *scratch) {
  for (int i = 0; i < 7; ++i) {
    POINTER(uint64_t, args[0])[i] = args[1 + i];
  }
}
