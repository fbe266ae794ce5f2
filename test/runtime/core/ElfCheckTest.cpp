// The ELF check: real kernels pass, each defect is refused by name, damage anywhere never crashes.
#include "runtime/backends/cpu/ElfCheck.h"
#include "runtime/backends/cpu/KernelLibrary.h"
#include "test/runtime/core/TestPackage.h"

#include <gtest/gtest.h>
#include <random>

using namespace moert;
using namespace moert::test;

namespace {

Status check(const std::string &blob, const std::vector<std::string> &kernels = {"kernel"}) {
  return cpu::checkKernelElf("kernels.so", blob.data(), blob.size(), kernels);
}

std::string bad(const char *defect) { return readFile(std::string(TEST_BAD_KERNELS) + defect + ".so"); }

struct Defect {
  const char *name, *message;
};

class ElfDefectTest : public testing::TestWithParam<Defect> {};

TEST_P(ElfDefectTest, IsRefused) {
  std::string blob = bad(GetParam().name);
  ASSERT_FALSE(blob.empty());
  Status status = check(blob);
  EXPECT_EQ(status.code(), Code::Corrupt);
  EXPECT_NE(status.message().find(GetParam().message), std::string::npos) << status.message();
}

INSTANTIATE_TEST_SUITE_P(ElfCheck, ElfDefectTest,
                         testing::Values(Defect{"UNDEFINED", "symbol 'puts' is undefined"},
                                         Defect{"NEEDED", "it needs another library"},
                                         Defect{"CONSTRUCTOR", "it has constructors or destructors"},
                                         Defect{"DESTRUCTOR", "it has constructors or destructors"},
                                         Defect{"TLS", "it has thread-local storage"},
                                         Defect{"IFUNC", "symbol 'indirect' is resolved by running code"},
                                         Defect{"EXECSTACK", "it wants an executable stack"},
                                         Defect{"NODELETE", "it cannot be unloaded"},
                                         Defect{"INIT", "it has a constructor or destructor (DT_INIT, DT_FINI)"},
                                         Defect{"ABI_MISSING", "'moert_kernel_abi' (kernel ABI version) is missing"}),
                         [](const auto &info) { return std::string(info.param.name); });

TEST(ElfCheck, SoundKernelsPass) {
  EXPECT_TRUE(check(bad("NONE")).ok()) << check(bad("NONE")).message();
  Status status = check(bad("NONE"), {"kernel", "other"});
  EXPECT_NE(status.message().find("kernel 'other' is missing"), std::string::npos) << status.message();
  // The ABI's version is an object, no function.
  EXPECT_FALSE(check(bad("NONE"), {"moert_kernel_abi"}).ok());
}

TEST(ElfCheck, OtherFilesAreRefused) {
  EXPECT_NE(check("").message().find("it is no ELF file"), std::string::npos);
  EXPECT_NE(check("#!/bin/sh\n" + std::string(100, ' ')).message().find("it is no ELF file"), std::string::npos);
  std::string blob = bad("NONE");
  std::string other = blob;
  other[4] = 1;
  EXPECT_NE(check(other).message().find("not a 64-bit little-endian shared object"), std::string::npos);
  other = blob;
  other[16] = 2; // ET_EXEC
  EXPECT_NE(check(other).message().find("type 2"), std::string::npos);
  other = blob;
  other[18] = 8; // MIPS
  EXPECT_EQ(check(other).code(), Code::Unsupported);
}

TEST(ElfCheck, DamageNeverCrashes) {
  const std::string blob = bad("NONE");
  for (size_t size = 0; size < blob.size(); ++size) {
    (void)check(blob.substr(0, size));
  }
  for (size_t i = 0; i < blob.size(); ++i) {
    for (unsigned char value : {0x00, 0x7f, 0xff}) {
      std::string damaged = blob;
      damaged[i] = char(value);
      (void)check(damaged);
    }
  }
  std::mt19937 random(1);
  for (int round = 0; round < 2000; ++round) {
    std::string damaged = blob;
    for (int i = 0; i < 8; ++i) {
      damaged[random() % damaged.size()] = char(random());
    }
    (void)check(damaged);
  }
}

TEST(KernelLibrary, LoadsAndRuns) {
  std::string blob = readFile(TEST_KERNELS);
  auto library = cpu::KernelLibrary::load("kernels.so", blob.data(), blob.size(), {"fold", "scale"});
  ASSERT_TRUE(library.ok()) << library.status().message();
  ASSERT_EQ(library->kernels().size(), 2u);
  float weight[2] = {1, 2}, add[2] = {10, 20};
  uint64_t args[3] = {reinterpret_cast<uintptr_t>(weight), reinterpret_cast<uintptr_t>(add), 2};
  library->kernels()[0](args, 0, nullptr);
  EXPECT_EQ(weight[0], 12);
  EXPECT_EQ(weight[1], 24);
}

/// Two libraries with the same symbols at the same time, and again after one has gone.
TEST(KernelLibrary, EachHasItsOwn) {
  std::string first = readFile(TEST_KERNELS), second = bad("NONE");
  for (int round = 0; round < 3; ++round) {
    auto a = cpu::KernelLibrary::load("a.so", first.data(), first.size(), {"fold"});
    auto b = cpu::KernelLibrary::load("b.so", second.data(), second.size(), {"kernel"});
    auto c = cpu::KernelLibrary::load("c.so", first.data(), first.size(), {"fold"});
    ASSERT_TRUE(a.ok() && b.ok() && c.ok());
    EXPECT_NE(a->kernels()[0], c->kernels()[0]);
  }
}

TEST(KernelLibrary, OtherAbiIsRefused) {
  std::string blob = bad("ABI_OTHER");
  auto library = cpu::KernelLibrary::load("kernels.so", blob.data(), blob.size(), {"kernel"});
  ASSERT_FALSE(library.ok());
  EXPECT_EQ(library.status().code(), Code::Unsupported);
  EXPECT_NE(library.status().message().find("has kernel ABI 99, this runtime has 1"), std::string::npos);
}

} // namespace
