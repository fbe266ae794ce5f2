//===- FilesTest.cpp - Statistics and maps in the files of engines ----------===//

#include "passes/Analysis/Placement/MapFile.h"
#include "passes/Analysis/Placement/Pickle.h"
#include "passes/Analysis/Placement/Planner.h"
#include "passes/Analysis/Placement/Statistics.h"
#include "runtime/readers/File.h"
#include "test/passes/Analysis/Placement/Synthetic.h"
#include "test/runtime/readers/TempFolder.h"
#include <gtest/gtest.h>

using namespace moe::placement;

namespace {

/// A folder that is gone after the test.
class Files : public ::testing::Test {
protected:
  std::string write(const std::string &name, const std::string &text) { return temporary.write(name, text); }
  static std::string input(const std::string &name) {
    return std::string(std::getenv("MOE_SOURCE_ROOT")) + "/test/passes/Analysis/Placement/Inputs/" + name;
  }
  static void expectError(const std::string &path, const std::string &part, const ModelHint &hint = {}) {
    Result<Statistics> statistics = readStatistics(path, hint);
    ASSERT_FALSE(statistics.ok()) << "no error, but expected: " << part;
    EXPECT_NE(statistics.status().message().find(part), std::string::npos) << statistics.status().message();
  }
  TempFolder temporary;
  const std::string &folder = temporary.path();
};

/// A safetensors file with one I64 tensor per name.
std::string safetensors(const std::vector<std::pair<std::string, std::vector<int64_t>>> &tensors) {
  std::string header = "{", data;
  for (const auto &tensor : tensors) {
    header += (header.size() > 1 ? ",\"" : "\"") + tensor.first + "\":{\"dtype\":\"I64\",\"shape\":[" +
              std::to_string(tensor.second.size()) + "],\"data_offsets\":[" + std::to_string(data.size()) + ",";
    data.append(reinterpret_cast<const char *>(tensor.second.data()), tensor.second.size() * 8);
    header += std::to_string(data.size()) + "]}";
  }
  header += "}";
  const uint64_t size = header.size();
  return std::string(reinterpret_cast<const char *>(&size), 8) + header + data;
}

/// A zip archive of stored entries, as torch.save writes it; checksums are left 0, which nobody here reads.
std::string zip(const std::vector<std::pair<std::string, std::string>> &entries) {
  std::string text, directory;
  auto number = [](std::string &to, uint64_t value, size_t bytes) {
    to.append(reinterpret_cast<const char *>(&value), bytes);
  };
  for (const auto &[name, data] : entries) {
    const size_t local = text.size();
    // Signature, version, flags, method, time, date, checksum; sizes; lengths of name and extra field.
    number(text, 0x04034b50, 4);
    text.append(14, '\0');
    number(text, data.size(), 4);
    number(text, data.size(), 4);
    number(text, name.size(), 4);
    text += name + data;
    number(directory, 0x02014b50, 4);
    directory.append(16, '\0');
    number(directory, data.size(), 4);
    number(directory, data.size(), 4);
    number(directory, name.size(), 2);
    directory.append(12, '\0');
    number(directory, local, 4);
    directory += name;
  }
  const size_t start = text.size();
  text += directory;
  number(text, 0x06054b50, 4);
  number(text, 0, 4);
  number(text, entries.size(), 2);
  number(text, entries.size(), 2);
  number(text, directory.size(), 4);
  number(text, start, 4);
  number(text, 0, 2);
  return text;
}

/// A file of torch.save with one f32 tensor on a storage of 8 elements.
std::string torchFile(int64_t offset, const std::vector<int64_t> &shape, const std::vector<int64_t> &strides) {
  auto integer = [](int64_t value) {
    return std::string("\x8a\x08") + std::string(reinterpret_cast<const char *>(&value), 8);
  };
  auto tuple = [&](const std::vector<int64_t> &values) {
    std::string text = "(";
    for (int64_t value : values) {
      text += integer(value);
    }
    return text + "t";
  };
  auto string = [](const std::string &value) {
    const auto size = static_cast<uint32_t>(value.size());
    return "X" + std::string(reinterpret_cast<const char *>(&size), 4) + value;
  };
  const std::string program = "\x80\x02"
                              "ctorch._utils\n_rebuild_tensor_v2\n((" +
                              string("storage") + "ctorch\nFloatStorage\n" + string("0") + string("cpu") + integer(8) +
                              "tQ" + integer(offset) + tuple(shape) + tuple(strides) + "tR.";
  const std::vector<float> values = {1, 2, 3, 4, 5, 6, 7, 8};
  return zip({{"x/data.pkl", program}, {"x/data/0", std::string(reinterpret_cast<const char *>(values.data()), 32)}});
}

} // namespace

TEST_F(Files, SglangJson) {
  // One dense layer in front; two dimensions, and three with an empty step.
  Result<Statistics> flat = readStatistics(write("a.json", R"({"logical_count": [[0,0],[1,2],[3,4.5]]})"), {});
  ASSERT_TRUE(flat.ok()) << flat.status().message();
  EXPECT_EQ(flat->model.layerIds, (std::vector<int>{1, 2}));
  EXPECT_EQ(flat->model.totalLayers, 3);
  EXPECT_EQ(flat->profiles[0].name, "a");
  EXPECT_EQ(flat->profiles[0].layers, (std::vector<Loads>{{1, 2}, {3, 4.5}}));
  Result<Statistics> steps =
      readStatistics(write("b.json", R"({"logical_count": [[[0,0],[1,2]],[[0,0],[0,0]],[[0,0],[5,6]]]})"), {});
  ASSERT_TRUE(steps.ok()) << steps.status().message();
  EXPECT_EQ(steps->profiles[0].layers, (std::vector<Loads>{{6, 8}}));
  EXPECT_EQ(steps->profiles[0].windows, (std::vector<std::vector<Loads>>{{{1, 2}}, {{5, 6}}}));
}

TEST_F(Files, ModelSaysWhichLayersAreDense) {
  const std::string path = write("a.json", R"({"logical_count": [[1,2],[0,0],[3,4]]})");
  expectError(path, "layer 1: all counts are zero, but it is an MoE layer");
  Result<Statistics> statistics = readStatistics(path, {2, 3, {0, 2}});
  ASSERT_TRUE(statistics.ok()) << statistics.status().message();
  EXPECT_EQ(statistics->profiles[0].layers, (std::vector<Loads>{{1, 2}, {3, 4}}));
  expectError(path, "layer 1: all counts are zero, but it is an MoE layer", {2, 3, {0, 1, 2}});
  expectError(path, "layer 2 has counts, but it is a dense layer of the model", {2, 3, {0, 1}});
  expectError(path, "has 3 layers, but the model has 5 decoder layers, of which 2 are MoE layers", {2, 5, {0, 2}});
  expectError(path, "has counts of 2 experts, but the model has 4", {4, 3, {0, 2}});
}

TEST_F(Files, TorchFiles) {
  Result<Statistics> sglang = readStatistics(input("sglang_stat.pt"), {});
  ASSERT_TRUE(sglang.ok()) << sglang.status().message();
  EXPECT_EQ(sglang->model.layerIds, (std::vector<int>{1, 2, 3}));
  EXPECT_EQ(sglang->profiles[0].windows.size(), 2u);
  // Steps 0 and 2 of layer 1, expert 0: 9 and 73.
  EXPECT_EQ(sglang->profiles[0].layers[0][0], 82);
  EXPECT_EQ(sglang->profiles[0].layers[2][7], 32 + 96);
  Result<Statistics> ascend = readStatistics(input("ascend_heat.pt"), {});
  ASSERT_TRUE(ascend.ok()) << ascend.status().message();
  EXPECT_EQ(ascend->profiles[0].layers[1], (Loads{2, 5, 8, 11, 14, 17, 20, 23}));
}

/// Numbers of the file that would reach outside of its storage, or make much of little, are refused.
TEST_F(Files, TorchTensorsStayWithinTheirStorage) {
  Result<PickledFile> whole = parseTorchFile("t.pt", torchFile(0, {2, 4}, {4, 1}));
  ASSERT_TRUE(whole.ok()) << whole.status().message();
  EXPECT_EQ(whole->tensors[""].values, (std::vector<double>{1, 2, 3, 4, 5, 6, 7, 8}));
  EXPECT_EQ(parseTorchFile("t.pt", torchFile(4, {2, 2}, {2, 1}))->tensors[""].values,
            (std::vector<double>{5, 6, 7, 8}));
  auto expect = [](const std::string &bytes, const std::string &part) {
    Result<PickledFile> file = parseTorchFile("t.pt", bytes);
    ASSERT_FALSE(file.ok()) << part;
    EXPECT_NE(file.status().message().find(part), std::string::npos) << file.status().message();
  };
  expect(torchFile(1, {2, 4}, {4, 1}), "a tensor reaches to element 8 of a storage of 8");
  expect(torchFile(-1, {2, 4}, {4, 1}), "a tensor begins at element -1 of a storage of 8");
  // The last element's number wraps around.
  expect(torchFile(INT64_MAX - 3, {2, 4}, {4, 1}), "begins at element 9223372036854775804 of a storage of 8");
  expect(torchFile(0, {2, 4}, {int64_t(1) << 62, 1}), "impossible shape");
  expect(torchFile(0, {1 << 20, 1 << 20}, {0, 0}), "impossible shape");
  expect(torchFile(0, std::vector<int64_t>(17, 1), std::vector<int64_t>(17, 1)), "from something else");
  expect(torchFile(0, {1 << 16, 64}, {0, 0}), "a tensor of 4194304 elements lies on a storage of 8");
  Result<PickledFile> empty = parseTorchFile("t.pt", torchFile(0, {1 << 27, 0, 1 << 27}, {0, 0, 0}));
  ASSERT_TRUE(empty.ok());
  EXPECT_EQ(empty->tensors[""].shape, (std::vector<int64_t>{0, 0, 0}));
}

TEST_F(Files, TorchFilesThatAreNot) {
  expectError(input("forbidden.pt"), "names the Python object 'posix.system', which is not allowed");
  Result<std::string> whole = moert::readers::readWholeFile(input("sglang_stat.pt"), 1 << 20);
  ASSERT_TRUE(whole.ok());
  expectError(write("short.pt", whole->substr(0, whole->size() / 2)), "not a whole file of torch.save");
  expectError(write("empty.pt", ""), "too short for a zip archive");
  // Any prefix and any flipped byte: an error or other numbers, never a crash.
  for (size_t size = 0; size < whole->size(); size += 7) {
    EXPECT_FALSE(parseTorchFile("cut", whole->substr(0, size)).ok()) << size;
  }
  for (size_t at = 0; at < whole->size(); ++at) {
    std::string flipped = *whole;
    flipped[at] = static_cast<char>(flipped[at] ^ 0xff);
    (void)parseTorchFile("flipped", flipped);
  }
}

TEST_F(Files, TensorRtLlm) {
  write("meta_info.json", R"({"num_experts": 3, "num_experts_per_token": 2})");
  write("rank0.safetensors", safetensors({{"10_3", {1, 2, 3}}, {"10_5", {4, 5, 6}}, {"11_3", {1, 1, 1}}}));
  write("rank1.safetensors", safetensors({{"10_3", {10, 20, 30}}, {"11_5", {0, 0, 7}}}));
  Result<Statistics> statistics = readStatistics(folder + "/", {});
  ASSERT_TRUE(statistics.ok()) << statistics.status().message();
  EXPECT_EQ(statistics->model.layerIds, (std::vector<int>{3, 5}));
  EXPECT_EQ(statistics->expertsPerToken, 2);
  EXPECT_EQ(statistics->profiles[0].layers, (std::vector<Loads>{{12, 23, 34}, {4, 5, 13}}));
  EXPECT_EQ(statistics->profiles[0].windows.size(), 2u);
  // The model knows of an MoE layer that nobody recorded.
  expectError(folder, "layer 4: all counts are zero, but it is an MoE layer", {3, 6, {3, 4, 5}});
  write("rank1.safetensors", safetensors({{"10_3", {10, 20}}}));
  expectError(folder, "tensor '10_3' is I64 of 2, but counts are I32 or I64 of the 3 experts");
  write("rank1.safetensors", safetensors({{"layer3", {1, 2, 3}}}));
  expectError(folder, "tensor 'layer3' is not named iteration_layer");
}

TEST_F(Files, RecordingReadsBack) {
  Statistics statistics = makeStatistics(3, 8, 2);
  statistics.expertsPerToken = 2;
  statistics.model.totalLayers = 5;
  statistics.model.layerIds = {1, 2, 4};
  statistics.profiles[0].windows = {statistics.profiles[0].layers, statistics.profiles[1].layers};
  statistics.profiles[1].pairs = {{{0, 1, 5}}, {}, {{2, 7, 1.5}, {3, 4, 2}}};
  statistics.profiles[1].firstCounts = statistics.profiles[0].layers;
  statistics.profiles[1].probabilities = {Loads(8, 0.125), Loads(8, 0.125), {0.25, 0.25, 0.25, 0.25, 0, 0, 0, 0}};
  const std::string text = writeRecording(statistics);
  Result<Statistics> read = readStatistics(write("routing.json", text), {});
  ASSERT_TRUE(read.ok()) << read.status().message();
  EXPECT_EQ(writeRecording(*read), text);
  EXPECT_TRUE(read->model == statistics.model);
  EXPECT_EQ(read->profiles[1].layers, statistics.profiles[1].layers);
  EXPECT_EQ(read->profiles[1].pairs[2][0].count, 1.5);
  auto with = [&](const std::string &from, const std::string &to) {
    std::string changed = text;
    changed.replace(changed.find(from), from.size(), to);
    return write("changed.json", changed);
  };
  expectError(with("\"version\":1", "\"version\":2"), "version: is 2, but this program reads version 1");
  expectError(with("[2,7,1.5]", "[7,2,1.5]"), "a pair is [i, j, count] with 0 <= i < j < 8");
  expectError(with("[1,2,4]", "[1,4,2]"), "is 2, but layers ascend");
  expectError(with("\"probabilities\"", "\"probability\""), "probabilities");
}

TEST_F(Files, BadStatistics) {
  expectError(folder + "/missing.json", "cannot be read: No such file or directory");
  expectError(write("a.json", R"({"logical_count": [[1, NaN]]})"), "holds NaN or Infinity, but counts are finite");
  expectError(write("a.json", R"({"logical_count": [[1, -3]]})"), "the count of expert 1 is -3");
  expectError(write("a.json", R"({"logical_count": [[1, 2], [1, 2, 3]]})"), "must be a list of 2 counts, but has 3");
  expectError(write("a.json", R"({"logical_count": [["x"]]})"), "must hold numbers only, but holds \"x\"");
  expectError(write("a.json", R"({"logical_count": []})"), "holds no counts");
  expectError(write("a.json", R"({"logical_count": [[0, 0], [0, 0]]})"), "all counts are zero; record more steps");
  expectError(write("a.json", R"({"counts": 1})"), "is not routing statistics");
  expectError(write("a.json", "{"), "not valid JSON");
  expectError(folder, "is a directory without meta_info.json");
  const std::string one = write("one.json", R"({"logical_count": [[1, 2]]})");
  const std::string two = write("two.json", R"({"logical_count": [[1, 2], [3, 4]]})");
  Result<Statistics> mixed = readAllStatistics({one, two}, {});
  ASSERT_FALSE(mixed.ok());
  EXPECT_NE(mixed.status().message().find("statistics of one plan are of one model"), std::string::npos);
}

/// A map with dense layers in front, as DeepSeek-R1's: 61 layers, the first three dense; and models without dense
/// layers.
TEST_F(Files, MapsReadBackInEveryFormat) {
  struct Shape {
    int layers, dense, experts, ranks, slots;
  };
  for (const Shape &shape : {Shape{61, 3, 256, 32, 288}, Shape{94, 0, 128, 16, 144}, Shape{32, 0, 8, 4, 8}}) {
    Statistics statistics = makeStatistics(shape.layers - shape.dense, shape.experts, 1);
    statistics.model.totalLayers = shape.layers;
    for (int &layer : statistics.model.layerIds) {
      layer += shape.dense;
    }
    PlanOptions options;
    options.cluster = {shape.ranks, shape.slots, 1};
    options.effort = 0.05;
    Result<Plan> plan = planPlacement(statistics, options);
    ASSERT_TRUE(plan.ok()) << plan.status().message();
    for (MapFormat format : {MapFormat::Json, MapFormat::Sglang, MapFormat::Trtllm, MapFormat::VllmAscend}) {
      const std::string text = writeMap(plan->map, format);
      EXPECT_TRUE(startsLikeMap(text.substr(0, 64)));
      const Status status = checkMapFile(plan->map, format, text);
      EXPECT_TRUE(status.ok()) << status.message();
      Result<Map> read = parseMap("map", text, statistics.model, shape.ranks);
      ASSERT_TRUE(read.ok()) << read.status().message();
      EXPECT_EQ(writeMap(*read, format), text);
      // And the check can fail.
      Map other = plan->map;
      std::swap(other.layers[0].front(), other.layers[0].back());
      EXPECT_FALSE(checkMapFile(other, format, text).ok());
      EXPECT_EQ(engineRules(format).size(), 4u);
      if (format == MapFormat::Json) {
        Map shared = plan->map;
        shared.shares.assign(shared.layers.size(), std::vector<int>(shape.slots, 7));
        const std::string with = writeMap(shared, format);
        EXPECT_TRUE(checkMapFile(shared, format, with).ok());
        EXPECT_FALSE(checkMapFile(shared, format, text).ok()) << "the file has no shares";
        EXPECT_EQ(parseMap("map", with, statistics.model, shape.ranks)->shares, shared.shares);
        shared.shares.back().pop_back();
        EXPECT_FALSE(parseMap("map", writeMap(shared, format), statistics.model, shape.ranks).ok());
      }
    }
  }
}

/// The engine's own script writes keys in alphabetical order.
TEST_F(Files, TensorRtLlmKeysInAnyOrder) {
  const ModelLayers model{2, 3, {1, 2}};
  Result<Map> map = parseMap(
      "map", "initial_global_assignments:\n  1: [1, 0]\n  2: [0, 1]\nlayer_updates_per_iter: 0\nnum_slots: 2\n", model,
      2);
  ASSERT_TRUE(map.ok()) << map.status().message();
  EXPECT_EQ(map->layers, (std::vector<LayerMap>{{1, 0}, {0, 1}}));
}

TEST_F(Files, BadMaps) {
  const ModelLayers model{2, 3, {1, 2}};
  auto expect = [&](const std::string &text, const std::string &part) {
    Result<Map> map = parseMap("map", text, model, 2);
    ASSERT_FALSE(map.ok()) << part;
    EXPECT_NE(map.status().message().find(part), std::string::npos) << map.status().message();
  };
  expect(R"({"physical_to_logical_map": [[0,1],[0,1]]})", "has 2 layers, but the model has 3 (dense ones included)");
  expect(R"({"physical_to_logical_map": [[0,1],[0,0],[0,1]]})", "layer 1: expert 1 has no slot");
  expect(R"({"physical_to_logical_map": [[0,1],[0,5],[0,1]]})", "slot 1 holds expert 5, but experts are 0 to 1");
  expect(R"({"physical_to_logical_map": [[0,1],[0,1],[0,1,0]]})", "layer 2: has 3 slots, but layer 1 has 2");
  expect(R"({"physical_to_logical_map": [[0,1,0],[0,1,0],[0,1,0]]})", "has 3 slots, which 2 ranks cannot share evenly");
  expect("num_slots: 2\ninitial_global_assignments:\n  0: [0, 1]\n", "layer 0 is not an MoE layer of the model");
  expect("num_slots: 2\ninitial_global_assignments:\n  1: [0, 1]\n", "has no slots for MoE layer 2");
  expect("num_slots: 2\nep_size: 2\n", "map:2: the keys are num_slots");
  expect("num_slots: 4\ninitial_global_assignments:\n  1: [0, 1]\n  2: [0, 1]\n",
         "layer 1 has 2 slots, but num_slots is 4");
  expect("num_slots: many\n", "map:1: num_slots must be a number");
  expect("layer_updates_per_iter: 0\n", "neither JSON nor has it num_slots");
  expect("num_slots: 2\ninitial_global_assignments:\n  1: [0, x]\n", "map:3: must be a list of expert numbers");
  expect(R"({"moe_layer_count": 1, "layer_list": []})", "has 0 layers and moe_layer_count 1");
  expect(R"({"format": "moe-placement", "version": 1, "experts": 4, "ranks": 2, "total_layers": 3, "layers": []})",
         "is for 4 experts, 2 ranks and 3 layers, but these are 2, 2 and 3");
  auto own = [](const std::string &layers) {
    return R"({"format": "moe-placement", "version": 1, "experts": 2, "ranks": 2, "slots": 4, "total_layers": 3, )"
           R"("layers": [)" +
           layers + "]}";
  };
  const std::string second = R"({"layer": 2, "slots": [0, 1, 1, 0], "shares": [1, 1, 1, 1]})";
  EXPECT_TRUE(
      parseMap("map", own(R"({"layer": 1, "slots": [0, 1, 0, 1], "shares": [1, 0, 0, 1]}, )" + second), model, 2).ok());
  expect(own(R"({"layer": 1, "slots": [0, 1, 0, 1], "shares": [0, 1, 0, 1]}, )" + second),
         "layer 1: all shares of expert 0 are 0");
  expect(own(R"({"layer": 1, "slots": [0, 1], "shares": [1, 1]}, )" + second), "has 2 slots, but the map says 4");
  expect(R"({"x": 1})", "is not a placement");
}
