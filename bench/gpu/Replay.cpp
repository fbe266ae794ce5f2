// bench-gpu replay: launches that the unit tests of the kernels recorded (test/lowering/GPU/LaunchRecorder.h), repeated
// here and compared with what came out there, on the emulator, where the tests compared it with f64. So every kernel is
// checked on a card in every case that its tests have, without the compiler and without their code.
//
// Integers are the same. Of floats the arithmetic may differ: a card approximates exp and adds up a product of tensor
// cores in its own order. Tolerance: 2e-5 of the largest value of the operand (sums cancel), 1e-4 of the value itself,
// and one step of the type (2^-7 of bf16, 2^-10 of f16). Attention on tensor cores rounds every weight to bf16, and may
// round one the other way that exp makes a little smaller or larger: 2^-8 of the largest value there. Probabilities
// that are counted in units of 2^-32 are large integers: 2e-6 of the largest.
//
// `--slice I/N` takes every N-th launch from the I-th on, so that a caller with little time keeps what is done.
#include "bench/gpu/Gpu.h"

#include "runtime/core/Json.h"
#include "runtime/emulator/driver/PtxVersion.h"

#include <algorithm>
#include <cmath>
#include <cstdio>
#include <cstring>
#include <fstream>
#include <map>
#include <sstream>

namespace benchgpu {
namespace {

struct Operand {
  std::string kind, element; ///< "word", "in", "out", "update", "table"
  uint64_t word = 0;
  size_t bytes = 0;
  std::vector<size_t> entries;
  uint64_t rows = 0, columns = 0; ///< of matrices that tensor maps may stand for
  std::string before, expected;
  std::vector<std::string> tables;
};

struct Case {
  std::string test, kernel;
  size_t ptx = 0;
  unsigned grid = 0, threads = 0, sharedBytes = 0;
  uint32_t box = 0;
  std::vector<Operand> operands;
};

class Reader {
public:
  explicit Reader(const std::string &path) : path(path), file(path, std::ios::binary) {
    if (!file) {
      die(path + ": cannot be read");
    }
  }

  /// The next case; false at the end. Texts of PTX that come before it are added to `texts`.
  bool next(Case &out, std::vector<std::string> &texts) {
    for (std::string line; std::getline(file, line);) {
      std::istringstream words(line);
      std::string what;
      words >> what;
      if (what == "ptx") {
        size_t bytes = 0;
        words >> bytes;
        texts.push_back(take(bytes));
        continue;
      }
      size_t count = 0;
      out = Case();
      words >> out.test >> out.kernel >> out.ptx >> out.grid >> out.threads >> out.sharedBytes >> out.box >> count;
      if (what != "case" || !words || out.ptx >= texts.size()) {
        die(path + ": is no file of recorded launches: " + line.substr(0, 80));
      }
      for (size_t i = 0; i < count; ++i) {
        out.operands.push_back(operand());
      }
      return true;
    }
    return false;
  }

private:
  Operand operand() {
    std::string line;
    std::getline(file, line);
    std::istringstream words(line);
    Operand operand;
    words >> operand.kind;
    if (operand.kind == "word") {
      words >> operand.word;
    } else if (operand.kind == "table") {
      size_t count = 0;
      words >> operand.rows >> operand.columns >> count;
      for (size_t bytes; operand.entries.size() < count && words >> bytes;) {
        operand.entries.push_back(bytes);
      }
    } else {
      words >> operand.element >> operand.bytes >> operand.rows >> operand.columns;
    }
    if (!words && !words.eof()) {
      die(path + ": is damaged at '" + line.substr(0, 80) + "'");
    }
    for (size_t bytes : operand.entries) {
      operand.tables.push_back(take(bytes));
    }
    if (operand.kind == "in" || operand.kind == "update") {
      operand.before = take(operand.bytes);
    }
    if (operand.kind == "out" || operand.kind == "update") {
      operand.expected = take(operand.bytes);
    }
    return operand;
  }

  std::string take(size_t bytes) {
    std::string data(bytes, 0);
    file.read(data.data(), static_cast<std::streamsize>(bytes));
    if (!file) {
      die(path + ": ends early");
    }
    return data;
  }

  std::string path;
  std::ifstream file;
};

/// The device memory of one launch.
class Launch {
public:
  Launch(Gpu &gpu, const Case &recorded) : gpu(gpu), recorded(recorded) {
    for (const Operand &operand : recorded.operands) {
      words.push_back(place(operand));
    }
  }
  ~Launch() {
    for (CUdeviceptr memory : allocated) {
      gpu.release(memory);
    }
  }
  Launch(const Launch &) = delete;
  Launch &operator=(const Launch &) = delete;

  const std::vector<uint64_t> &parameters() const { return words; }

private:
  CUdeviceptr put(const void *data, size_t bytes) {
    allocated.push_back(gpu.allocate(bytes));
    gpu.upload(allocated.back(), data, bytes);
    return allocated.back();
  }
  uint64_t place(const Operand &operand) {
    if (operand.kind == "word") {
      return operand.word;
    }
    if (operand.kind == "table") {
      std::vector<CUdeviceptr> pointers;
      for (const std::string &entry : operand.tables) {
        pointers.push_back(put(entry.data(), entry.size()));
      }
      return operand.rows && recorded.box ? putMaps(pointers, operand) : put(pointers.data(), pointers.size() * 8);
    }
    if (operand.kind == "out") {
      // NaN of every type, so that what is not written shows.
      const std::string unwritten(operand.bytes, char(0xff));
      return put(unwritten.data(), unwritten.size());
    }
    const CUdeviceptr data = put(operand.before.data(), operand.before.size());
    return operand.rows && recorded.box ? putMaps({data}, operand) : data;
  }
  CUdeviceptr putMaps(const std::vector<CUdeviceptr> &matrices, const Operand &operand) {
    std::vector<CUtensorMap> maps(matrices.size());
    const uint64_t dims[] = {operand.columns, operand.rows}, strides[] = {operand.columns * 2};
    const uint32_t box[] = {64, recorded.box}, steps[] = {1, 1};
    if (!gpu.driver.tensorMapEncode) {
      die("the driver has no cuTensorMapEncodeTiled");
    }
    for (size_t i = 0; i < maps.size(); ++i) {
      gpu.check(gpu.driver.tensorMapEncode(&maps[i], CU_TENSOR_MAP_DATA_TYPE_BFLOAT16, 2,
                                           reinterpret_cast<void *>(matrices[i]), dims, strides, box, steps,
                                           CU_TENSOR_MAP_INTERLEAVE_NONE, CU_TENSOR_MAP_SWIZZLE_128B,
                                           CU_TENSOR_MAP_L2_PROMOTION_L2_256B, CU_TENSOR_MAP_FLOAT_OOB_FILL_NONE),
                "cuTensorMapEncodeTiled");
    }
    return put(maps.data(), maps.size() * sizeof(CUtensorMap));
  }

  Gpu &gpu;
  const Case &recorded;
  std::vector<CUdeviceptr> allocated;
  std::vector<uint64_t> words;
};

template <typename T> T elementOf(const std::string &data, size_t index) {
  T value;
  memcpy(&value, data.data() + index * sizeof(T), sizeof(T));
  return value;
}

double valueAt(const std::string &data, const std::string &element, size_t i) {
  if (element == "f32") {
    return double(elementOf<float>(data, i));
  }
  if (element == "i64") {
    return double(elementOf<int64_t>(data, i));
  }
  if (element == "i32") {
    return double(elementOf<int32_t>(data, i));
  }
  if (element == "f16") {
    return double(elementOf<_Float16>(data, i));
  }
  if (element == "bf16") {
    const uint32_t bits = uint32_t(elementOf<uint16_t>(data, i)) << 16;
    float value;
    memcpy(&value, &bits, 4);
    return double(value);
  }
  return double(uint8_t(data[i]));
}

size_t widthOf(const std::string &element) {
  return element == "i64"                        ? 8
         : element == "f32" || element == "i32"  ? 4
         : element == "f16" || element == "bf16" ? 2
                                                 : 1;
}

/// How far `actual` is from what was recorded, as a share of the tolerance: above 1 is wrong. `text` says where.
double distance(const std::string &kernel, const Operand &operand, const std::string &actual, std::string &text) {
  const size_t count = operand.bytes / widthOf(operand.element);
  double largest = 0, worst = 0;
  for (size_t i = 0; i < count; ++i) {
    const double value = std::fabs(valueAt(operand.expected, operand.element, i));
    largest = std::isfinite(value) ? std::max(largest, value) : largest;
  }
  const bool isFloat = operand.element[0] == 'f' || operand.element[0] == 'b';
  const bool hasRoundedWeights = kernel.rfind("attention", 0) == 0 && kernel.find("bf16") != kernel.npos;
  const double share = hasRoundedWeights ? 0x1p-8 : 2e-5;
  const double step = operand.element == "bf16" ? 0x1p-7 : operand.element == "f16" ? 0x1p-10 : 0;
  for (size_t i = 0; i < count; ++i) {
    const double expected = valueAt(operand.expected, operand.element, i), value = valueAt(actual, operand.element, i);
    if (expected == value || (std::isnan(expected) && std::isnan(value))) {
      continue;
    }
    double tolerance = isFloat ? share * largest + (1e-4 + step) * std::fabs(expected) : 0;
    if (operand.element == "i64" && largest >= 0x1p24) {
      tolerance = 2e-6 * largest;
    }
    double distance = std::fabs(value - expected) / tolerance;
    distance = distance == distance ? std::min(distance, 1e9) : 1e9;
    if (distance > worst) {
      worst = distance;
      text = moert::concat("element ", i, " of ", count, " (", operand.element, ") is ", value, ", must be ", expected);
    }
  }
  return worst;
}

} // namespace

/// Arguments: --slice I/N, files of recorded launches.
int replayKernels(Gpu &gpu, const std::vector<std::string> &arguments) {
  struct Tally {
    uint64_t cases = 0;
    double worst = 0;
  };
  std::map<std::string, Tally> tallies;
  std::vector<std::string> failures, paths;
  size_t slice = 0, slices = 1, index = 0;
  std::string refused;
  for (size_t i = 0; i < arguments.size(); ++i) {
    if (arguments[i] != "--slice") {
      paths.push_back(arguments[i]);
    } else if (++i == arguments.size() || sscanf(arguments[i].c_str(), "%zu/%zu", &slice, &slices) != 2 ||
               slice >= slices) {
      die("--slice takes I/N, with I from 0 to N - 1");
    }
  }
  for (const std::string &path : paths) {
    Reader reader(path);
    std::vector<std::string> texts;
    Case recorded;
    while (refused.empty() && reader.next(recorded, texts)) {
      if (index++ % slices != slice) {
        continue;
      }
      if (const unsigned ptx = moert::ptxVersionOf(texts[recorded.ptx]); ptx > moert::newestPtx(gpu.driver.version)) {
        refused =
            moert::concat("the launches are of PTX ", ptx / 10, ".", ptx % 10, ", the driver is of CUDA ",
                          gpu.driver.version / 1000, ".", gpu.driver.version % 1000 / 10, " and takes it up to ",
                          moert::newestPtx(gpu.driver.version) / 10, ".", moert::newestPtx(gpu.driver.version) % 10);
        break;
      }
      const CUmodule module = gpu.load(texts[recorded.ptx]);
      const CUfunction function = gpu.function(module, recorded.kernel, recorded.sharedBytes);
      Launch launch(gpu, recorded);
      if (recorded.grid) {
        gpu.launch(function, recorded.grid, recorded.threads, recorded.sharedBytes, launch.parameters());
      }
      gpu.mark(0);
      gpu.finish(0);
      Tally &tally = tallies[recorded.kernel];
      ++tally.cases;
      for (size_t i = 0; i < recorded.operands.size(); ++i) {
        const Operand &operand = recorded.operands[i];
        if (operand.expected.empty()) {
          continue;
        }
        std::string actual(operand.bytes, 0), text;
        gpu.download(actual.data(), launch.parameters()[i], actual.size());
        const double share = distance(recorded.kernel, operand, actual, text);
        tally.worst = std::max(tally.worst, share);
        if (share > 1) {
          failures.push_back(moert::concat(recorded.test, ": kernel ", recorded.kernel, ", operand ", i, ": ", text));
        }
      }
      gpu.check(gpu.driver.moduleUnload(module), "cuModuleUnload");
    }
  }
  moert::JsonWriter json;
  json.beginObject().member("device", gpu.device.describe()).key("kernels").beginArray();
  for (const auto &[kernel, tally] : tallies) {
    json.beginObject().member("kernel", kernel).member("cases", tally.cases);
    json.member("share_of_tolerance", tally.worst).endObject();
  }
  json.endArray().key("failures").beginArray();
  for (const std::string &failure : failures) {
    json.value(failure);
  }
  json.endArray().member("launches", index);
  if (!refused.empty()) {
    json.member("refused", refused);
  }
  if (gpu.isEmulator()) {
    json.member("findings", gpu.driver.findings());
  }
  printf("%s\n", json.endObject().take().c_str());
  return failures.empty() && (index > 0) ? 0 : 1;
}

} // namespace benchgpu
