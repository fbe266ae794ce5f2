//===- Types.cpp - Names and sizes of PTX's vocabularies ------------------===//
//
// Tables behind Types.h, and the look-ups by name of Module.h.
//
//===----------------------------------------------------------------------===//
#include "runtime/emulator/ptx/Module.h"

namespace moert::emulator::ptx {

namespace {

struct TypeFacts {
  const char *name;
  uint8_t bits;
};

// In the order of `Type`.
const TypeFacts typeFacts[] = {
    {"", 0},       {"pred", 1}, {"b8", 8},     {"b16", 16},  {"b32", 32},    {"b64", 64},        {"b128", 128},
    {"u8", 8},     {"u16", 16}, {"u32", 32},   {"u64", 64},  {"s8", 8},      {"s16", 16},        {"s32", 32},
    {"s64", 64},   {"f16", 16}, {"f16x2", 32}, {"bf16", 16}, {"bf16x2", 32}, {"tf32", 32},       {"f32", 32},
    {"f32x2", 64}, {"f64", 64}, {"e4m3", 8},   {"e5m2", 8},  {"e4m3x2", 16}, {"e5m2x2", 16},     {"u16x2", 32},
    {"s16x2", 32}, {"b1", 1},   {"u4", 4},     {"s4", 4},    {"texref", 64}, {"samplerref", 64}, {"surfref", 64},
};
static_assert(sizeof(typeFacts) / sizeof(typeFacts[0]) == static_cast<size_t>(Type::SurfRef) + 1);

const char *const spaceNames[] = {"generic", "reg",    "const",           "global", "local",
                                  "param",   "shared", "shared::cluster", "tex"};
static_assert(sizeof(spaceNames) / sizeof(spaceNames[0]) == static_cast<size_t>(Space::Tex) + 1);

} // namespace

unsigned bitsOf(Type type) { return typeFacts[static_cast<size_t>(type)].bits; }
unsigned bytesOf(Type type) { return (bitsOf(type) + 7) / 8; }
const char *nameOf(Type type) { return typeFacts[static_cast<size_t>(type)].name; }
const char *nameOf(Space space) { return spaceNames[static_cast<size_t>(space)]; }

bool isFloat(Type type) { return type >= Type::F16 && type <= Type::E5M2x2; }
bool isSigned(Type type) { return (type >= Type::S8 && type <= Type::S64) || type == Type::S16x2 || type == Type::S4; }

const char *nameOf(Opcode opcode) {
  static const char *const names[] = {
#define EMU_PTX_NAME(enumerator, name) name,
      EMU_PTX_OPCODES(EMU_PTX_NAME)
#undef EMU_PTX_NAME
  };
  return names[static_cast<size_t>(opcode)];
}

namespace {
struct SpecialFacts {
  const char *name;
  Type type;
};
const SpecialFacts specialFacts[] = {
#define EMU_PTX_FACTS(enumerator, name, type) {name, Type::type},
    EMU_PTX_SPECIALS(EMU_PTX_FACTS)
#undef EMU_PTX_FACTS
};
} // namespace

const char *nameOf(SpecialRegister special) { return specialFacts[static_cast<size_t>(special)].name; }
Type typeOf(SpecialRegister special) { return specialFacts[static_cast<size_t>(special)].type; }

uint32_t Module::findFunction(std::string_view name) const {
  for (uint32_t i = 0; i < functions.size(); ++i) {
    if (functions[i].name == name) {
      return i;
    }
  }
  return none;
}

uint32_t Module::findVariable(std::string_view name) const {
  for (uint32_t i = 0; i < variables.size(); ++i) {
    if (variables[i].name == name) {
      return i;
    }
  }
  return none;
}

} // namespace moert::emulator::ptx
