// llvm_calls.c - by LLVM's NVPTX back end: a switch, structs by value, recursion, a table of functions. Target sm_75.
struct Pair {
  int a;
  long long b;
  char c[5];
};

__attribute__((noinline)) static struct Pair turn(struct Pair p, int n) {
  struct Pair r = {(int)p.b, p.a + n, {1, 2, 3, 4, (char)n}};
  return r;
}
__attribute__((noinline)) static int depth(int n) { return n <= 0 ? 0 : 1 + depth(n / 2); }
static int plus(int v) { return v + 1; }
static int times(int v) { return v * 3; }
static int (*const table[2])(int) = {plus, times};

__attribute__((nvptx_kernel)) void llvm_calls(struct Pair p, const int *in, int *out) {
  int i = __nvvm_read_ptx_sreg_tid_x(), v = in[i], r = 0;
  struct Pair q = turn(p, v);
  switch (v & 7) {
  case 0:
    r = depth(v);
    break;
  case 1:
    r = q.a;
    break;
  case 2:
    r = (int)q.b;
    break;
  case 3:
    r = q.c[4];
    break;
  case 4:
    r = v ^ 77;
    break;
  case 5:
    r = v * v;
    break;
  default:
    r = table[i & 1](v);
    break;
  }
  out[i] = r;
}
