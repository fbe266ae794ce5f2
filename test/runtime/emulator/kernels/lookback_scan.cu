// lookback_scan.cu - decoupled look-back over blocks in order of arrival. Target sm_75.
extern "C" __global__ void lookback_scan(const int *in, int *out, unsigned *ticket, volatile unsigned *flags,
                                         volatile int *aggregates, volatile int *prefixes) {
  __shared__ int values[128];
  __shared__ int base;
  __shared__ unsigned tile;
  int i = threadIdx.x;
  if (i == 0) {
    tile = atomicAdd(ticket, 1u);
  }
  __syncthreads();
  unsigned t = tile;
  values[i] = in[t * 128 + i];
  for (int step = 1; step < 128; step *= 2) {
    __syncthreads();
    int add = i >= step ? values[i - step] : 0;
    __syncthreads();
    values[i] += add;
  }
  __syncthreads();
  if (i == 0) {
    int sum = 0;
    if (t == 0) {
      prefixes[0] = values[127];
      __threadfence();
      flags[0] = 2;
    } else {
      aggregates[t] = values[127];
      __threadfence();
      flags[t] = 1;
      for (int p = t - 1; p >= 0;) {
        unsigned flag = flags[p];
        __threadfence();
        if (flag == 2) {
          sum += prefixes[p];
          break;
        }
        if (flag == 1) {
          sum += aggregates[p--];
        }
      }
      prefixes[t] = sum + values[127];
      __threadfence();
      flags[t] = 2;
    }
    base = sum;
  }
  __syncthreads();
  out[t * 128 + i] = base + values[i];
}
