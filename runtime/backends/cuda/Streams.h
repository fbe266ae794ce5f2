//===- Streams.h - Streams of a session and the events between them -*- C++ -*-===//
//
// The first stream has everything that is not said to be elsewhere: copies of inputs and results, collectives, most
// kernels. The others have what may run beside it. They begin a step behind what the first had by then, by a wait of
// the schedule or, if there is none, by one of their own; `join` makes the first wait for them again.
//
// Key idea: the first stream's priority is higher, so that what runs beside it takes what it leaves of the GPU. A
// graph that is captured keeps order and priorities.
//
//===----------------------------------------------------------------------===//
#ifndef MOERT_BACKENDS_CUDA_STREAMS_H
#define MOERT_BACKENDS_CUDA_STREAMS_H

#include "runtime/backends/cuda/Driver.h"

#include <vector>

namespace moert::cuda {

/// Its context is current in every call.
class Streams {
public:
  explicit Streams(Driver &api) : api(api) {}

  /// Makes the first.
  CUresult open() { return add(); }
  /// Makes the others of a program.
  CUresult prepare(uint32_t streams, uint32_t events);
  void close();

  CUstream first() const { return all.empty() ? nullptr : all[0].stream; }
  /// A stream that is to get something.
  CUresult use(uint32_t number, CUstream &stream);
  CUresult record(uint32_t event, uint32_t number);
  CUresult wait(uint32_t event, uint32_t number);
  /// What the first gets from now on waits for all others.
  CUresult join();

  /// Whether a kernel was the last to go into a stream: behind anything else nothing is launched early.
  bool endsWithKernel(uint32_t number) const { return all[number].endsWithKernel; }
  void setEndsWithKernel(uint32_t number, bool does) { all[number].endsWithKernel = does; }

private:
  struct Stream {
    CUstream stream = nullptr;
    CUevent passed = nullptr; ///< of joins
    bool isUsed = false;      ///< since the last join
    bool endsWithKernel = false;
  };
  CUresult add();
  CUresult record(CUevent &event, CUstream stream);

  Driver &api;
  std::vector<Stream> all;
  std::vector<CUevent> events; ///< made when they are recorded first
  CUevent begun = nullptr;     ///< what another stream begins behind
};

} // namespace moert::cuda

#endif // MOERT_BACKENDS_CUDA_STREAMS_H
