// The CPU backend: launches are spread over the thread pool, workgroup by workgroup; memory is the process's own.
//
// Independent launches come as one job whose items are all their workgroups, so that the last workgroups of one
// overlap the first of the next. Commands run in list order; events are therefore nothing to do.
#include "runtime/backends/cpu/KernelLibrary.h"
#include "runtime/backends/cpu/ThreadPool.h"
#include "runtime/core/Backend.h"
#include "runtime/core/File.h"

#include <algorithm>
#include <cstring>

namespace moert {
namespace cpu {
namespace {

/// Large transfers are cut into pieces of this size and spread over the workers.
constexpr uint64_t kTransferPiece = uint64_t(1) << 20;

class CpuBackend final : public Backend {
public:
  CpuBackend(std::unique_ptr<ThreadPool> threadPool, Pages workerScratch, const BackendOptions &options)
      : communicator(options.communicator), deadlineNs(int64_t(options.deadlineSeconds * 1e9)),
        scratch(std::move(workerScratch)), pool(std::move(threadPool)) {}

  const char *name() const override { return "cpu"; }
  std::string place() const override { return "this machine"; }
  int threads() const override { return pool->threads(); }
  bool usesHostMemory() const override { return true; }
  uint64_t availableBytes() override { return physicalBytes(); }

  Status loadKernels(const std::string &path, const void *blob, size_t size, const std::string & /*machineCode*/,
                     const format::Variant &variant, std::vector<void *> &kernels) override {
    std::vector<std::string> symbols;
    for (uint32_t k = 0; variant.kernels() && k < variant.kernels()->size(); ++k) {
      symbols.push_back(variant.kernels()->Get(k)->symbol()->str());
    }
    MOERT_ASSIGN(library, KernelLibrary::load(path, blob, size, symbols));
    for (moert_cpu_kernel kernel : library.kernels()) {
      kernels.push_back(reinterpret_cast<void *>(kernel));
    }
    libraries.push_back(std::move(library));
    return {};
  }

  Result<void *> allocate(uint64_t bytes, const std::string &what, Contents) override {
    MOERT_ASSIGN(pages, Pages::allocate(bytes, what));
    void *memory = pages.data();
    allocations.push_back(std::move(pages));
    return memory;
  }

  void release(void *memory) override {
    allocations.erase(std::remove_if(allocations.begin(), allocations.end(),
                                     [&](const Pages &pages) { return pages.data() == memory; }),
                      allocations.end());
  }

  Result<const void *> attach(const void *host, uint64_t, const std::string &) override { return host; }

  bool launch(const Launch *launches, uint32_t count, uint32_t) override {
    int64_t items = 0;
    for (uint32_t i = 0; i < count; ++i) {
      items += launches[i].grid;
    }
    wave = {launches, count, scratch.data()};
    return pool->run(runLaunches, &wave, items);
  }

  bool copy(void *to, const void *from, uint64_t bytes, uint32_t) override {
    transfer = {static_cast<uint8_t *>(to), static_cast<const uint8_t *>(from), 0, bytes};
    return pool->run(runTransfer, &transfer, int64_t((bytes + kTransferPiece - 1) / kTransferPiece));
  }

  bool fill(void *to, uint8_t value, uint64_t bytes, uint32_t) override {
    transfer = {static_cast<uint8_t *>(to), nullptr, value, bytes};
    return pool->run(runTransfer, &transfer, int64_t((bytes + kTransferPiece - 1) / kTransferPiece));
  }

  /// Of one rank every collective is a copy. The workers are idle: every launch has ended.
  bool collectives(const CollectiveCall *calls, uint32_t count, uint32_t stream) override {
    for (uint32_t i = 0; i < count; ++i) {
      const CollectiveCall &call = calls[i];
      if (!(communicator ? communicator->collective(call, deadlineNs)
                         : call.to == call.from || copy(call.to, call.from, call.toBytes, stream))) {
        return false;
      }
    }
    return true;
  }

  bool record(uint32_t, uint32_t) override { return true; }
  bool wait(uint32_t, uint32_t) override { return true; }
  bool synchronize() override { return pool->waitIdle(); }
  bool settle() override { return pool->waitIdle(); }

private:
  struct Wave {
    const Launch *launches;
    uint32_t count;
    uint8_t *scratch;
  };
  struct Transfer {
    uint8_t *to;
    const uint8_t *from;
    uint8_t value;
    uint64_t bytes;
  };

  /// Items count through the workgroups of all launches in order.
  static void runLaunches(const void *context, int64_t begin, int64_t end, int worker) {
    const Wave &wave = *static_cast<const Wave *>(context);
    void *scratch = wave.scratch + size_t(worker) * MOERT_KERNEL_SCRATCH;
    const Launch *launch = wave.launches;
    int64_t base = 0;
    for (int64_t item = begin; item < end; ++item) {
      while (item - base >= launch->grid) {
        base += launch->grid;
        ++launch;
      }
      reinterpret_cast<moert_cpu_kernel>(launch->kernel)(launch->args, item - base, scratch);
    }
  }

  static void runTransfer(const void *context, int64_t begin, int64_t end, int) {
    const Transfer &transfer = *static_cast<const Transfer *>(context);
    uint64_t from = uint64_t(begin) * kTransferPiece;
    uint64_t bytes = std::min<uint64_t>(uint64_t(end) * kTransferPiece, transfer.bytes) - from;
    if (transfer.from) {
      memcpy(transfer.to + from, transfer.from + from, bytes);
    } else {
      memset(transfer.to + from, transfer.value, bytes);
    }
  }

  Communicator *communicator;
  int64_t deadlineNs;
  /// The job that runs. Not on the caller's stack: a worker may come back to it after the deadline.
  Wave wave = {};
  Transfer transfer = {};
  std::vector<KernelLibrary> libraries;
  std::vector<Pages> allocations;
  Pages scratch;
  /// Declared last: its workers end before what they use goes away.
  std::unique_ptr<ThreadPool> pool;
};

} // namespace
} // namespace cpu

const char *cpuBackendLacks(const format::Variant &variant, const format::Command &command) {
  if (command.kind() == format::CommandKind::HostCall) {
    return "no host function is registered";
  }
  if (command.kind() == format::CommandKind::Collective && variant.ranks() == 1 &&
      format::CollectiveKind(command.target()) == format::CollectiveKind::Exchange) {
    return "an exchange is for several ranks";
  }
  for (uint32_t o = 0; o < command.operand_count(); ++o) {
    if (variant.operands()->Get(command.first_operand() + o)->kind() == format::OperandKind::TensorMap) {
      return "a tensor map is made by a GPU driver";
    }
  }
  return nullptr;
}

Result<std::unique_ptr<Backend>> openCpuBackend(const BackendOptions &options) {
  const Communicator *communicator = options.communicator;
  const int threads =
      options.threads || !communicator ? options.threads : communicator->threadShare(cpu::availableCores());
  const int sharers = communicator ? communicator->sharers() : 1, share = communicator ? communicator->rank() : 0;
  MOERT_ASSIGN(pool, cpu::ThreadPool::create(threads, options.pin, options.deadlineSeconds, sharers, share % sharers));
  MOERT_ASSIGN(scratch, Pages::allocate(uint64_t(pool->threads()) * MOERT_KERNEL_SCRATCH, "the workers' scratch"));
  return std::unique_ptr<Backend>(new cpu::CpuBackend(std::move(pool), std::move(scratch), options));
}

} // namespace moert
