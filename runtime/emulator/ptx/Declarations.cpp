//===- Declarations.cpp - Variables, parameters, registers ----------------===//
//
// `.space .align N .type name[d]... = {...}` and its relatives. Initialisers
// become bytes, addresses in them become relocations, because where a variable
// lies is known only when the module is loaded.
//
//===----------------------------------------------------------------------===//
#include "runtime/emulator/ptx/ParserState.h"

#include <algorithm>
#include <cstring>

namespace moert::emulator::ptx {

namespace {
/// No variable of a GPU is larger.
constexpr uint64_t maxVariableBytes = uint64_t(1) << 40;
/// Initialised bytes are held in memory while parsing.
constexpr uint64_t maxInitializedBytes = uint64_t(1) << 30;

uint64_t alignUp(uint64_t value, uint64_t align) { return (value + align - 1) / align * align; }
} // namespace

/// `.align 8`, `.v2`, `.attribute(.managed)`, `.ptr .global .align 16`, `.b32`, in any order, up to the name.
bool TextParser::parseVariablePrefix(Variable &variable) {
  bool aligned = false;
  while (token().kind == Token::Kind::Dotted) {
    const Token word = token();
    ++at;
    if (word.is(".align")) {
      uint64_t value = 0;
      if (!parseUnsigned(value, 1 << 16, "an alignment")) {
        return false;
      }
      if (value == 0 || (value & (value - 1)) != 0) {
        return fail(word.location, "alignment " + std::to_string(value) + " is not a power of two");
      }
      variable.align = static_cast<uint32_t>(value);
      aligned = true;
    } else if (word.is(".v2") || word.is(".v4")) {
      variable.vector = word.is(".v2") ? 2 : 4;
    } else if (word.is(".attribute")) {
      if (!expect("(", "after .attribute")) {
        return false;
      }
      if (token().is(".managed")) {
        variable.managed = true;
        ++at;
      } else if (token().is(".unified")) {
        ++at;
        uint64_t ignored = 0;
        if (!expect("(", "after .unified") || !parseUnsigned(ignored, UINT64_MAX, "an identifier") ||
            !expect(",", "between identifiers") || !parseUnsigned(ignored, UINT64_MAX, "an identifier") ||
            !expect(")", "after .unified")) {
          return false;
        }
      } else {
        return failHere(".managed or .unified");
      }
      if (!expect(")", "after the attribute")) {
        return false;
      }
    } else if (word.is(".ptr")) {
      static const std::pair<const char *, Space> spaces[] = {
          {".const", Space::Const}, {".global", Space::Global}, {".local", Space::Local}, {".shared", Space::Shared}};
      for (auto [name, space] : spaces) {
        if (token().is(name)) {
          variable.pointerSpace = space;
          ++at;
          break;
        }
      }
      if (token().is(".align")) {
        ++at;
        uint64_t value = 0;
        if (!parseUnsigned(value, 1 << 30, "an alignment")) {
          return false;
        }
        variable.pointerAlign = static_cast<uint32_t>(value);
      }
    } else {
      Type type = typeNamed(word.text.substr(1));
      bool opaque = type == Type::TexRef || type == Type::SamplerRef || type == Type::SurfRef;
      bool packed = type == Type::TF32 || type == Type::E4M3 || type == Type::E5M2 || type == Type::E4M3x2 ||
                    type == Type::E5M2x2 || type == Type::U16x2 || type == Type::S16x2 || type == Type::F32x2;
      if (type == Type::None || packed || type == Type::Pred || bitsOf(type) < 8) {
        return fail(word.location, "'" + std::string(word.text) + "' is no type or attribute of a variable");
      }
      if (opaque) {
        return fail(word.location, "textures, samplers and surfaces are not supported");
      }
      variable.type = type;
    }
  }
  if (variable.type == Type::None) {
    return failHere("a type such as .b32");
  }
  uint32_t natural = bytesOf(variable.type) * variable.vector;
  if (aligned && variable.align < bytesOf(variable.type)) {
    return failHere("an alignment of at least " + std::to_string(bytesOf(variable.type)) + " for ." +
                    nameOf(variable.type) + " (not " + std::to_string(variable.align) + ")");
  }
  variable.align = aligned ? variable.align : natural;
  return true;
}

/// `name`, `name[4][2]`, `name[]`.
bool TextParser::parseDeclarator(Variable &variable, bool allowSizeless, std::string_view &name) {
  variable.location = token().location;
  if (!expectName(name, "the name of a variable")) {
    return false;
  }
  variable.name = std::string(name);
  variable.size = bytesOf(variable.type) * variable.vector;
  bool first = true;
  while (accept("[")) {
    if (first && accept("]")) {
      variable.dims.push_back(0);
      variable.sizeless = true;
      first = false;
      continue;
    }
    first = false;
    Location location = token().location;
    uint64_t extent = 0;
    if (!parseUnsigned(extent, maxVariableBytes, "an array extent") || !expect("]", "to close the extent")) {
      return false;
    }
    if (extent != 0 && variable.size > maxVariableBytes / extent) {
      return fail(location, "variable '" + variable.name + "' is larger than 2^40 bytes");
    }
    variable.dims.push_back(extent);
    variable.size *= extent;
  }
  if (variable.sizeless) {
    bool initialised = token().is("=");
    if (!allowSizeless && !initialised) {
      return fail(variable.location, "'" + variable.name +
                                         "' needs a size: only extern variables, parameters and those "
                                         "with an initialiser may leave it out");
    }
  }
  return true;
}

/// Everything after `.global`, `.shared`, ... up to the semicolon.
bool TextParser::parseVariables(Space space, Linkage linkage) {
  Variable common;
  common.space = space;
  common.linkage = linkage;
  if (!parseVariablePrefix(common)) {
    return false;
  }
  do {
    Variable variable = common;
    uint64_t element = bytesOf(variable.type) * variable.vector;
    std::string_view name;
    if (!parseDeclarator(variable, linkage == Linkage::Extern, name)) {
      return false;
    }
    bool sizeless = variable.sizeless;
    if (token().is("<")) { // name<10>: ten variables
      return failHere("no parameterised variable names; only registers have them here");
    }
    if (token().is("=")) {
      if (space != Space::Global && space != Space::Const) {
        return failHere("';': only .global and .const variables have initialisers");
      }
      ++at;
      if (sizeless) {
        variable.dims[0] = UINT64_MAX; // grows; fixed below
      }
      if (!parseInitializer(variable)) {
        return false;
      }
      if (sizeless) {
        uint64_t row = element;
        for (size_t i = 1; i < variable.dims.size(); ++i) {
          row *= variable.dims[i];
        }
        uint64_t used = variable.data.size();
        variable.dims[0] = row ? (used + row - 1) / row : 0;
        variable.size = variable.dims[0] * row;
        variable.sizeless = false;
      }
    } else if (sizeless) {
      variable.size = 0;
    }
    if (!declareVariable(std::move(variable), name)) {
      return false;
    }
  } while (accept(","));
  return expect(";", "after a variable");
}

/// Adds it to the module, or to the function when it is .local or .param.
bool TextParser::declareVariable(Variable variable, std::string_view name) {
  Location location = variable.location;
  if (function && (variable.space == Space::Local || variable.space == Space::Param)) {
    uint64_t &bytes = variable.space == Space::Local ? function->localBytes : function->paramBytes;
    variable.offset = alignUp(bytes, variable.align);
    bytes = variable.offset + variable.size;
    if (bytes > UINT32_MAX) {
      return fail(location, "the frame of '" + function->name + "' is larger than 4 GiB");
    }
    if (variable.space == Space::Local) {
      function->localAlign = std::max(function->localAlign, variable.align);
    }
    auto entry = Entry{Entry::Kind::Local, static_cast<uint32_t>(function->locals.size())};
    function->locals.push_back(std::move(variable));
    return declare(name, entry, location);
  }
  auto entry = Entry{Entry::Kind::Variable, static_cast<uint32_t>(module.variables.size())};
  auto own = [&](uint32_t index) { // the addresses in its initialiser
    for (size_t i = references.size(); i > 0 && references[i - 1].variable == none; --i) {
      references[i - 1].variable = index;
    }
  };
  if (function) {
    own(entry.index);
    module.variables.push_back(std::move(variable));
    return declare(name, entry, location);
  }
  auto found = globals.find(variable.name);
  if (found != globals.end()) {
    if (found->second.kind != Entry::Kind::Variable) {
      return fail(location, "'" + variable.name + "' is already the name of a function");
    }
    Variable &earlier = module.variables[found->second.index];
    if (earlier.linkage != Linkage::Extern && variable.linkage != Linkage::Extern) {
      return fail(location,
                  "'" + variable.name + "' is declared twice; first in line " + std::to_string(earlier.location.line));
    }
    own(found->second.index);
    if (variable.linkage != Linkage::Extern) {
      earlier = std::move(variable);
    }
    return true;
  }
  own(entry.index);
  globals.emplace(variable.name, entry);
  module.variables.push_back(std::move(variable));
  return true;
}

/// `.reg .b32 a, %r<10>;`
bool TextParser::parseRegisters() {
  if (token().is(".v2") || token().is(".v4")) {
    return failHere("a scalar register: vectors of registers are written in braces");
  }
  const Token word = token();
  Type type = word.kind == Token::Kind::Dotted ? typeNamed(word.text.substr(1)) : Type::None;
  bool allowed = type == Type::Pred || (type >= Type::B16 && type <= Type::B128) ||
                 (type >= Type::U16 && type <= Type::U64) || (type >= Type::S16 && type <= Type::S64) ||
                 type == Type::F16 || type == Type::F16x2 || type == Type::F32 || type == Type::F64 ||
                 type == Type::B8 || type == Type::U8 || type == Type::S8;
  if (!allowed) {
    return failHere("the type of a register, such as .b32");
  }
  ++at;
  do {
    Location location = token().location;
    std::string_view name;
    if (!expectName(name, "the name of a register")) {
      return false;
    }
    if (accept("<")) {
      uint64_t count = 0; // above 7: `>` closes the count here
      if (!parseUnsigned(count, UINT32_MAX, "the number of registers", 7) ||
          !expect(">", "after the number of registers")) {
        return false;
      }
      if (!scopes[scope].ranges.emplace(name, NameScope::Range{count, type}).second) {
        return fail(location, "registers '" + std::string(name) + "' are declared twice in one scope");
      }
    } else if (!declare(name, {Entry::Kind::Register, addRegister(name, type)}, location)) {
      return false;
    }
  } while (accept(","));
  return expect(";", "after registers");
}

/// Offsets in the parameter block of a kernel.
bool TextParser::placeParameters(Function &into) {
  uint64_t bytes = 0;
  for (Variable &parameter : into.parameters) {
    if (parameter.sizeless) {
      return fail(parameter.location, "parameter '" + parameter.name + "' of a kernel needs a size");
    }
    parameter.offset = alignUp(bytes, parameter.align);
    bytes = parameter.offset + parameter.size;
    uint64_t limit = module.target.version >= 81 && module.target.sm >= 70 ? 32764 : 4352;
    if (bytes > limit) {
      return fail(parameter.location, "parameters of '" + into.name + "' take " + std::to_string(bytes) +
                                          " bytes, the limit is " + std::to_string(limit));
    }
  }
  into.parameterBytes = bytes;
  return true;
}

bool TextParser::parseInitializer(Variable &variable) {
  if (!variable.dims.empty()) {
    if (!token().is("{")) {
      return failHere("'{' to start the initialiser of an array");
    }
    return parseInitializerValues(variable, 0, 0);
  }
  if (variable.vector > 1) {
    return token().is("{") ? parseInitializerValues(variable, 0, 0)
                           : failHere("'{' to start the initialiser of a vector");
  }
  if (accept("{")) {
    return parseInitializerScalar(variable, 0) && expect("}", "after the initialiser");
  }
  return parseInitializerScalar(variable, 0);
}

/// The list of dimension `dim`, whose first element has the scalar index `first`.
bool TextParser::parseInitializerValues(Variable &variable, size_t dim, uint64_t first) {
  if (!expect("{", "to start an initialiser")) {
    return false;
  }
  // A vector type is one more, innermost dimension.
  size_t dims = variable.dims.size() + (variable.vector > 1 ? 1 : 0);
  auto extentOf = [&](size_t i) { return i < variable.dims.size() ? variable.dims[i] : variable.vector; };
  uint64_t step = 1;
  for (size_t i = dim + 1; i < dims; ++i) {
    step *= extentOf(i);
  }
  uint64_t count = 0;
  while (!token().is("}")) {
    if (count >= extentOf(dim)) {
      return failHere("'}': the initialiser of '" + variable.name + "' has more than " + std::to_string(extentOf(dim)) +
                      " values");
    }
    bool nested = token().is("{");
    if (nested && dim + 1 >= dims) {
      return failHere("a value: '" + variable.name + "' has only " + std::to_string(dims) + " dimensions");
    }
    uint64_t index = first + count * step;
    if (nested ? !parseInitializerValues(variable, dim + 1, index) : !parseInitializerScalar(variable, index)) {
      return false;
    }
    // A flat list fills the inner dimensions one by one.
    if (!nested && dim + 1 < dims) {
      for (uint64_t i = 1; i < step && token().is(",") && !token(1).is("{"); ++i) {
        ++at;
        if (!parseInitializerScalar(variable, index + i)) {
          return false;
        }
      }
    }
    ++count;
    if (!accept(",")) {
      break;
    }
  }
  return expect("}", "to close the initialiser");
}

/// A number, `sym`, `sym+8`, `generic(sym)+8`, or `0xFF00(sym)` (one byte of an address).
bool TextParser::parseInitializerScalar(Variable &variable, uint64_t index) {
  unsigned bytes = bytesOf(variable.type);
  Location location = token().location;
  if (index > maxInitializedBytes / bytes - 1) {
    return fail(location, "the initialiser of '" + variable.name + "' is larger than 1 GiB");
  }
  uint64_t offset = index * bytes;
  if (variable.data.size() < offset + bytes) {
    variable.data.resize(offset + bytes);
  }
  Relocation relocation;
  relocation.offset = offset;
  relocation.size = static_cast<uint8_t>(bytes);
  bool isMask = token().kind == Token::Kind::Integer && token(1).is("(");
  if (isMask) {
    Constant mask;
    if (!parseInteger(token(), mask)) {
      return false;
    }
    ++at;
    unsigned shift = 0;
    while (shift < 64 && mask.bits != uint64_t(0xFF) << shift) {
      shift += 8;
    }
    if (shift >= 64 || bytes != 1) {
      return fail(location, "a mask of an address must select one byte (0xFF, 0xFF00, ...) of a .b8 or .u8 array");
    }
    relocation.shift = static_cast<uint8_t>(shift);
  }
  bool parenthesis = isMask && accept("(");
  if (token().kind == Token::Kind::Name && !token().is("WARP_SZ")) {
    std::string_view name;
    if (token().is("generic") && token(1).is("(")) {
      at += 2;
      relocation.generic = true;
      if (!expectName(name, "the name of a variable") || !expect(")", "after generic(")) {
        return false;
      }
    } else if (!expectName(name, "the name of a variable or function")) {
      return false;
    }
    if (!parseOffset(relocation.addend) || (parenthesis && !expect(")", "after the mask's address"))) {
      return false;
    }
    if (!isMask && bytes < 4) {
      return fail(location, "an address does not fit in ." + std::string(nameOf(variable.type)));
    }
    // The target may be declared further down; resolved at the end of the module.
    references.push_back({none, static_cast<uint32_t>(variable.relocations.size()), std::string(name), location});
    variable.relocations.push_back(relocation);
    return true;
  }
  if (isMask) {
    return failHere("the name of a variable or function");
  }
  Constant value;
  if (!parseConstant(value)) {
    return false;
  }
  RawOperand raw;
  raw.kind = RawOperand::Kind::Constant;
  raw.constant = value;
  raw.location = location;
  Operand operand;
  if (!bindConstant(raw, variable.type, operand)) {
    return false;
  }
  std::memcpy(variable.data.data() + offset, &operand.bits, std::min<size_t>(bytes, 8));
  return true;
}

} // namespace moert::emulator::ptx
