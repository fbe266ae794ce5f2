// cooperative_groups_tiles.cu - tiles of 8 lanes, a coalesced group. Target sm_75.
#include <cooperative_groups.h>
namespace cg = cooperative_groups;
extern "C" __global__ void cooperative_groups_tiles(const int *in, int *out) {
  auto block = cg::this_thread_block();
  auto tile = cg::tiled_partition<8>(block);
  int v = in[block.thread_rank()];
  for (int step = tile.size() / 2; step > 0; step /= 2) {
    v += tile.shfl_xor(v, step);
  }
  if (in[block.thread_rank()] % 3 == 0) {
    auto active = cg::coalesced_threads();
    v += 1000 * active.size();
  }
  block.sync();
  out[block.thread_rank()] = v;
}
