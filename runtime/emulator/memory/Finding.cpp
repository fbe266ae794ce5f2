//===- Finding.cpp - Text of findings, and the sink ------------------------===//
//
// See Finding.h. A sink keeps each text once: the same fault of the same two
// lines in a loop says nothing new, and kernels run thousands of threads.
//
//===----------------------------------------------------------------------===//
#include "runtime/emulator/memory/Finding.h"

#include <cstdlib>
#include <cxxabi.h>
#include <memory>

namespace moert::emulator {

std::string shortName(const std::string &symbol) {
  constexpr size_t most = 100;
  if (symbol.size() <= most) {
    return symbol;
  }
  int status = 0;
  std::unique_ptr<char, decltype(&std::free)> demangled(abi::__cxa_demangle(symbol.c_str(), nullptr, nullptr, &status),
                                                        &std::free);
  std::string name = demangled ? demangled.get() : symbol;
  if (name.rfind("void ", 0) == 0) { // what a kernel returns
    name.erase(0, 5);
  }
  return name.size() <= most ? name : name.substr(0, most - 3) + "...";
}

const char *findingName(FindingKind kind) {
  switch (kind) {
  case FindingKind::Race:
    return "race";
  case FindingKind::ProxyFence:
    return "missing proxy fence";
  case FindingKind::OutOfBounds:
    return "out of bounds";
  case FindingKind::Misaligned:
    return "misaligned";
  case FindingKind::Undefined:
    return "undefined";
  case FindingKind::Divergence:
    return "divergence";
  case FindingKind::Deadlock:
    return "deadlock";
  case FindingKind::Barrier:
    return "barrier";
  case FindingKind::Trap:
    return "trap";
  case FindingKind::Illegal:
    return "illegal";
  case FindingKind::Limit:
    return "limit";
  }
  return "finding";
}

static std::string dim(const Dim3 &d) {
  return "(" + std::to_string(d.x) + "," + std::to_string(d.y) + "," + std::to_string(d.z) + ")";
}

std::string Finding::text() const {
  std::string out = note ? "note: " : "";
  out += findingName(kind);
  out += ": ";
  if (!kernel.empty()) {
    out += shortName(kernel);
    if (line) {
      out += " line " + std::to_string(line) + ", block " + dim(block) + ", thread " + dim(thread);
    }
    out += ": ";
  }
  return out + what;
}

void FindingSink::report(Finding finding) {
  for (const Finding &other : kept) {
    if (other.kind == finding.kind && other.line == finding.line && other.kernel == finding.kernel &&
        other.note == finding.note && other.partner == finding.partner) {
      faultCount += !finding.note;
      return;
    }
  }
  faultCount += !finding.note;
  if (kept.size() < limit) {
    kept.push_back(std::move(finding));
  }
}

void FindingSink::clear() {
  kept.clear();
  faultCount = 0;
}

} // namespace moert::emulator
