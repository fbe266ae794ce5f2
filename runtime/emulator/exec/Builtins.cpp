//===- Builtins.cpp - Functions that the toolchain leaves to the device ----===//
//
// vprintf, __assertfail, malloc and free: calls of declared functions without a
// body. Any other such call is an error that names the function.
//
//===----------------------------------------------------------------------===//
#include "runtime/emulator/exec/Access.h"

#include <algorithm>
#include <cstdio>
#include <cstring>
#include <mutex>

namespace moert::emulator {

/// Argument `i` of the call for lane `l`, as 64 bits.
static uint64_t argument(Warp &w, const Op &op, unsigned i, unsigned l) {
  const Ref &from = w.grid->code->refs[op.list + i];
  if (from.base != refLocalParam) {
    return w.lane(from, l);
  }
  // A parameter may be smaller than the 8 bytes that are asked for.
  const size_t stride = w.frame->code->paramBytes;
  uint64_t value = 0;
  if (from.offset < stride) {
    std::memcpy(&value, &w.frame->params[l * stride + from.offset], std::min<size_t>(8, stride - from.offset));
  }
  return value;
}

static void setResult(Warp &w, const Op &op, unsigned l, uint64_t value, unsigned size) {
  if (!op.list2Count) {
    return;
  }
  const Ref &to = w.grid->code->refs[op.list2];
  if (to.base == refLocalParam) {
    if (uint8_t *bytes = w.frame->callBytes(l, to.offset, size)) {
      std::memcpy(bytes, &value, size);
    }
  } else {
    w.setLane(to, l, value);
    w.setUndefined(to, 0, 1U << l);
  }
}

/// A C string of the device; false after a report.
static bool deviceString(Warp &w, const Op &op, unsigned lane, uint64_t address, std::string &out) {
  while (out.size() < 4096) {
    uint8_t *pointer = nullptr;
    Shadow *shadow = nullptr;
    uint64_t offset = 0;
    Block *owner = nullptr;
    if (resolveOne(w, op, lane, address++, ptx::Space::None, 1, false, 1, pointer, shadow, offset, owner) !=
        Step::Next) {
      return false;
    }
    if (*pointer == 0) {
      return true;
    }
    out += char(*pointer);
  }
  return true;
}

static bool deviceBytes(Warp &w, const Op &op, unsigned lane, uint64_t address, void *to, unsigned size) {
  uint8_t *pointer = nullptr;
  Shadow *shadow = nullptr;
  uint64_t offset = 0;
  Block *owner = nullptr;
  if (resolveOne(w, op, lane, address, ptx::Space::None, size, false, 1, pointer, shadow, offset, owner) !=
      Step::Next) {
    return false;
  }
  std::memcpy(to, pointer, size);
  return true;
}

/// Formats as printf does; arguments lie in a buffer, each aligned to its size.
static bool format(Warp &w, const Op &op, unsigned lane, const std::string &text, uint64_t buffer, std::string &out) {
  uint64_t at = buffer;
  for (size_t i = 0; i < text.size(); ++i) {
    if (text[i] != '%') {
      out += text[i];
      continue;
    }
    std::string spec = "%";
    ++i;
    while (i < text.size() && text[i] && std::strchr("-+ #0123456789.", text[i])) {
      spec += text[i++];
    }
    bool longOne = false;
    while (i < text.size() && text[i] && std::strchr("hlLqjzt", text[i])) {
      longOne |= text[i] != 'h';
      ++i;
    }
    if (i >= text.size()) {
      break;
    }
    char kind = text[i];
    if (kind == '%') {
      out += '%';
      continue;
    }
    if (!kind || !std::strchr("dioxXucspfFeEgGaA", kind)) { // `*` and `n` among them: not in CUDA's printf
      out += spec + kind;
      continue;
    }
    bool wide = longOne || std::strchr("fFeEgGaAsp", kind);
    unsigned size = wide ? 8 : 4;
    at = (at + size - 1) / size * size;
    uint64_t value = 0;
    if (!deviceBytes(w, op, lane, at, &value, size)) {
      return false;
    }
    at += size;
    char piece[512];
    if (kind == 's') {
      std::string s;
      if (!deviceString(w, op, lane, value, s)) {
        return false;
      }
      std::snprintf(piece, sizeof piece, (spec + "s").c_str(), s.c_str());
    } else if (std::strchr("fFeEgGaA", kind)) {
      double d;
      std::memcpy(&d, &value, 8);
      std::snprintf(piece, sizeof piece, (spec + kind).c_str(), d);
    } else if (kind == 'p') {
      std::snprintf(piece, sizeof piece, "0x%llx", (unsigned long long)value);
    } else if (kind == 'd' || kind == 'i') {
      std::snprintf(piece, sizeof piece, (spec + "lld").c_str(),
                    wide ? (long long)value : (long long)int32_t(uint32_t(value)));
    } else if (kind == 'c') {
      std::snprintf(piece, sizeof piece, "%c", int(value & 255));
    } else {
      std::snprintf(piece, sizeof piece, (spec + "ll" + kind).c_str(), (unsigned long long)value);
    }
    out += piece;
  }
  return true;
}

static void print(Warp &w, const std::string &text) {
  static std::mutex turn; // blocks may run on several host threads
  std::lock_guard<std::mutex> lock(turn);
  if (w.grid->config.print) {
    w.grid->config.print(text);
  } else {
    std::fputs(text.c_str(), stdout);
  }
}

bool isBuiltin(const std::string &name) {
  return name == "vprintf" || name == "__assertfail" || name == "malloc" || name == "free";
}

Step callBuiltin(Warp &w, const Op &op, uint32_t m, const ptx::Function &function) {
  const unsigned first = unsigned(__builtin_ctz(m));
  const Step failed = Step::Failed;
  if (function.name == "vprintf" && op.listCount == 2) {
    for (unsigned l = 0; l < 32; ++l) {
      if (m >> l & 1) {
        std::string text, out;
        if (!deviceString(w, op, l, argument(w, op, 0, l), text) ||
            !format(w, op, l, text, argument(w, op, 1, l), out)) {
          return failed;
        }
        print(w, out);
        setResult(w, op, l, out.size(), 4);
      }
    }
  } else if (function.name == "__assertfail" && op.listCount >= 4) {
    std::string what, file, where;
    if (!deviceString(w, op, first, argument(w, op, 0, first), what) ||
        !deviceString(w, op, first, argument(w, op, 1, first), file) ||
        !deviceString(w, op, first, argument(w, op, 3, first), where)) {
      return failed;
    }
    uint64_t line = argument(w, op, 2, first) & 0xFFFFFFFF;
    print(w, file + ":" + std::to_string(line) + ": " + where + ": assertion `" + what + "` failed\n");
    return w.fault(FindingKind::Trap, LaunchError::Assert, op, first, "assertion `" + what + "` failed in " + where);
  } else if (function.name == "malloc" && op.listCount == 1) {
    for (unsigned l = 0; l < 32; ++l) {
      if (m >> l & 1) {
        setResult(w, op, l, w.grid->memory->allocate(w.grid->kernel->program->device(), argument(w, op, 0, l)), 8);
      }
    }
  } else if (function.name == "free" && op.listCount == 1) {
    for (unsigned l = 0; l < 32; ++l) {
      if (m >> l & 1) {
        uint64_t address = argument(w, op, 0, l);
        if (address && !w.grid->memory->free(address)) {
          return w.fault(FindingKind::OutOfBounds, LaunchError::IllegalAddress, op, l,
                         "free of an address that malloc did not give");
        }
      }
    }
  } else {
    return w.fault(FindingKind::Illegal, LaunchError::IllegalInstruction, op, first,
                   "a call of " + function.name + ", which has no body in this module");
  }
  ++w.pc;
  return Step::Jumped;
}

} // namespace moert::emulator
