//===- peak.cpp - The matrix peak of this CPU, from registers alone --------===//
//
// Prefill is a matrix product, so its speed is held against what the cores can
// multiply when nothing is loaded: independent accumulators, one instruction kind
// in a loop, all threads at once. Each kind that CPUID and the kernel allow is
// measured: FMA in f32 (256 and 512 bits), VDPBF16PS (512 bits), AMX TDPBF16PS.
//
// usage: bench-peak [THREADS] [SECONDS]     prints one JSON object
//
//===----------------------------------------------------------------------===//

#include <algorithm>
#include <atomic>
#include <chrono>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <functional>
#include <immintrin.h>
#include <sys/syscall.h>
#include <thread>
#include <unistd.h>
#include <vector>

namespace {

using Clock = std::chrono::steady_clock;

/// Keeps `value` in a register and opaque, so that the loop around it is neither folded nor hoisted.
#define OPAQUE(value) asm volatile("" : "+v"(value))

constexpr int kAccumulators = 12;

__attribute__((target("avx2,fma"))) float fma256(long iterations) {
  __m256 a = _mm256_set1_ps(1e-3f), b = _mm256_set1_ps(1e-3f), sums[kAccumulators];
  for (__m256 &sum : sums) {
    sum = _mm256_setzero_ps();
  }
  for (long i = 0; i < iterations; ++i) {
    OPAQUE(a);
#pragma GCC unroll 12
    for (int j = 0; j < kAccumulators; ++j) {
      sums[j] = _mm256_fmadd_ps(a, b, sums[j]);
    }
  }
  float total = 0;
  for (__m256 &sum : sums) {
    total += _mm256_cvtss_f32(sum);
  }
  return total;
}

__attribute__((target("avx512f"))) float fma512(long iterations) {
  __m512 a = _mm512_set1_ps(1e-3f), b = _mm512_set1_ps(1e-3f), sums[kAccumulators];
  for (__m512 &sum : sums) {
    sum = _mm512_setzero_ps();
  }
  for (long i = 0; i < iterations; ++i) {
    OPAQUE(a);
#pragma GCC unroll 12
    for (int j = 0; j < kAccumulators; ++j) {
      sums[j] = _mm512_fmadd_ps(a, b, sums[j]);
    }
  }
  float total = 0;
  for (__m512 &sum : sums) {
    total += _mm512_cvtss_f32(sum);
  }
  return total;
}

__attribute__((target("avx512f,avx512bf16"))) float dot512(long iterations) {
  __m512i bits = _mm512_set1_epi16(0x3a83); // 1e-3 in bf16
  __m512 sums[kAccumulators];
  for (__m512 &sum : sums) {
    sum = _mm512_setzero_ps();
  }
  for (long i = 0; i < iterations; ++i) {
    OPAQUE(bits);
#pragma GCC unroll 12
    for (int j = 0; j < kAccumulators; ++j) {
      sums[j] = _mm512_dpbf16_ps(sums[j], (__m512bh)bits, (__m512bh)bits);
    }
  }
  float total = 0;
  for (__m512 &sum : sums) {
    total += _mm512_cvtss_f32(sum);
  }
  return total;
}

/// Tile shapes for LDTILECFG: eight tiles of 16 rows of 64 bytes.
struct alignas(64) TileConfig {
  uint8_t palette = 1, startRow = 0, reserved[14] = {};
  uint16_t columns[16] = {};
  uint8_t rows[16] = {};
};

/// Four accumulator tiles, two of each factor: the blocking a product would use.
__attribute__((target("amx-tile,amx-bf16"))) float amx(long iterations) {
  TileConfig config;
  for (int t = 0; t < 8; ++t) {
    config.columns[t] = 64;
    config.rows[t] = 16;
  }
  _tile_loadconfig(&config);
  _tile_zero(0);
  _tile_zero(1);
  _tile_zero(2);
  _tile_zero(3);
  _tile_zero(4);
  _tile_zero(5);
  _tile_zero(6);
  _tile_zero(7);
  for (long i = 0; i < iterations; ++i) {
    _tile_dpbf16ps(0, 4, 6);
    _tile_dpbf16ps(1, 4, 7);
    _tile_dpbf16ps(2, 5, 6);
    _tile_dpbf16ps(3, 5, 7);
  }
  alignas(64) float out[256];
  _tile_stored(0, out, 64);
  _tile_release();
  return out[0];
}

/// AMX's state must be asked for: ARCH_REQ_XCOMP_PERM (0x1023) of XTILEDATA (18).
bool amxAllowed() {
  unsigned a = 7, b = 0, c = 0, d = 0;
  asm volatile("cpuid" : "+a"(a), "=b"(b), "+c"(c), "=d"(d));
  bool present = (d >> 24 & 1) && (d >> 22 & 1); // AMX-TILE, AMX-BF16
  return present && syscall(SYS_arch_prctl, 0x1023, 18) == 0;
}

struct Kind {
  const char *name, *type;
  bool available;
  float (*run)(long);
  double flopsPerIteration;
};

/// Best rate of all threads together over about `seconds`, in GFLOP/s: interruptions only ever lower it.
double measure(const Kind &kind, unsigned threads, double seconds) {
  long iterations = 100'000;
  double best = 0;
  auto end = Clock::now() + std::chrono::duration<double>(seconds);
  do {
    std::atomic<unsigned> ready{0};
    std::vector<std::thread> pool;
    std::vector<double> begins(threads), ends(threads);
    auto now = [] { return std::chrono::duration<double>(Clock::now().time_since_epoch()).count(); };
    for (unsigned t = 0; t < threads; ++t) {
      pool.emplace_back([&, t] {
        ready.fetch_add(1);
        while (ready.load() != threads) {
        }
        begins[t] = now();
        float result = kind.run(iterations);
        asm volatile("" : : "m"(result));
        ends[t] = now();
      });
    }
    for (std::thread &thread : pool) {
      thread.join();
    }
    double time = *std::max_element(ends.begin(), ends.end()) - *std::min_element(begins.begin(), begins.end());
    if (time < 0.02) {
      iterations *= 4;
      continue;
    }
    best = std::max(best, kind.flopsPerIteration * iterations * threads / time / 1e9);
  } while (Clock::now() < end || best == 0);
  return best;
}

} // namespace

int main(int argc, char **argv) {
  unsigned threads = argc > 1 ? std::atoi(argv[1]) : std::max(1u, std::thread::hardware_concurrency());
  double seconds = argc > 2 ? std::atof(argv[2]) : 1;
  if (threads == 0 || !(seconds > 0)) {
    std::fprintf(stderr, "usage: %s [THREADS] [SECONDS], each above 0\n", argv[0]);
    return 1;
  }
  __builtin_cpu_init();
  bool avx512 = __builtin_cpu_supports("avx512f");
  const Kind kinds[] = {
      {"fma-256", "f32", __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma"), fma256,
       kAccumulators * 8 * 2.0},
      {"fma-512", "f32", avx512, fma512, kAccumulators * 16 * 2.0},
      {"dpbf16ps-512", "bf16", avx512 && __builtin_cpu_supports("avx512bf16"), dot512, kAccumulators * 16 * 4.0},
      {"amx-tdpbf16ps", "bf16", amxAllowed(), amx, 4 * 16 * 16 * 32 * 2.0},
  };
  double f32 = 0, bf16 = 0;
  std::printf("{\"threads\": %u, \"gigaflops\": {", threads);
  const char *comma = "";
  for (const Kind &kind : kinds) {
    if (!kind.available) {
      continue;
    }
    double rate = measure(kind, threads, seconds);
    double &best = std::strcmp(kind.type, "f32") == 0 ? f32 : bf16;
    best = std::max(best, rate);
    std::printf("%s\"%s\": %.1f", comma, kind.name, rate);
    comma = ", ";
  }
  // Without bf16 instructions a bf16 product runs at the f32 rate.
  std::printf("}, \"f32\": %.1f, \"bf16\": %.1f}\n", f32, std::max(bf16, f32));
  return 0;
}
