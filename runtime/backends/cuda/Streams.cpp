// Streams of a session and the events between them; see Streams.h.
#include "runtime/backends/cuda/Streams.h"

namespace moert::cuda {

CUresult Streams::add() {
  int least = 0, greatest = 0;
  const CUresult result = api.streamPriorities(&least, &greatest);
  const int priority = all.empty() ? greatest : least;
  all.emplace_back();
  return result ? result : api.streamCreate(&all.back().stream, CU_STREAM_NON_BLOCKING, priority);
}

CUresult Streams::prepare(uint32_t streams, uint32_t eventCount) {
  CUresult result = CUDA_SUCCESS;
  while (!result && all.size() < streams) {
    result = add();
  }
  events.resize(eventCount);
  return result;
}

void Streams::close() {
  for (Stream &one : all) {
    events.push_back(one.passed);
    if (one.stream) {
      api.streamDestroy(one.stream);
    }
  }
  events.push_back(begun);
  for (CUevent event : events) {
    if (event) {
      api.eventDestroy(event);
    }
  }
  all.clear();
  events.clear();
  begun = nullptr;
}

CUresult Streams::record(CUevent &event, CUstream stream) {
  const CUresult result = event ? CUDA_SUCCESS : api.eventCreate(&event, CU_EVENT_DISABLE_TIMING);
  return result ? result : api.eventRecord(event, stream);
}

CUresult Streams::use(uint32_t number, CUstream &stream) {
  Stream &own = all[number];
  stream = own.stream;
  if (number == 0 || own.isUsed) {
    return CUDA_SUCCESS;
  }
  own.isUsed = true;
  const CUresult result = record(begun, first());
  return result ? result : api.streamWait(stream, begun, 0);
}

CUresult Streams::record(uint32_t event, uint32_t number) {
  CUstream stream;
  const CUresult result = use(number, stream);
  return result ? result : record(events[event], stream);
}

// Who recorded the event began behind the first stream, and so does who waits for it.
CUresult Streams::wait(uint32_t event, uint32_t number) {
  all[number].isUsed = true;
  all[number].endsWithKernel = false;
  return api.streamWait(all[number].stream, events[event], 0);
}

CUresult Streams::join() {
  CUresult result = CUDA_SUCCESS;
  for (size_t number = 1; number < all.size(); ++number) {
    Stream &other = all[number];
    if (other.isUsed && !result) {
      result = record(other.passed, other.stream);
      result = result ? result : api.streamWait(first(), other.passed, 0);
      all[0].endsWithKernel = false;
    }
    other.isUsed = other.endsWithKernel = false;
  }
  return result;
}

} // namespace moert::cuda
