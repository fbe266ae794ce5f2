//===- Body.cpp - Statements of a function --------------------------------===//
//
// Braces open scopes: registers, variables and labels of an inner scope hide
// those outside, and two scopes may use one label twice. Registers get their
// dense index when they are first used, so that `.reg .b32 %r<999>` costs
// nothing. Uses of labels are resolved when the body ends.
//
//===----------------------------------------------------------------------===//
#include "runtime/emulator/ptx/ParserState.h"

#include <algorithm>

namespace moert::emulator::ptx {

bool TextParser::declare(std::string_view name, Entry entry, Location location) {
  if (!scopes[scope].names.emplace(name, entry).second) {
    return fail(location, "'" + std::string(name) + "' is declared twice in one scope");
  }
  return true;
}

uint32_t TextParser::addRegister(std::string_view name, Type type) {
  function->registers.push_back({std::string(name), type});
  return static_cast<uint32_t>(function->registers.size() - 1);
}

/// What `name` means here; nullptr if nothing. Makes registers of ranges.
const Entry *TextParser::lookup(std::string_view name) {
  size_t digits = name.size();
  while (digits > 0 && name[digits - 1] >= '0' && name[digits - 1] <= '9') {
    --digits;
  }
  uint64_t number = 0;
  bool canonical = digits > 0 && digits < name.size() && name.size() - digits <= 10 &&
                   (name[digits] != '0' || digits + 1 == name.size());
  for (size_t i = digits; canonical && i < name.size(); ++i) {
    number = number * 10 + static_cast<uint64_t>(name[i] - '0');
  }
  for (uint32_t s = scope; s != none; s = scopes[s].parent) {
    NameScope &candidate = scopes[s];
    auto found = candidate.names.find(name);
    if (found != candidate.names.end()) {
      return &found->second;
    }
    if (canonical && !candidate.ranges.empty()) {
      auto range = candidate.ranges.find(name.substr(0, digits));
      if (range != candidate.ranges.end() && number < range->second.count) {
        Entry entry{Entry::Kind::Register, addRegister(name, range->second.type)};
        return &candidate.names.emplace(name, entry).first->second;
      }
    }
  }
  auto global = globals.find(std::string(name));
  return global == globals.end() ? nullptr : &global->second;
}

bool TextParser::parseBody(Function &into) {
  function = &into;
  scopes.clear();
  scopes.emplace_back();
  scope = 0;
  labelUses.clear();
  for (uint32_t i = 0; i < into.parameters.size(); ++i) {
    Variable &parameter = into.parameters[i];
    Entry entry{Entry::Kind::Parameter, i};
    if (parameter.space == Space::Reg) {
      parameter.reg = addRegister(parameter.name, parameter.type);
      entry = {Entry::Kind::Register, parameter.reg};
    }
    if (!parameter.name.empty() && !declare(parameter.name, entry, parameter.location)) {
      return false;
    }
  }
  for (uint32_t i = 0; i < into.results.size(); ++i) {
    Variable &result = into.results[i];
    Entry entry{Entry::Kind::Result, i};
    if (result.space == Space::Reg) {
      result.reg = addRegister(result.name, result.type);
      entry = {Entry::Kind::Register, result.reg};
    }
    if (!declare(result.name, entry, result.location)) {
      return false;
    }
  }
  // The body is a scope of its own: it may hide parameters.
  scopes.emplace_back();
  scopes.back().parent = 0;
  scope = 1;
  unsigned open = 1;
  while (open > 0) {
    if (token().kind == Token::Kind::End) {
      return failHere("'}' to close the body of '" + into.name + "'");
    }
    if (accept("{")) {
      scopes.emplace_back();
      scopes.back().parent = scope;
      scope = static_cast<uint32_t>(scopes.size() - 1);
      ++open;
    } else if (token().is("}")) {
      if (--open == 0) {
        // Falling off the end returns; it also gives labels at the end something to stand before.
        Instruction instruction;
        instruction.op = Opcode::Ret;
        instruction.location = token().location;
        into.instructions.push_back(instruction);
      }
      ++at;
      scope = scopes[scope].parent;
    } else if (!parseStatement()) {
      return false;
    }
  }
  if (!resolveLabels()) {
    return false;
  }
  buildBlocks(into);
  function = nullptr;
  return true;
}

bool TextParser::parseStatement() {
  const Token &first = token();
  if (first.is(";")) {
    ++at;
    return true;
  }
  if (first.kind == Token::Kind::Dotted) {
    static const std::pair<const char *, Space> spaces[] = {{".local", Space::Local},
                                                            {".param", Space::Param},
                                                            {".shared", Space::Shared},
                                                            {".global", Space::Global},
                                                            {".const", Space::Const}};
    for (auto [name, space] : spaces) {
      if (first.is(name)) {
        ++at;
        return parseVariables(space, Linkage::Internal);
      }
    }
    if (first.is(".reg")) {
      ++at;
      return parseRegisters();
    }
    if (first.is(".loc")) {
      return skipLoc();
    }
    if (first.is(".pragma")) {
      ++at;
      return parsePragma();
    }
    if (first.is(".file")) {
      return parseFile();
    }
    return fail(first.location, "unknown directive '" + std::string(first.text) + "' in a function");
  }
  if (first.kind == Token::Kind::Name && token(1).is(":")) {
    return parseLabelled();
  }
  return parseInstruction();
}

/// `label:`, or `name: .branchtargets ...;` and its relatives.
bool TextParser::parseLabelled() {
  const Token label = token();
  at += 2;
  if (token().is(".branchtargets") || token().is(".calltargets")) {
    bool calls = token().is(".calltargets");
    ++at;
    return parseTargets(label.text, calls);
  }
  if (token().is(".callprototype")) {
    ++at;
    return parsePrototype(label.text);
  }
  auto place = static_cast<uint32_t>(function->instructions.size());
  if (!scopes[scope].labels.emplace(label.text, place).second) {
    return fail(label.location, "label '" + std::string(label.text) + "' stands twice in one scope");
  }
  return true;
}

bool TextParser::parseTargets(std::string_view name, bool calls) {
  Location location = token().location;
  auto &tables = calls ? function->callTables : function->branchTables;
  auto index = static_cast<uint32_t>(tables.size());
  tables.emplace_back();
  do {
    const Token target = token();
    std::string_view text;
    if (!expectName(text, calls ? "the name of a function" : "a label")) {
      return false;
    }
    if (calls) {
      const Entry *entry = lookup(text);
      if (!entry || entry->kind != Entry::Kind::Function) {
        return fail(target.location, "'" + std::string(text) + "' is no function that is declared here");
      }
      tables[index].push_back(entry->index);
      continue;
    }
    // label<4> stands for label0 ... label3; compilers list labels one by one.
    if (token().is("<")) {
      return failHere("',' or ';': parameterised labels are not supported");
    }
    LabelUse use;
    use.table = index;
    use.tableIndex = static_cast<uint32_t>(tables[index].size());
    use.name = text;
    use.scope = scope;
    use.location = target.location;
    tables[index].push_back(none);
    labelUses.push_back(use);
  } while (accept(","));
  return expect(";", "after the targets") &&
         declare(name, {calls ? Entry::Kind::CallTargets : Entry::Kind::Targets, index}, location);
}

/// `.callprototype (.param .b32 _) _ (.param .b64 _, ...) .noreturn;`
bool TextParser::parsePrototype(std::string_view name) {
  Location location = token().location;
  Function shape;
  Prototype prototype;
  prototype.name = std::string(name);
  if (token().is("(") && !parseParameterList(shape, prototype.results, false)) {
    return false;
  }
  if (!token().is("_") && token().kind != Token::Kind::Name) {
    return failHere("'_' in place of the function's name");
  }
  ++at;
  if (token().is("(") && !parseParameterList(shape, prototype.parameters, false)) {
    return false;
  }
  while (token().kind == Token::Kind::Dotted) {
    if (accept(".noreturn")) {
      prototype.noreturn = true;
    } else if (accept(".abi_preserve") || accept(".abi_preserve_control")) {
      uint64_t ignored = 0;
      if (!parseUnsigned(ignored, UINT32_MAX, "a number of registers")) {
        return false;
      }
    } else {
      return failHere("';' or .noreturn");
    }
  }
  if (!expect(";", "after a call prototype")) {
    return false;
  }
  auto index = static_cast<uint32_t>(function->prototypes.size());
  function->prototypes.push_back(std::move(prototype));
  return declare(name, {Entry::Kind::Prototype, index}, location);
}

bool TextParser::resolveLabels() {
  for (const LabelUse &use : labelUses) {
    uint32_t target = none;
    for (uint32_t s = use.scope; s != none && target == none; s = scopes[s].parent) {
      auto found = scopes[s].labels.find(use.name);
      target = found == scopes[s].labels.end() ? none : found->second;
    }
    if (target == none) {
      return fail(use.location, "label '" + std::string(use.name) + "' is not defined in this scope");
    }
    if (use.operand != none) {
      function->operands[use.operand].index = target;
    } else {
      function->branchTables[use.table][use.tableIndex] = target;
    }
  }
  return true;
}

bool TextParser::parseInstruction() {
  Instruction guarded;
  guarded.location = token().location;
  if (accept("@")) {
    guarded.guardNegated = accept("!");
    const Token name = token();
    std::string_view text;
    if (!expectName(text, "a predicate register after '@'")) {
      return false;
    }
    const Entry *entry = lookup(text);
    if (!entry || entry->kind != Entry::Kind::Register || function->registers[entry->index].type != Type::Pred) {
      return fail(name.location, "'" + std::string(text) + "' is no predicate register");
    }
    guarded.guard = entry->index;
  }
  const Token root = token();
  std::string_view rootText;
  if (!expectName(rootText, "an instruction")) {
    return false;
  }
  std::vector<std::string_view> words;
  while (token().kind == Token::Kind::Dotted) {
    words.push_back(token().text.substr(1));
    ++at;
  }
  const Token &last = tokens[at - 1];
  mnemonic =
      std::string_view(root.text.data(), static_cast<size_t>(last.text.data() - root.text.data()) + last.text.size());
  guarded.location = root.location;
  if (root.is("call")) {
    for (std::string_view word : words) {
      if (word != "uni") {
        return fail(root.location, "'call' has no modifier '." + std::string(word) + "'");
      }
      guarded.mods.uniform = true;
    }
    return parseCall(guarded);
  }

  auto cached = matches.find(std::string(mnemonic));
  if (cached == matches.end()) {
    const std::vector<CompiledForm> *forms = formsOf(rootText);
    if (!forms) {
      return fail(root.location, "unknown instruction '" + std::string(mnemonic) + "'");
    }
    std::vector<Match> fitting;
    const CompiledForm *nearest = nullptr;
    size_t furthest = 0;
    for (const CompiledForm &form : *forms) {
      Match match{&form, {}};
      size_t misfit = 0;
      if (matchMnemonic(form, words, match.decoded, misfit)) {
        fitting.push_back(match);
      } else if (!nearest || misfit > furthest) {
        nearest = &form;
        furthest = misfit;
      }
    }
    if (fitting.empty()) {
      std::string what = furthest < words.size() ? "'." + std::string(words[furthest]) + "' does not fit here"
                                                 : std::string("a type or modifier is missing");
      return fail(root.location, "unknown form '" + std::string(mnemonic) + "': " + what +
                                     "; the nearest known one is `" + nearest->form->mnemonic + "`");
    }
    cached = matches.emplace(std::string(mnemonic), std::move(fitting)).first;
  }

  // Which of them the module's .version and .target allow.
  const Match *lacking = nullptr;
  std::vector<const Match *> allowed;
  for (const Match &match : cached->second) {
    Gate gate = gateOf(*match.form->form, match.decoded.mods);
    unsigned sm = gate.sm & (archSpecific - 1);
    bool arch = (gate.sm & archSpecific) != 0;
    bool fits = gate.ptx <= module.target.version && sm <= module.target.sm &&
                (!arch || (module.target.suffix == 'a' && module.target.sm == sm));
    if (fits) {
      allowed.push_back(&match);
    } else {
      lacking = &match;
    }
  }
  if (allowed.empty()) {
    Gate gate = gateOf(*lacking->form->form, lacking->decoded.mods);
    auto version = [](unsigned v) { return std::to_string(v / 10) + "." + std::to_string(v % 10); };
    if (gate.ptx > module.target.version) {
      return fail(root.location, "'" + std::string(mnemonic) + "' needs .version " + version(gate.ptx) +
                                     ", the module says " + version(module.target.version));
    }
    return fail(root.location, "'" + std::string(mnemonic) + "' needs .target sm_" +
                                   std::to_string(gate.sm & (archSpecific - 1)) + (gate.sm & archSpecific ? "a" : "") +
                                   ", the module says sm_" + std::to_string(module.target.sm) +
                                   (module.target.suffix ? std::string(1, module.target.suffix) : ""));
  }

  std::vector<RawOperand> raw;
  while (!token().is(";")) {
    raw.emplace_back();
    if (!parseOperand(raw.back())) {
      return false;
    }
    if (token().is("|")) {
      ++at;
      raw.back().piped = true;
    } else if (!token().is(";") && !expect(",", "between operands")) {
      return false;
    }
  }
  ++at;

  size_t operandsBefore = function->operands.size(), elementsBefore = function->elements.size();
  size_t labelsBefore = labelUses.size();
  // Several forms may share a mnemonic; if none fits, the error of the one that came furthest is told: a rule across
  // operands, then a single operand (the later, the further), then their number.
  ParseError nearest;
  uint64_t furthest = 0;
  for (const Match *match : allowed) {
    Instruction instruction = match->decoded;
    instruction.guard = guarded.guard;
    instruction.guardNegated = guarded.guardNegated;
    instruction.location = guarded.location;
    instruction.firstOperand = static_cast<uint32_t>(operandsBefore);
    instruction.mods.aligned |= instruction.op == Opcode::Bar && rootText == "bar";
    failed = false;
    bool bound = bind(*match->form, instruction, raw);
    if (bound && checkInstruction(instruction, root.location)) {
      instruction.operandCount = static_cast<uint8_t>(function->operands.size() - operandsBefore);
      instruction.usedBytesMask = usedBytesMask;
      usedBytesMask = 0;
      function->instructions.push_back(instruction);
      return true;
    }
    uint64_t reached = bound ? UINT64_MAX : 1 + (uint64_t(error.line - root.location.line) << 32) + error.column;
    if (!bound && error.line == root.location.line && error.column == root.location.column) {
      reached = 1;
    }
    if (reached > furthest) {
      furthest = reached;
      nearest = error;
    }
    function->operands.resize(operandsBefore);
    function->elements.resize(elementsBefore);
    labelUses.resize(labelsBefore);
  }
  failed = true;
  error = nearest;
  return false;
}

bool TextParser::callArguments(std::vector<RawOperand> &out) {
  if (!expect("(", "before the arguments of a call")) {
    return false;
  }
  if (accept(")")) {
    return true;
  }
  do {
    out.emplace_back();
    if (!parseOperand(out.back())) {
      return false;
    }
  } while (accept(","));
  return expect(")", "after the arguments of a call");
}

bool TextParser::bindArguments(const std::vector<RawOperand> &raw, const std::vector<Variable> &formal,
                               const char *what, bool destination, Operand &out) {
  if (raw.size() != formal.size()) {
    return fail(token().location, "the call has " + std::to_string(raw.size()) + " " + what + ", the callee has " +
                                      std::to_string(formal.size()));
  }
  std::vector<Operand> bound(raw.size());
  for (size_t i = 0; i < raw.size(); ++i) {
    const Variable &parameter = formal[i];
    const RawOperand &argument = raw[i];
    const Entry *entry = argument.kind == RawOperand::Kind::Name ? lookup(argument.name) : nullptr;
    if (entry && (entry->kind == Entry::Kind::Local || entry->kind == Entry::Kind::Parameter)) {
      const Variable &variable =
          entry->kind == Entry::Kind::Local ? function->locals[entry->index] : function->parameters[entry->index];
      if (variable.space != Space::Param || parameter.space != Space::Param) {
        return fail(argument.location, "'" + variable.name + "' is no .param variable of the callee's kind");
      }
      if (!parameter.sizeless && variable.size != parameter.size) {
        return fail(argument.location, "'" + variable.name + "' has " + std::to_string(variable.size) +
                                           " bytes, the callee's parameter has " + std::to_string(parameter.size));
      }
      bound[i].kind = OperandKind::Symbol;
      bound[i].base = entry->kind == Entry::Kind::Local ? Base::Local : Base::Parameter;
      bound[i].index = entry->index;
      continue;
    }
    Slot slot;
    slot.kind = destination ? Slot::Kind::Destination : Slot::Kind::Source;
    slot.sink = destination;
    Instruction mov;
    mov.op = Opcode::Call;
    if (!bindScalar(slot, parameter.type, mov, argument, bound[i])) {
      return false;
    }
  }
  out.kind = OperandKind::Vector;
  out.index = static_cast<uint32_t>(function->elements.size());
  out.count = static_cast<uint32_t>(bound.size());
  function->elements.insert(function->elements.end(), bound.begin(), bound.end());
  return true;
}

/// call{.uni} {(results),} target {, (arguments) {, prototype or targets}};
bool TextParser::parseCall(Instruction instruction) {
  instruction.op = Opcode::Call;
  std::vector<RawOperand> results, arguments;
  if (token().is("(") && (!callArguments(results) || !expect(",", "after the results of a call"))) {
    return false;
  }
  const Token target = token();
  std::string_view name;
  if (!expectName(name, "the function to call")) {
    return false;
  }
  if (accept(",") && !callArguments(arguments)) {
    return false;
  }
  const Entry *entry = lookup(name);
  Operand operands[4];
  const std::vector<Variable> *formalResults = nullptr, *formalParameters = nullptr;
  if (entry && entry->kind == Entry::Kind::Function) {
    const Function &callee = module.functions[entry->index];
    if (callee.isKernel) {
      return fail(target.location, "'" + std::string(name) + "' is a kernel; only .func can be called");
    }
    operands[0].kind = OperandKind::Function;
    operands[0].index = entry->index;
    formalResults = &callee.results;
    formalParameters = &callee.parameters;
  } else if (entry && entry->kind == Entry::Kind::Register) {
    if (bitsOf(function->registers[entry->index].type) != module.addressSize) {
      return fail(target.location, "'" + std::string(name) + "' has " +
                                       std::to_string(bitsOf(function->registers[entry->index].type)) +
                                       " bits, the address of a function has " + std::to_string(module.addressSize));
    }
    operands[0].kind = OperandKind::Register;
    operands[0].index = entry->index;
    if (!expect(",", "before the prototype of an indirect call")) {
      return false;
    }
    const Token last = token();
    std::string_view text;
    if (!expectName(text, "a prototype or a list of targets")) {
      return false;
    }
    const Entry *shape = lookup(text);
    if (shape && shape->kind == Entry::Kind::Prototype) {
      operands[3].kind = OperandKind::Prototype;
      operands[3].index = shape->index;
      formalResults = &function->prototypes[shape->index].results;
      formalParameters = &function->prototypes[shape->index].parameters;
    } else if (shape && shape->kind == Entry::Kind::CallTargets) {
      operands[3].kind = OperandKind::Targets;
      operands[3].index = shape->index;
      const Function &callee = module.functions[function->callTables[shape->index].front()];
      formalResults = &callee.results;
      formalParameters = &callee.parameters;
    } else {
      return fail(last.location, "'" + std::string(text) + "' is neither a .callprototype nor .calltargets");
    }
  } else {
    return fail(target.location,
                "call of '" + std::string(name) + "', which is not declared; declare it with .func before");
  }
  if (!expect(";", "after a call") || !bindArguments(results, *formalResults, "results", true, operands[1]) ||
      !bindArguments(arguments, *formalParameters, "arguments", false, operands[2])) {
    return false;
  }
  instruction.firstOperand = static_cast<uint32_t>(function->operands.size());
  instruction.operandCount = 4;
  function->operands.insert(function->operands.end(), operands, operands + 4);
  function->instructions.push_back(instruction);
  return true;
}

} // namespace moert::emulator::ptx
