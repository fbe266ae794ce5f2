// Meeting, and messages over one connection per pair of ranks; see TcpTransport.h.
//
// Rank 0 listens at the address that all know. The others open a port of their own, tell rank 0, and get the list of
// all; then each connects to those of lower rank. A message is a header and its bytes; what arrives before it is asked
// for is kept. Sockets do not block: whoever tests a transfer moves all of that pair's.
#include "runtime/ranks/TcpTransport.h"

#include "runtime/core/Trace.h"
#include "runtime/ranks/Communicator.h"

#include <arpa/inet.h>
#include <cerrno>
#include <cstdlib>
#include <cstring>
#include <deque>
#include <fcntl.h>
#include <map>
#include <memory>
#include <netdb.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <unistd.h>
#include <vector>

namespace moert {
namespace {

constexpr uint32_t kMagic = 0x6d6f6574; // "moet"
/// How long an orderly end waits for what is still to be sent.
constexpr int64_t kFlushNs = 2000000000;

/// What a rank says first on a connection.
struct Hello {
  uint32_t magic;
  int32_t rank, ranks;
  uint16_t port; ///< where it listens, in network order
  uint16_t reserved;
};
/// Where a rank listens.
struct Place {
  sockaddr_storage address;
  uint32_t length, reserved;
};
struct Header {
  uint32_t tag, reserved;
  uint64_t bytes;
};

/// A file descriptor that closes itself.
class Socket {
public:
  explicit Socket(int handle = -1) : handle(handle) {}
  Socket(Socket &&other) noexcept : handle(std::exchange(other.handle, -1)) {}
  Socket &operator=(Socket &&other) noexcept {
    std::swap(handle, other.handle);
    return *this;
  }
  ~Socket() {
    if (handle >= 0) {
      ::close(handle);
    }
  }
  int handle;
};

struct Outgoing {
  uint64_t id;
  Header header;
  const uint8_t *data;
  uint64_t sent;              ///< of header and data
  std::vector<uint8_t> owned; ///< after a cancellation
};
struct Posted {
  uint64_t id;
  uint8_t *data;
  uint64_t room;
};
struct Finished {
  uint64_t bytes;
  bool isTooLong;
};

/// The connection to one other rank.
struct Peer {
  Socket socket;
  bool isGone = false; ///< nothing more comes
  bool isDeaf = false; ///< takes nothing more; what it said before, why it ended say, may still lie here
  std::deque<Outgoing> outgoing;
  std::map<uint32_t, std::deque<Posted>> posted;
  std::map<uint32_t, std::deque<std::vector<uint8_t>>> early;
  /// What is arriving: of the header, then of the data, which goes to `target` or is kept.
  Header header = {};
  uint64_t came = 0;
  Posted target = {0, nullptr, 0};
  std::vector<uint8_t> kept;
};

struct Network {
  int rank = 0;
  std::vector<Peer> peers;
  uint64_t nextId = 1;
  std::map<uint64_t, Finished> finished;

  void move(Peer &peer);
  bool sendSome(Peer &peer);
  bool receiveSome(Peer &peer);
  void beginMessage(Peer &peer);
  void endMessage(Peer &peer);
};

Network &networkOf(moert_transport *transport) { return *static_cast<Network *>(transport->state); }

//===--------------------------------------------------------------------------===//
// Messages
//===--------------------------------------------------------------------------===//

/// Writes what the socket takes; true if something went out.
bool Network::sendSome(Peer &peer) {
  if (peer.outgoing.empty() || peer.isDeaf) {
    return false;
  }
  Outgoing &next = peer.outgoing.front();
  const uint64_t all = sizeof(Header) + next.header.bytes;
  const uint8_t *from = next.sent < sizeof(Header) ? reinterpret_cast<const uint8_t *>(&next.header) + next.sent
                                                   : next.data + (next.sent - sizeof(Header));
  const uint64_t bytes = (next.sent < sizeof(Header) ? sizeof(Header) : all) - next.sent;
  const ssize_t went = ::send(peer.socket.handle, from, bytes, MSG_NOSIGNAL | MSG_DONTWAIT);
  if (went < 0) {
    peer.isDeaf |= errno != EAGAIN && errno != EWOULDBLOCK && errno != EINTR;
    return false;
  }
  next.sent += uint64_t(went);
  if (next.sent == all) {
    finished[next.id] = {next.header.bytes, false};
    peer.outgoing.pop_front();
  }
  return true;
}

/// After a header: where its data goes.
void Network::beginMessage(Peer &peer) {
  std::deque<Posted> &waiting = peer.posted[peer.header.tag];
  if (!waiting.empty()) {
    peer.target = waiting.front();
    waiting.pop_front();
  }
  if (!peer.target.id || peer.target.room < peer.header.bytes) {
    peer.kept.resize(peer.header.bytes);
  }
}

void Network::endMessage(Peer &peer) {
  if (peer.target.id) {
    const bool isTooLong = peer.header.bytes > peer.target.room;
    finished[peer.target.id] = {peer.header.bytes, isTooLong};
  } else if (std::deque<Posted> &waiting = peer.posted[peer.header.tag]; !waiting.empty()) {
    // Asked for while it arrived.
    const bool isTooLong = peer.header.bytes > waiting.front().room;
    if (!isTooLong && !peer.kept.empty()) {
      memcpy(waiting.front().data, peer.kept.data(), peer.kept.size());
    }
    finished[waiting.front().id] = {peer.header.bytes, isTooLong};
    waiting.pop_front();
  } else {
    peer.early[peer.header.tag].push_back(std::move(peer.kept));
  }
  peer.kept = {};
  peer.target = {0, nullptr, 0};
  peer.came = 0;
}

/// Reads what has arrived, up to the end of a message; true if something had.
bool Network::receiveSome(Peer &peer) {
  const bool inHeader = peer.came < sizeof(Header);
  uint8_t *to = inHeader            ? reinterpret_cast<uint8_t *>(&peer.header) + peer.came
                : peer.kept.empty() ? peer.target.data + (peer.came - sizeof(Header))
                                    : peer.kept.data() + (peer.came - sizeof(Header));
  const uint64_t bytes = (inHeader ? sizeof(Header) : sizeof(Header) + peer.header.bytes) - peer.came;
  const ssize_t got = ::recv(peer.socket.handle, to, bytes, MSG_DONTWAIT);
  if (got <= 0) {
    peer.isGone |= got == 0 || (errno != EAGAIN && errno != EWOULDBLOCK && errno != EINTR);
    return false;
  }
  peer.came += uint64_t(got);
  if (inHeader && peer.came == sizeof(Header)) {
    if (peer.header.bytes > MOERT_TRANSPORT_MESSAGE) {
      peer.isGone = true; // no rank of ours sends that
      return false;
    }
    beginMessage(peer);
  }
  if (peer.came >= sizeof(Header) && peer.came == sizeof(Header) + peer.header.bytes) {
    endMessage(peer);
  }
  return true;
}

void Network::move(Peer &peer) {
  while (!peer.isGone && (sendSome(peer) || receiveSome(peer))) {
  }
}

int send(moert_transport *transport, const void *data, size_t bytes, int to, int tag, moert_transfer *transfer) {
  Network &network = networkOf(transport);
  Peer &peer = network.peers[size_t(to)];
  transfer->words[0] = network.nextId++;
  transfer->words[1] = uint64_t(to);
  peer.outgoing.push_back({transfer->words[0], {uint32_t(tag), 0, bytes}, static_cast<const uint8_t *>(data), 0, {}});
  network.move(peer);
  return 0;
}

int receive(moert_transport *transport, void *data, size_t bytes, int from, int tag, moert_transfer *transfer) {
  Network &network = networkOf(transport);
  Peer &peer = network.peers[size_t(from)];
  transfer->words[0] = network.nextId++;
  transfer->words[1] = uint64_t(from);
  std::deque<std::vector<uint8_t>> &early = peer.early[uint32_t(tag)];
  if (early.empty()) {
    peer.posted[uint32_t(tag)].push_back({transfer->words[0], static_cast<uint8_t *>(data), bytes});
    return 0;
  }
  if (!early.front().empty() && early.front().size() <= bytes) {
    memcpy(data, early.front().data(), early.front().size());
  }
  network.finished[transfer->words[0]] = {early.front().size(), early.front().size() > bytes};
  early.pop_front();
  return 0;
}

int test(moert_transport *transport, moert_transfer *transfer, size_t *bytes) {
  Network &network = networkOf(transport);
  Peer &peer = network.peers[size_t(transfer->words[1])];
  network.move(peer);
  const auto found = network.finished.find(transfer->words[0]);
  if (found == network.finished.end()) {
    if (!peer.isGone) {
      return 0;
    }
    snprintf(transport->error, sizeof(transport->error), "rank %d has closed its connection", int(transfer->words[1]));
    return -1;
  }
  const Finished result = found->second;
  network.finished.erase(found);
  if (result.isTooLong) {
    snprintf(transport->error, sizeof(transport->error), "a message of %llu bytes has no room",
             static_cast<unsigned long long>(result.bytes));
    return -1;
  }
  *bytes = result.bytes;
  return 1;
}

void cancel(moert_transport *transport, moert_transfer *transfer) {
  Network &network = networkOf(transport);
  Peer &peer = network.peers[size_t(transfer->words[1])];
  const uint64_t id = transfer->words[0];
  network.finished.erase(id);
  for (auto &[tag, waiting] : peer.posted) {
    for (auto posted = waiting.begin(); posted != waiting.end(); ++posted) {
      if (posted->id == id) {
        waiting.erase(posted);
        return;
      }
    }
  }
  if (peer.target.id == id) {
    // The rest of it is read all the same.
    peer.kept.resize(peer.header.bytes);
    peer.target.room = 0;
    return;
  }
  for (Outgoing &outgoing : peer.outgoing) {
    if (outgoing.id == id) {
      // Whether begun or not, it goes out: a connection has no other way on.
      outgoing.owned.assign(outgoing.data, outgoing.data + outgoing.header.bytes);
      outgoing.data = outgoing.owned.data();
    }
  }
}

void close(moert_transport *transport) {
  std::unique_ptr<Network> network(&networkOf(transport));
  for (const int64_t begin = monotonicNs(); monotonicNs() - begin < kFlushNs; usleep(100)) {
    bool isLeft = false;
    for (Peer &peer : network->peers) {
      if (peer.socket.handle >= 0) {
        network->move(peer);
        isLeft |= !peer.isGone && !peer.outgoing.empty();
      }
    }
    if (!isLeft) {
      break;
    }
  }
  transport->state = nullptr;
}

/// What has come is taken first: a connection that is closed with something unread is reset, and what is under way to
/// the other side, the reason of a failure say, may be lost.
void drop(moert_transport *transport) {
  std::unique_ptr<Network> network(&networkOf(transport));
  for (Peer &peer : network->peers) {
    if (peer.socket.handle >= 0) {
      network->move(peer);
    }
  }
  transport->state = nullptr;
}

/// The others see that this one's connections are closed.
void endJob(moert_transport *, int status) { std::_Exit(status); }

//===--------------------------------------------------------------------------===//
// Meeting
//===--------------------------------------------------------------------------===//

std::string systemError(const std::string &doing) { return concat("cannot ", doing, ": ", strerror(errno)); }

/// Meets the others; every wait ends at `until`.
class Meeting {
public:
  Meeting(const Rendezvous &given, int64_t deadlineNs)
      : given(given), where(concat(given.host, ":", given.port)), until(monotonicNs() + deadlineNs),
        within(secondsText(deadlineNs)), places(size_t(given.ranks)) {}

  Status run(Network &network);

private:
  Status listenAt(int port);
  Status connectTo(const sockaddr *address, socklen_t length, const std::string &whom, Socket &socket);
  Status connectToRank0(Socket &socket);
  Status accept(Network &network, int expected);
  Status move(int socket, void *data, size_t bytes, bool isSend, const std::string &whom);
  Status late(const std::string &what) const {
    return error(Code::Deadline, "rank ", given.rank, ", meeting at ", where, ": ", what, " within ", within);
  }
  Status wrong(const std::string &what) const {
    return error(Code::IO, "rank ", given.rank, ", meeting at ", where, ": ", what);
  }

  const Rendezvous &given;
  const std::string where;
  const int64_t until;
  const std::string within;
  Socket listener;
  std::vector<Place> places;
};

/// On every address of this machine; of IPv4 only where it has no other.
Status Meeting::listenAt(int port) {
  listener = Socket(::socket(AF_INET6, SOCK_STREAM | SOCK_CLOEXEC, 0));
  const bool isOld = listener.handle < 0;
  sockaddr_in6 any = {};
  any.sin6_family = isOld ? AF_INET : AF_INET6; // zero is any address of either, and the port is at the same place
  any.sin6_port = htons(uint16_t(port));
  if (isOld) {
    listener = Socket(::socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0));
  }
  const int no = 0, yes = 1;
  if (listener.handle < 0 || (!isOld && setsockopt(listener.handle, IPPROTO_IPV6, IPV6_V6ONLY, &no, sizeof(no)) != 0) ||
      setsockopt(listener.handle, SOL_SOCKET, SO_REUSEADDR, &yes, sizeof(yes)) != 0 ||
      ::bind(listener.handle, reinterpret_cast<sockaddr *>(&any), isOld ? sizeof(sockaddr_in) : sizeof(any)) != 0 ||
      ::listen(listener.handle, given.ranks) != 0) {
    const bool isTaken = errno == EADDRINUSE;
    return wrong(systemError(concat("listen at port ", port)) + (isTaken ? "; choose another MASTER_PORT" : ""));
  }
  return {};
}

/// Sends or receives all of it.
Status Meeting::move(int socket, void *data, size_t bytes, bool isSend, const std::string &whom) {
  for (size_t done = 0; done < bytes;) {
    auto *at = static_cast<char *>(data) + done;
    const ssize_t moved = isSend ? ::send(socket, at, bytes - done, MSG_NOSIGNAL | MSG_DONTWAIT)
                                 : ::recv(socket, at, bytes - done, MSG_DONTWAIT);
    if (moved > 0) {
      done += size_t(moved);
      continue;
    }
    if (moved == 0 || (errno != EAGAIN && errno != EWOULDBLOCK && errno != EINTR)) {
      return wrong(concat(whom, " has closed its connection: did it fail, or is something else at that port?"));
    }
    if (monotonicNs() > until) {
      return late(concat(whom, " said nothing"));
    }
    pollfd wait = {socket, short(isSend ? POLLOUT : POLLIN), 0};
    ::poll(&wait, 1, 50);
  }
  return {};
}

/// Until somebody listens there.
Status Meeting::connectTo(const sockaddr *address, socklen_t length, const std::string &whom, Socket &socket) {
  for (;;) {
    socket = Socket(::socket(address->sa_family, SOCK_STREAM | SOCK_CLOEXEC, 0));
    if (socket.handle < 0) {
      return wrong(systemError("open a socket"));
    }
    if (::connect(socket.handle, address, length) == 0) {
      return {};
    }
    if (monotonicNs() > until) {
      return late(systemError(concat("reach ", whom)));
    }
    usleep(50000);
  }
}

Status Meeting::connectToRank0(Socket &socket) {
  addrinfo hints = {}, *found = nullptr;
  hints.ai_socktype = SOCK_STREAM;
  if (int code = getaddrinfo(given.host.c_str(), std::to_string(given.port).c_str(), &hints, &found); code != 0) {
    return wrong(concat("the host is not known: ", gai_strerror(code)));
  }
  std::unique_ptr<addrinfo, void (*)(addrinfo *)> owned(found, freeaddrinfo);
  return connectTo(found->ai_addr, found->ai_addrlen, "rank 0", socket);
}

/// Takes `expected` ranks that introduce themselves. Who does not speak as one of ours is sent away.
Status Meeting::accept(Network &network, int expected) {
  while (expected > 0) {
    pollfd wait = {listener.handle, POLLIN, 0};
    if (::poll(&wait, 1, 50) <= 0) {
      if (monotonicNs() > until) {
        std::string missing;
        for (int rank = 0; rank < given.ranks; ++rank) {
          const bool isExpected = rank > given.rank && network.peers[size_t(rank)].socket.handle < 0;
          missing += isExpected ? concat(missing.empty() ? "" : ", ", rank) : "";
        }
        return late(concat("no word of rank ", missing));
      }
      continue;
    }
    sockaddr_storage address = {};
    socklen_t length = sizeof(address);
    Socket socket(::accept4(listener.handle, reinterpret_cast<sockaddr *>(&address), &length, SOCK_CLOEXEC));
    Hello hello = {};
    // A stranger that says nothing keeps the others waiting for a second.
    Meeting brief(given, std::min<int64_t>(1000000000, until - monotonicNs()));
    if (socket.handle < 0 || !brief.move(socket.handle, &hello, sizeof(hello), false, "somebody").ok() ||
        hello.magic != kMagic) {
      continue;
    }
    if (hello.ranks != given.ranks || hello.rank <= given.rank || hello.rank >= given.ranks ||
        network.peers[size_t(hello.rank)].socket.handle >= 0) {
      return wrong(concat("somebody says to be rank ", hello.rank, " of ", hello.ranks, ", expected are ranks ",
                          given.rank + 1, " to ", given.ranks - 1, " of ", given.ranks, ", each once"));
    }
    reinterpret_cast<sockaddr_in6 *>(&address)->sin6_port = hello.port; // of either family
    places[size_t(hello.rank)] = {address, length, 0};
    network.peers[size_t(hello.rank)].socket = std::move(socket);
    --expected;
  }
  return {};
}

Status Meeting::run(Network &network) {
  MOERT_TRY(listenAt(given.rank == 0 ? given.port : 0));
  if (given.rank == 0) {
    MOERT_TRY(accept(network, given.ranks - 1));
    for (int rank = 1; rank < given.ranks; ++rank) {
      MOERT_TRY(move(network.peers[size_t(rank)].socket.handle, places.data(), places.size() * sizeof(Place), true,
                     concat("rank ", rank)));
    }
  } else {
    sockaddr_in6 own = {};
    socklen_t length = sizeof(own);
    if (getsockname(listener.handle, reinterpret_cast<sockaddr *>(&own), &length) != 0) {
      return wrong(systemError("find its own port"));
    }
    Hello hello = {kMagic, given.rank, given.ranks, own.sin6_port, 0};
    Socket &first = network.peers[0].socket;
    MOERT_TRY(connectToRank0(first));
    MOERT_TRY(move(first.handle, &hello, sizeof(hello), true, "rank 0"));
    MOERT_TRY(move(first.handle, places.data(), places.size() * sizeof(Place), false, "rank 0"));
    for (int rank = 1; rank < given.rank; ++rank) {
      const Place &place = places[size_t(rank)];
      Socket &socket = network.peers[size_t(rank)].socket;
      MOERT_TRY(
          connectTo(reinterpret_cast<const sockaddr *>(&place.address), place.length, concat("rank ", rank), socket));
      MOERT_TRY(move(socket.handle, &hello, sizeof(hello), true, concat("rank ", rank)));
    }
    MOERT_TRY(accept(network, given.ranks - 1 - given.rank));
  }
  for (Peer &peer : network.peers) {
    const int yes = 1;
    if (peer.socket.handle >= 0 && setsockopt(peer.socket.handle, IPPROTO_TCP, TCP_NODELAY, &yes, sizeof(yes)) != 0) {
      return wrong(systemError("set up a connection"));
    }
  }
  return {};
}

} // namespace

Result<moert_transport> openTcpTransport(const Rendezvous &meeting, int64_t deadlineNs) {
  if (meeting.ranks < 1 || meeting.rank < 0 || meeting.rank >= meeting.ranks || meeting.port < 1 ||
      meeting.port > 65535) {
    return error(Code::InvalidArgument, "rank ", meeting.rank, " of ", meeting.ranks, " ranks that meet at ",
                 meeting.host, ":", meeting.port, ": ranks go from 0 to one below their number, ports from 1 to 65535");
  }
  auto network = std::make_unique<Network>();
  network->rank = meeting.rank;
  network->peers = std::vector<Peer>(size_t(meeting.ranks));
  MOERT_TRY(Meeting(meeting, deadlineNs).run(*network));
  moert_transport transport = {};
  transport.abi = MOERT_TRANSPORT_ABI;
  transport.rank = meeting.rank;
  transport.ranks = meeting.ranks;
  transport.local_rank = meeting.localRank;
  transport.local_ranks = meeting.localRanks;
  transport.send = send;
  transport.receive = receive;
  transport.test = test;
  transport.cancel = cancel;
  transport.close = close;
  transport.drop = drop;
  transport.end_job = endJob;
  transport.state = network.release();
  return transport;
}

} // namespace moert
