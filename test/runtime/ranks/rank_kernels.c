/* Kernels of the toy model for several ranks (see RankToy.h), beside those of the toy. */
#include "test/runtime/core/kernels.c"

/* (tokens, part, out, T, rank, count): out[t] = part[tokens[t] - rank * count] where this rank's part of the table has
 * the token, else 0. */
void embed_part(Args args, int64_t workgroup, void *scratch) {
  const int32_t *tokens = POINTER(const int32_t, args[0]);
  const float *part = POINTER(const float, args[1]);
  float *out = POINTER(float, args[2]);
  for (int64_t t = 0; t < (int64_t)args[3]; ++t) {
    const int64_t index = tokens[t] - (int64_t)(args[4] * args[5]);
    out[t] = index >= 0 && index < (int64_t)args[5] ? part[index] : 0;
  }
}

/* (tokens, seq, out, T, B): out[t] = tokens[t], and -1 of padding, which is what lies in the last slot. */
void choose(Args args, int64_t workgroup, void *scratch) {
  const int32_t *tokens = POINTER(const int32_t, args[0]), *seq = POINTER(const int32_t, args[1]);
  for (int64_t t = 0; t < (int64_t)args[3]; ++t) {
    POINTER(int32_t, args[2])[t] = seq[t] == (int32_t)args[4] - 1 ? -1 : tokens[t];
  }
}

/* (ids, x, experts of this rank, out, T, rank, ranks): over the tokens of all ranks, out[i] = x[i] * expert where
 * ids[i] % ranks is this rank, else 0. */
void scale_part(Args args, int64_t workgroup, void *scratch) {
  const int32_t *ids = POINTER(const int32_t, args[0]);
  const float factor = *POINTER(const float, POINTER(const uint64_t, args[2])[0]);
  for (int64_t i = 0; i < (int64_t)(args[4] * args[6]); ++i) {
    const int mine = ids[i] >= 0 && ids[i] % (int32_t)args[6] == (int32_t)args[5];
    POINTER(float, args[3])[i] = mine ? POINTER(const float, args[1])[i] * factor : 0;
  }
}

/* (weight, rank, ranks, count): weight[i] = 100 * ranks + rank, of an initializer. */
void number(Args args, int64_t workgroup, void *scratch) {
  for (int64_t i = 0; i < (int64_t)args[3]; ++i) {
    POINTER(float, args[0])[i] = (float)(100 * args[2] + args[1]);
  }
}
