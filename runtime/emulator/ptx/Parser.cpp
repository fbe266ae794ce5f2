//===- Parser.cpp - Module level of PTX -----------------------------------===//
//
// .version, .target, functions and their directives. Debug information (.loc,
// .file, .section) is read over; everything else unknown is an error.
//
//===----------------------------------------------------------------------===//
#include "runtime/emulator/ptx/ParserState.h"

namespace moert::emulator::ptx {

std::string ParseError::str() const {
  return std::to_string(line) + ":" + std::to_string(column) + ": " + message + "\n  " + text;
}

std::variant<Module, ParseError> parseModule(std::string_view text, DeviceTarget device) {
  TextParser parser(text, device);
  if (!parser.run()) {
    return std::move(parser.error);
  }
  return std::move(parser.module);
}

bool TextParser::fail(Location location, std::string message) {
  if (!failed) {
    failed = true;
    error = {location.line, location.column, lineAt(source, location.line), std::move(message)};
  }
  return false;
}

bool TextParser::failHere(const std::string &expected) {
  return fail(token().location, "expected " + expected + ", found '" + std::string(token().text.substr(0, 60)) + "'");
}

bool TextParser::accept(std::string_view text) {
  if (!token().is(text)) {
    return false;
  }
  ++at;
  return true;
}

bool TextParser::expect(std::string_view text, const char *where) {
  return accept(text) || failHere("'" + std::string(text) + "' " + where);
}

bool TextParser::expectName(std::string_view &name, const char *what) {
  if (token().kind != Token::Kind::Name) {
    return failHere(what);
  }
  name = token().text;
  ++at;
  return true;
}

bool TextParser::run() {
  if (!tokenize(source, tokens, error)) {
    return false;
  }
  if (!parseHeader()) {
    return false;
  }
  while (token().kind != Token::Kind::End) {
    if (!parseModuleItem()) {
      return false;
    }
  }
  return finish();
}

/// `.version 8.0` and `.target sm_90a` come first; `.address_size 64` follows.
bool TextParser::parseHeader() {
  if (!accept(".version")) {
    return failHere(".version at the start of the module");
  }
  const Token &version = token();
  size_t dot = version.text.find('.');
  bool good =
      version.kind == Token::Kind::Float && dot != std::string_view::npos && dot <= 2 && dot + 2 == version.text.size();
  unsigned number = 0;
  for (char c : version.text) {
    if (c != '.') {
      good &= c >= '0' && c <= '9';
      number = number * 10 + static_cast<unsigned>(c - '0');
    }
  }
  if (!good) {
    return failHere("a version such as 8.0");
  }
  module.target.version = static_cast<uint16_t>(number);
  ++at;
  if (!token().is(".target")) {
    return failHere(".target after .version");
  }
  return parseTarget();
}

bool TextParser::parseTarget() {
  ++at;
  do {
    const Token word = token();
    std::string_view text;
    if (!expectName(text, "a target such as sm_90a")) {
      return false;
    }
    if (text.substr(0, 3) == "sm_") {
      unsigned sm = 0;
      size_t i = 3;
      for (; i < text.size() && i < 6 && text[i] >= '0' && text[i] <= '9'; ++i) {
        sm = sm * 10 + static_cast<unsigned>(text[i] - '0');
      }
      char suffix = i + 1 == text.size() ? text[i] : '\0';
      if (i == 3 || i + (suffix ? 1 : 0) != text.size() || (suffix && suffix != 'a' && suffix != 'f')) {
        return fail(word.location, "unknown target '" + std::string(text) + "'");
      }
      module.target.sm = static_cast<uint16_t>(sm);
      module.target.suffix = suffix;
      std::string have = "sm_" + std::to_string(device.sm) + (device.suffix ? std::string(1, device.suffix) : "");
      bool same = sm == device.sm && (suffix == device.suffix || suffix == 'f');
      if (sm > device.sm || (suffix && !same)) {
        return fail(word.location, "the module is for " + std::string(text) + ", the device is " + have);
      }
    } else if (text == "debug") {
      module.target.debug = true;
    } else if (text != "texmode_unified" && text != "texmode_independent") {
      return fail(word.location, "unknown target '" + std::string(text) + "'");
    }
  } while (accept(","));
  if (module.target.sm == 0) {
    return failHere("a target such as sm_90a");
  }
  return true;
}

bool TextParser::parseModuleItem() {
  const Token first = token();
  if (accept(";")) {
    return true;
  }
  if (first.is(".address_size")) {
    ++at;
    Location location = token().location;
    uint64_t bits = 0;
    if (!parseUnsigned(bits, 64, "the address size")) {
      return false;
    }
    if (bits != 64) {
      return fail(location, ".address_size must be 64, not " + std::to_string(bits));
    }
    return true;
  }
  if (first.is(".loc")) {
    return skipLoc();
  }
  if (first.is(".file")) {
    return parseFile();
  }
  if (first.is(".section")) {
    return skipSection();
  }
  if (first.is(".pragma")) {
    ++at;
    return parsePragma();
  }
  if (first.is(".alias")) {
    return parseAlias();
  }
  Linkage linkage = Linkage::Internal;
  static const std::pair<const char *, Linkage> linkages[] = {{".visible", Linkage::Visible},
                                                              {".extern", Linkage::Extern},
                                                              {".weak", Linkage::Weak},
                                                              {".common", Linkage::Common}};
  for (auto [name, value] : linkages) {
    if (token().is(name)) {
      linkage = value;
      ++at;
      break;
    }
  }
  const Token kind = token();
  ++at;
  if (kind.is(".entry") || kind.is(".func")) {
    return parseFunction(linkage, kind.is(".entry"));
  }
  if (kind.is(".global")) {
    return parseVariables(Space::Global, linkage);
  }
  if (kind.is(".const")) {
    // .const[2]: banks are gone since PTX 2.2
    return parseVariables(Space::Const, linkage);
  }
  if (kind.is(".shared")) {
    return parseVariables(Space::Shared, linkage);
  }
  if (kind.is(".local")) {
    return fail(kind.location, ".local variables at module level are not supported; declare them in a function");
  }
  return fail(kind.location, "unknown directive '" + std::string(kind.text.substr(0, 60)) + "' at module level");
}

bool TextParser::parseAlias() {
  ++at;
  const Token first = token();
  std::string_view alias, target;
  if (!expectName(alias, "the name of a function") || !expect(",", "between the names")) {
    return false;
  }
  const Token second = token();
  if (!expectName(target, "the name of a function") || !expect(";", "after .alias")) {
    return false;
  }
  auto from = globals.find(std::string(alias)), to = globals.find(std::string(target));
  for (auto [found, token] : {std::pair(from, first), std::pair(to, second)}) {
    if (found == globals.end() || found->second.kind != Entry::Kind::Function) {
      return fail(token.location, "'" + std::string(token.text) + "' is no function that is declared before");
    }
  }
  aliases.push_back({from->second.index, to->second.index});
  return true;
}

/// `(.param .b64 a, .reg .b32 b)`
bool TextParser::parseParameterList(Function &into, std::vector<Variable> &out, bool kernel) {
  if (!expect("(", "before parameters")) {
    return false;
  }
  if (accept(")")) {
    return true;
  }
  do {
    Variable parameter;
    if (accept(".reg")) {
      if (kernel) {
        return fail(tokens[at - 1].location, "parameters of a kernel are in .param space");
      }
      parameter.space = Space::Reg;
    } else if (expect(".param", "(or .reg) before a parameter")) {
      parameter.space = Space::Param;
    } else {
      return false;
    }
    std::string_view name;
    if (!parseVariablePrefix(parameter) || !parseDeclarator(parameter, true, name)) {
      return false;
    }
    if (parameter.sizeless) {
      parameter.size = 0;
    }
    out.push_back(std::move(parameter));
  } while (accept(","));
  return expect(")", "after parameters");
}

bool TextParser::parseDimensions(uint32_t out[3], const char *directive) {
  out[0] = out[1] = out[2] = 1;
  for (unsigned i = 0; i < 3; ++i) {
    uint64_t value = 0;
    if (!parseUnsigned(value, UINT32_MAX, directive)) {
      return false;
    }
    out[i] = static_cast<uint32_t>(value);
    if (!accept(",")) {
      break;
    }
  }
  return true;
}

bool TextParser::parseFunctionDirectives(Function &into) {
  auto number = [&](uint32_t &out, const char *what) {
    uint64_t value = 0;
    if (!parseUnsigned(value, UINT32_MAX, what)) {
      return false;
    }
    out = static_cast<uint32_t>(value);
    return true;
  };
  LaunchBounds &bounds = into.bounds;
  while (token().kind == Token::Kind::Dotted) {
    const Token word = token();
    ++at;
    bool good = true;
    if (word.is(".maxntid")) {
      good = parseDimensions(bounds.maxntid, ".maxntid");
    } else if (word.is(".reqntid")) {
      good = parseDimensions(bounds.reqntid, ".reqntid");
    } else if (word.is(".reqnctapercluster")) {
      good = parseDimensions(bounds.reqnctapercluster, ".reqnctapercluster");
    } else if (word.is(".maxclusterrank")) {
      good = number(bounds.maxclusterrank, ".maxclusterrank");
    } else if (word.is(".minnctapersm")) {
      good = number(bounds.minnctapersm, ".minnctapersm");
    } else if (word.is(".maxnctapersm")) {
      good = number(bounds.maxnctapersm, ".maxnctapersm");
    } else if (word.is(".maxnreg")) {
      good = number(bounds.maxnreg, ".maxnreg");
    } else if (word.is(".explicitcluster")) {
      bounds.explicitcluster = true;
    } else if (word.is(".blocksareclusters")) {
      bounds.blocksareclusters = true;
    } else if (word.is(".noreturn")) {
      into.noreturn = true;
    } else if (word.is(".pragma")) {
      Function *outer = function;
      function = &into;
      good = parsePragma();
      function = outer;
    } else if (word.is(".abi_preserve") || word.is(".abi_preserve_control")) {
      uint32_t ignored = 0;
      good = number(ignored, "a number of registers");
    } else {
      return fail(word.location, "unknown directive '" + std::string(word.text) + "' of a function");
    }
    if (!good) {
      return false;
    }
  }
  return true;
}

bool TextParser::parseFunction(Linkage linkage, bool kernel) {
  Function parsed;
  parsed.isKernel = kernel;
  parsed.linkage = linkage;
  if (token().is(".attribute")) { // .attribute(.unified(1, 2))
    return failHere("the name of the function: attributes of functions are not supported");
  }
  if (!kernel && token().is("(") && !parseParameterList(parsed, parsed.results, false)) {
    return false;
  }
  if (parsed.results.size() > 1) {
    return failHere("the name of the function after one result");
  }
  parsed.location = token().location;
  std::string_view name;
  if (!expectName(name, "the name of a function")) {
    return false;
  }
  parsed.name = std::string(name);
  if (token().is("(") && !parseParameterList(parsed, parsed.parameters, kernel)) {
    return false;
  }
  if (kernel && !placeParameters(parsed)) {
    return false;
  }
  if (!parseFunctionDirectives(parsed)) {
    return false;
  }

  auto found = globals.find(parsed.name);
  uint32_t index = none;
  if (found == globals.end()) {
    index = static_cast<uint32_t>(module.functions.size());
    globals.emplace(parsed.name, Entry{Entry::Kind::Function, index});
    module.functions.push_back(std::move(parsed));
  } else {
    if (found->second.kind != Entry::Kind::Function) {
      return fail(parsed.location, "'" + parsed.name + "' is already the name of a variable");
    }
    index = found->second.index;
    Function &earlier = module.functions[index];
    bool same = earlier.isKernel == kernel && earlier.parameters.size() == parsed.parameters.size() &&
                earlier.results.size() == parsed.results.size();
    for (size_t i = 0; same && i < parsed.parameters.size(); ++i) {
      same = earlier.parameters[i].size == parsed.parameters[i].size;
    }
    if (!same) {
      return fail(parsed.location,
                  "'" + parsed.name + "' is declared differently in line " + std::to_string(earlier.location.line));
    }
    if (!earlier.isDefined) {
      earlier = std::move(parsed);
    } else if (token().is("{")) {
      return fail(parsed.location,
                  "'" + parsed.name + "' is defined twice; first in line " + std::to_string(earlier.location.line));
    }
  }
  if (accept(";")) {
    return true;
  }
  if (!expect("{", "to start the body of a function")) {
    return false;
  }
  module.functions[index].isDefined = true;
  bool good = parseBody(module.functions[index]);
  function = nullptr;
  return good;
}

/// `.pragma "nounroll";` Only those whose meaning is known; a mask of used bytes holds for the next instruction.
bool TextParser::parsePragma() {
  do {
    const Token word = token();
    if (word.kind != Token::Kind::String) {
      return failHere("a string after .pragma");
    }
    ++at;
    std::string_view text = word.text.substr(1, word.text.size() - 2);
    if (text.substr(0, 16) == "used_bytes_mask ") {
      Token number = word;
      number.text = text.substr(16);
      Constant mask;
      if (number.text.empty() || !parseInteger(number, mask)) { // nvcc -G writes 0 for a value that nobody reads
        return fail(word.location, "used_bytes_mask needs a mask");
      }
      usedBytesMask = mask.bits;
      continue;
    }
    std::string_view kind = text.substr(0, text.find(' '));
    if (kind != "nounroll" && kind != "enable_smem_spilling" && kind != "frequency") {
      return fail(word.location, "unknown pragma \"" + std::string(text) + "\"");
    }
    if (function) {
      function->pragmas.emplace_back(text);
    }
  } while (accept(","));
  return expect(";", "after .pragma");
}

/// `.loc 1 12 3`, perhaps `, function_name $L, inlined_at 1 5 2`: to the end of the line.
bool TextParser::skipLoc() {
  uint32_t line = token().location.line;
  while (token().kind != Token::Kind::End && token().location.line == line) {
    ++at;
  }
  return true;
}

/// `.file 1 "name"`, perhaps `, time, size`.
bool TextParser::parseFile() {
  ++at;
  uint64_t index = 0;
  if (!parseUnsigned(index, 1 << 20, "the index of a file")) {
    return false;
  }
  if (token().kind != Token::Kind::String) {
    return failHere("the name of the file");
  }
  if (module.files.size() <= index) {
    module.files.resize(index + 1);
  }
  module.files[index] = std::string(token().text.substr(1, token().text.size() - 2));
  ++at;
  while (accept(",")) {
    uint64_t ignored = 0;
    if (!parseUnsigned(ignored, UINT64_MAX, "time or size of a file")) {
      return false;
    }
  }
  return true;
}

bool TextParser::skipSection() {
  ++at;
  while (token().kind == Token::Kind::Dotted || token().kind == Token::Kind::Name) {
    ++at;
  }
  if (!expect("{", "after the name of a section")) {
    return false;
  }
  while (!token().is("}")) {
    if (token().kind == Token::Kind::End) {
      return failHere("'}' to close the section");
    }
    ++at;
  }
  ++at;
  return true;
}

/// Addresses in initialisers, aliases, layout.
bool TextParser::finish() {
  for (const PendingReference &reference : references) {
    auto found = globals.find(reference.name);
    if (found == globals.end()) {
      return fail(reference.location, "unknown name '" + reference.name + "' in an initialiser");
    }
    Relocation &relocation = module.variables[reference.variable].relocations[reference.relocation];
    relocation.function = found->second.kind == Entry::Kind::Function;
    relocation.target = found->second.index;
  }
  for (auto [alias, target] : aliases) {
    if (!module.functions[target].isDefined) {
      return fail(module.functions[alias].location, "'" + module.functions[alias].name + "' is an alias of '" +
                                                        module.functions[target].name + "', which has no body");
    }
    for (Function &user : module.functions) {
      for (Operand &operand : user.operands) {
        if (operand.kind == OperandKind::Function && operand.index == alias) {
          operand.index = target;
        }
      }
      for (std::vector<uint32_t> &table : user.callTables) {
        for (uint32_t &callee : table) {
          callee = callee == alias ? target : callee;
        }
      }
    }
    for (Variable &variable : module.variables) {
      for (Relocation &relocation : variable.relocations) {
        if (relocation.function && relocation.target == alias) {
          relocation.target = target;
        }
      }
    }
  }
  std::string message;
  if (!linkModule(module, message)) {
    return fail({1, 1}, message);
  }
  return true;
}

} // namespace moert::emulator::ptx
