// scan_warp.cu - inclusive scan by shuffles, warp totals scanned by the first warp. Target sm_75.
extern "C" __global__ void scan_warp(const int *in, int *out) {
  __shared__ int totals[8];
  int i = threadIdx.x, lane = i % 32, warp = i / 32;
  int v = in[i];
  for (int step = 1; step < 32; step *= 2) {
    int below = __shfl_up_sync(0xffffffffu, v, step);
    v += lane >= step ? below : 0;
  }
  if (lane == 31) {
    totals[warp] = v;
  }
  __syncthreads();
  if (warp == 0) {
    int t = lane < 8 ? totals[lane] : 0;
    for (int step = 1; step < 8; step *= 2) {
      int below = __shfl_up_sync(0xffffffffu, t, step);
      t += lane >= step ? below : 0;
    }
    if (lane < 8) {
      totals[lane] = t;
    }
  }
  __syncthreads();
  out[i] = v + (warp ? totals[warp - 1] : 0);
}
