// warp_vote_match.cu - ballot, any, all, match. Target sm_75.
extern "C" __global__ void warp_vote_match(const int *in, unsigned *out) {
  int v = in[threadIdx.x];
  unsigned ballot = __ballot_sync(0xffffffffu, v & 1);
  unsigned same = __match_any_sync(0xffffffffu, v & 7);
  int agree = 0;
  unsigned whole = __match_all_sync(0xffffffffu, v >> 20, &agree);
  unsigned flags = (__any_sync(0xffffffffu, v > 250) ? 1 : 0) | (__all_sync(0xffffffffu, v < 1000) ? 2 : 0) | agree << 2;
  out[threadIdx.x] = ballot ^ same ^ whole ^ flags;
}
