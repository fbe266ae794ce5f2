// See RankHarness.h.
#include "test/runtime/ranks/RankHarness.h"

#include <algorithm>
#include <cstring>

namespace moert::test {

FakeNetwork &FakeNetwork::of(moert_transport *transport) { return *static_cast<FakeNetwork *>(transport->state); }

moert_transport FakeNetwork::transport(int rank) {
  moert_transport result = {};
  result.abi = MOERT_TRANSPORT_ABI;
  result.rank = rank;
  result.ranks = ranks;
  result.local_rank = rank;
  result.local_ranks = ranks;
  result.state = this;
  result.send = send;
  result.receive = receive;
  result.test = test;
  result.cancel = cancel;
  result.close = close;
  result.end_job = [](moert_transport *, int) {};
  return result;
}

void FakeNetwork::cut(int from, int to) {
  std::lock_guard<std::mutex> lock(mutex);
  isCut[{from, to}] = true;
}

int FakeNetwork::closed() {
  std::lock_guard<std::mutex> lock(mutex);
  return closes;
}

int FakeNetwork::send(moert_transport *transport, const void *data, size_t bytes, int to, int tag,
                      moert_transfer *transfer) {
  FakeNetwork &network = of(transport);
  std::lock_guard<std::mutex> lock(network.mutex);
  const Key key{transport->rank, to, tag};
  transfer->words[0] = 0; // a send is done at once
  if (!network.isCut[{transport->rank, to}]) {
    network.arrived[key].push_back(std::string(static_cast<const char *>(data), bytes));
    network.match(key);
  }
  return 0;
}

int FakeNetwork::receive(moert_transport *transport, void *data, size_t bytes, int from, int tag,
                         moert_transfer *transfer) {
  FakeNetwork &network = of(transport);
  std::lock_guard<std::mutex> lock(network.mutex);
  const Key key{from, transport->rank, tag};
  transfer->words[0] = network.next++;
  network.posted[transfer->words[0]] = {data, bytes, 0, false};
  network.waiting[key].push_back(transfer->words[0]);
  network.match(key);
  return 0;
}

/// Receives take what arrives in the order in which they were posted.
void FakeNetwork::match(const Key &key) {
  auto &messages = arrived[key];
  auto &receives = waiting[key];
  while (!messages.empty() && !receives.empty()) {
    Posted &receive = posted[receives.front()];
    receive.came = messages.front().size();
    memcpy(receive.data, messages.front().data(), std::min(receive.room, receive.came));
    receive.isDone = true;
    messages.pop_front();
    receives.pop_front();
  }
}

int FakeNetwork::test(moert_transport *transport, moert_transfer *transfer, size_t *bytes) {
  FakeNetwork &network = of(transport);
  std::lock_guard<std::mutex> lock(network.mutex);
  if (transfer->words[0] == 0) {
    return 1;
  }
  const Posted &receive = network.posted[transfer->words[0]];
  if (!receive.isDone) {
    return 0;
  }
  if (receive.came > receive.room) {
    strcpy(transport->error, "message truncated");
    return -1;
  }
  *bytes = receive.came;
  network.posted.erase(transfer->words[0]);
  return 1;
}

void FakeNetwork::cancel(moert_transport *transport, moert_transfer *transfer) {
  FakeNetwork &network = of(transport);
  std::lock_guard<std::mutex> lock(network.mutex);
  for (auto &[key, receives] : network.waiting) {
    receives.erase(std::remove(receives.begin(), receives.end(), transfer->words[0]), receives.end());
  }
  network.posted.erase(transfer->words[0]);
}

void FakeNetwork::close(moert_transport *transport) {
  FakeNetwork &network = of(transport);
  std::lock_guard<std::mutex> lock(network.mutex);
  ++network.closes;
}

Ranks::Ranks(bool areThreads, int ranks) : count(ranks) {
  if (areThreads) {
    group = *makeThreadGroup(ranks);
    return;
  }
  network = std::make_unique<FakeNetwork>(ranks);
  for (int rank = 0; rank < ranks; ++rank) {
    owned.push_back(makeMessageRank(network->transport(rank)));
  }
}

Communicator &Ranks::operator[](int rank) { return group ? *group->member(rank) : *owned[size_t(rank)]; }

void Ranks::run(const std::function<void(Communicator &)> &function, int missing) {
  std::vector<std::thread> threads;
  for (int rank = 0; rank < count; ++rank) {
    if (rank != missing) {
      threads.emplace_back([&, rank] { function((*this)[rank]); });
    }
  }
  for (std::thread &thread : threads) {
    thread.join();
  }
}

} // namespace moert::test
