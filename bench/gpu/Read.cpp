// bench-gpu read: how fast the card reads its memory, which is what decoding is held against. Every thread has eight
// loads of 16 bytes in flight; nothing is written but a word per thread.
#include "bench/gpu/Gpu.h"

#include "runtime/core/Json.h"

#include <algorithm>
#include <cstdio>

namespace benchgpu {
namespace {

constexpr unsigned kThreads = 512;
/// Read by a workgroup at a time.
constexpr uint64_t kPiece = uint64_t(kThreads) * 8 * 16;

/// Parameters: data, pieces, a word per thread for the sums.
std::string kernelText() {
  std::string text = ".version 7.4\n.target sm_80\n.address_size 64\n"
                     ".visible .entry read(.param .u64 a0, .param .u64 a1, .param .u64 a2)\n"
                     ".reqntid 512\n{\n"
                     ".reg .b64 %data, %pieces, %out, %at, %piece, %step, %wide;\n"
                     ".reg .b32 %thread, %cta, %grid, %sum, %i, %v<32>;\n.reg .pred %p;\n"
                     "ld.param.u64 %data, [a0];\nld.param.u64 %pieces, [a1];\nld.param.u64 %out, [a2];\n"
                     "mov.u32 %thread, %tid.x;\nmov.u32 %cta, %ctaid.x;\nmov.u32 %grid, %nctaid.x;\n"
                     "cvt.u64.u32 %piece, %cta;\ncvt.u64.u32 %step, %grid;\nmul.wide.u32 %wide, %thread, 16;\n"
                     "add.u64 %data, %data, %wide;\nmov.u32 %sum, 0;\n"
                     "again:\nsetp.ge.u64 %p, %piece, %pieces;\n@%p bra done;\n"
                     "mad.lo.u64 %at, %piece, 65536, %data;\n";
  for (int i = 0; i < 8; ++i) {
    const std::string first = "%v" + std::to_string(4 * i), second = "%v" + std::to_string(4 * i + 1),
                      third = "%v" + std::to_string(4 * i + 2), fourth = "%v" + std::to_string(4 * i + 3);
    text += "ld.global.nc.L1::no_allocate.v4.u32 {" + first + ", " + second + ", " + third + ", " + fourth +
            "}, [%at+" + std::to_string(i * 512 * 16) + "];\n";
  }
  for (int i = 0; i < 32; ++i) {
    text += "add.u32 %sum, %sum, %v" + std::to_string(i) + ";\n";
  }
  return text + "add.u64 %piece, %piece, %step;\nbra again;\ndone:\n"
                "mad.lo.u32 %i, %cta, 512, %thread;\nmul.wide.u32 %wide, %i, 4;\nadd.u64 %out, %out, %wide;\n"
                "st.global.u32 [%out], %sum;\nret;\n}\n";
}

} // namespace

/// Arguments: MiB to read, repetitions.
int measureReading(Gpu &gpu, const std::vector<std::string> &arguments) {
  if (arguments.size() != 2) {
    die("read takes MEBIBYTES and REPEAT");
  }
  static_assert(kPiece == 65536);
  const uint64_t bytes = strtoull(arguments[0].c_str(), nullptr, 10) << 20;
  const uint64_t repeat = strtoull(arguments[1].c_str(), nullptr, 10);
  if (bytes == 0 || repeat == 0) {
    die("read takes MEBIBYTES and REPEAT, whole numbers above 0");
  }
  const auto grid = static_cast<unsigned>(gpu.isEmulator() ? 2 : 4 * gpu.multiprocessors());
  const CUdeviceptr data = gpu.allocate(bytes), sums = gpu.allocate(size_t(4) * grid * kThreads);
  // Not zeros: they cost less power, and the card is faster.
  std::vector<uint32_t> noise(kPiece / 4);
  uint32_t state = 1;
  for (uint32_t &word : noise) {
    word = state = state * 1664525 + 1013904223;
  }
  for (uint64_t at = 0; at < bytes; at += kPiece) {
    gpu.check(gpu.driver.toDevice(data + at, noise.data(), kPiece, gpu.stream), "cuMemcpyHtoDAsync");
  }
  gpu.mark(0);
  gpu.finish(0);
  const CUfunction kernel = gpu.function(gpu.load(kernelText()), "read", 0);
  std::vector<double> rates;
  for (uint64_t i = 0; i <= repeat; ++i) { // the first warms up
    gpu.holdBack();
    gpu.mark(1);
    gpu.launch(kernel, grid, kThreads, 0, {data, bytes / kPiece, sums});
    gpu.mark(2);
    gpu.finish(2);
    if (i > 0) {
      rates.push_back(double(bytes) / (1e-6 * gpu.microseconds(1, 2)));
    }
  }
  std::vector<uint32_t> result(size_t(grid) * kThreads);
  gpu.download(result.data(), sums, result.size() * 4);
  uint32_t sum = 0, expected = 0;
  for (uint32_t word : result) {
    sum += word;
  }
  for (uint32_t word : noise) {
    expected += word * static_cast<uint32_t>(bytes / kPiece);
  }
  if (sum != expected) {
    die(moert::concat("the read of ", bytes, " bytes came out wrong: ", sum, ", must be ", expected));
  }
  moert::JsonWriter json;
  json.beginObject().member("device", gpu.device.describe()).member("bytes", bytes);
  json.member("bytes_per_second", median(rates)).member("best", *std::max_element(rates.begin(), rates.end()));
  printf("%s\n", json.endObject().take().c_str());
  return 0;
}

} // namespace benchgpu
