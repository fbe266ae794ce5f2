// Ranks as processes: the plugin, or the connections, that reach the others, and the group of the one rank that is
// here.
#include "runtime/core/File.h"
#include "runtime/ranks/MessageRanks.h"
#include "runtime/ranks/TcpTransport.h"

#include <dlfcn.h>

namespace moert {
namespace {

class ProcessGroup final : public Group {
public:
  explicit ProcessGroup(std::unique_ptr<Communicator> communicator) : communicator(std::move(communicator)) {}
  int ranks() const override { return communicator->ranks(); }
  int ownRank() const override { return communicator->rank(); }
  Communicator *member(int rank) override { return rank == communicator->rank() ? communicator.get() : nullptr; }

private:
  std::unique_ptr<Communicator> communicator;
};

} // namespace

Result<std::shared_ptr<Group>> joinProcessGroup(const std::string &plugin) {
  const std::string path = plugin.empty() ? joinPath(libraryFolder(), "libmoert-mpi.so") : plugin;
  // Global: an MPI library loads parts of itself that look for its symbols. Never closed: it cannot be loaded twice.
  void *library = dlopen(path.c_str(), RTLD_NOW | RTLD_GLOBAL);
  if (!library) {
    return error(Code::NotFound, path, ": cannot be opened (", dlerror(),
                 "): it is built where an MPI is found (Debian: libopenmpi-dev), from that very MPI");
  }
  auto open = reinterpret_cast<moert_open_transport_function>(dlsym(library, "moert_open_transport"));
  if (!open) {
    return error(Code::Unsupported, path, ": exports no moert_open_transport: it is no transport of this runtime");
  }
  moert_transport transport = {};
  if (open(&transport) != 0) {
    transport.error[sizeof(transport.error) - 1] = 0;
    return error(Code::IO, path, ": ", transport.error);
  }
  if (transport.abi != MOERT_TRANSPORT_ABI) {
    return error(Code::Unsupported, path, ": has transport version ", transport.abi, ", this runtime has ",
                 MOERT_TRANSPORT_ABI, ": build both together");
  }
  return std::shared_ptr<Group>(std::make_shared<ProcessGroup>(makeMessageRank(transport)));
}

Result<std::shared_ptr<Group>> joinRendezvous(const Rendezvous &meeting, int64_t deadlineNs) {
  MOERT_ASSIGN(transport, openTcpTransport(meeting, deadlineNs));
  return std::shared_ptr<Group>(std::make_shared<ProcessGroup>(makeMessageRank(transport)));
}

} // namespace moert
