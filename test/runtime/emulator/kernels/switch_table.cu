// switch_table.cu - a dense switch, by an indexed branch. Target sm_75.
extern "C" __global__ void switch_table(const int *in, int *out) {
  int i = threadIdx.x, v = in[i], r;
  switch (v & 15) {
  case 0: r = v + out[i]; break;
  case 1: r = v * 3; break;
  case 2: r = v ^ 0x55; break;
  case 3: r = v - 7 + in[0]; break;
  case 4: r = v << 3; break;
  case 5: r = v / 3; break;
  case 6: r = v % 5; break;
  case 7: r = -v * in[1]; break;
  case 8: r = v | 1; break;
  case 9: r = ~v + in[2]; break;
  default: r = 1;
  }
  out[i] = r;
}
