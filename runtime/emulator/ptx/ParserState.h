//===- ParserState.h - The parser's insides ---------------------*- C++ -*-===//
//
// One class over several files: Parser.cpp (module level and directives),
// Declarations.cpp (variables, parameters, initialisers), Expressions.cpp
// (constants and operands as written), Body.cpp (statements, scopes, labels),
// Binding.cpp (operands against the slots of a form), Checks.cpp (rules across
// types). Every function returns false after the first error, which is kept.
//
//===----------------------------------------------------------------------===//
#ifndef MOERT_EMULATOR_PTX_PARSERSTATE_H
#define MOERT_EMULATOR_PTX_PARSERSTATE_H

#include "runtime/emulator/ptx/Lexer.h"
#include "runtime/emulator/ptx/Table.h"

#include <unordered_map>

namespace moert::emulator::ptx {

/// A constant as written: an integer, or a floating-point number with the width of its spelling.
struct Constant {
  enum class Kind : uint8_t { Signed, Unsigned, Single, Double, Decimal };
  Kind kind = Kind::Signed;
  uint64_t bits = 0; ///< integer, or the pattern of the float (Single: 32 bits, Double and Decimal: 64)
  bool isInteger() const { return kind == Kind::Signed || kind == Kind::Unsigned; }
};

/// An operand as written, names not yet looked up.
struct RawOperand {
  enum class Kind : uint8_t { Name, Constant, Address, Vector, Sink, Tensor };
  Kind kind = Kind::Sink;
  bool negated = false;  ///< !p
  bool piped = false;    ///< followed by `|`
  std::string_view name; ///< Name, Address with a base: "%tid.x" includes the suffix
  Constant constant;
  int64_t offset = 0;            ///< Name and Address
  std::vector<RawOperand> parts; ///< Vector; Tensor: the address, the coordinates
  Location location;
};

/// What a name stands for inside a function.
struct Entry {
  enum class Kind : uint8_t { Register, Variable, Local, Parameter, Result, Function, Targets, CallTargets, Prototype };
  Kind kind = Kind::Register;
  uint32_t index = none;
};

/// One pair of braces of a function.
struct NameScope {
  uint32_t parent = none;
  std::unordered_map<std::string_view, Entry> names;
  struct Range {
    uint64_t count = 0;
    Type type = Type::None;
  };
  std::unordered_map<std::string_view, Range> ranges;    ///< %r<100>: prefix to count
  std::unordered_map<std::string_view, uint32_t> labels; ///< to the instruction's index
};

/// A use of a label before all labels are known.
struct LabelUse {
  uint32_t operand = none; ///< into Function::operands, or none for an entry of a branch table
  uint32_t table = none;
  uint32_t tableIndex = 0;
  std::string_view name;
  uint32_t scope = 0;
  Location location;
};

class TextParser {
public:
  TextParser(std::string_view source, DeviceTarget device) : source(source), device(device) {}
  bool run();
  Module module;
  ParseError error;

private:
  // Tokens.
  const Token &token(size_t ahead = 0) const {
    return tokens[at + ahead < tokens.size() ? at + ahead : tokens.size() - 1];
  }
  bool accept(std::string_view text);
  bool expect(std::string_view text, const char *where);
  bool expectName(std::string_view &name, const char *what);
  bool fail(Location location, std::string message);
  bool failHere(const std::string &expected);

  // Parser.cpp
  bool parseHeader();
  bool parseTarget();
  bool parseModuleItem();
  bool parseAlias();
  bool parseFunction(Linkage linkage, bool kernel);
  bool parseParameterList(Function &function, std::vector<Variable> &out, bool kernel);
  bool parseFunctionDirectives(Function &function);
  bool parseDimensions(uint32_t out[3], const char *directive);
  bool parsePragma();
  bool skipLoc();
  bool parseFile();
  bool skipSection();
  bool finish();

  // Declarations.cpp
  bool parseVariables(Space space, Linkage linkage);
  bool parseDeclarator(Variable &variable, bool allowSizeless, std::string_view &name);
  bool parseVariablePrefix(Variable &variable);
  bool parseInitializer(Variable &variable);
  bool parseInitializerValues(Variable &variable, size_t dim, uint64_t first);
  bool parseInitializerScalar(Variable &variable, uint64_t index);
  bool placeParameters(Function &function);
  bool declareVariable(Variable variable, std::string_view name);
  bool parseRegisters();

  // Expressions.cpp
  bool parseConstant(Constant &out, int precedence = 0);
  bool parsePrimary(Constant &out);
  bool parseInteger(const Token &token, Constant &out);
  bool parseFloat(const Token &token, Constant &out);
  bool parseUnsigned(uint64_t &out, uint64_t max, const char *what, int precedence = 0);
  bool parseOperand(RawOperand &out, unsigned depth = 0);
  bool parseOffset(int64_t &out);

  // Body.cpp
  bool parseBody(Function &function);
  bool parseStatement();
  bool parseLabelled();
  bool parseInstruction();
  bool parseCall(Instruction instruction);
  bool callArguments(std::vector<RawOperand> &out);
  bool bindArguments(const std::vector<RawOperand> &raw, const std::vector<Variable> &formal, const char *what,
                     bool destination, Operand &out);
  bool parsePrototype(std::string_view name);
  bool parseTargets(std::string_view name, bool calls);
  bool resolveLabels();
  const Entry *lookup(std::string_view name);
  bool declare(std::string_view name, Entry entry, Location location);
  uint32_t addRegister(std::string_view name, Type type);

  // Binding.cpp
  bool bind(const CompiledForm &form, Instruction &instruction, const std::vector<RawOperand> &raw);
  bool bindSlot(const Slot &slot, Type type, const Instruction &instruction, const RawOperand &raw, Operand &out);
  bool bindScalar(const Slot &slot, Type type, const Instruction &instruction, const RawOperand &raw, Operand &out);
  bool bindVector(const Slot &slot, Type type, const Instruction &instruction, const RawOperand &raw, size_t count,
                  Operand &out);
  bool bindAddress(const Instruction &instruction, const RawOperand &raw, bool first, Operand &out);
  bool bindConstant(const RawOperand &raw, Type type, Operand &out);
  bool bindRegister(const RawOperand &raw, uint32_t index, Type type, bool relaxed, Operand &out);
  bool registerFits(Type reg, Type type, bool relaxed) const;
  bool specialNamed(std::string_view name, SpecialRegister &out) const;

  // Checks.cpp
  bool checkInstruction(const Instruction &instruction, Location location);

  std::string_view source;
  DeviceTarget device;
  std::vector<Token> tokens;
  size_t at = 0;
  bool failed = false;
  unsigned depth = 0; ///< of constant expressions

  // Of the module.
  std::unordered_map<std::string, Entry> globals;
  struct PendingReference {
    uint32_t variable;
    uint32_t relocation;
    std::string name;
    Location location;
  };
  std::vector<PendingReference> references;
  std::vector<std::pair<uint32_t, uint32_t>> aliases; ///< functions: alias, aliasee

  // Of the function that is being parsed.
  Function *function = nullptr;
  std::vector<NameScope> scopes;
  uint32_t scope = 0;
  std::vector<LabelUse> labelUses;
  uint64_t usedBytesMask = 0; ///< of the next instruction
  std::string_view mnemonic;
  struct Match {
    const CompiledForm *form;
    Instruction decoded;
  };
  std::unordered_map<std::string, std::vector<Match>> matches; ///< mnemonics met so far
};

/// Blocks, successors and reconvergence points of a function whose instructions and branch targets (as instruction
/// indices) are known; rewrites targets to block indices.
void buildBlocks(Function &function);

/// Shared memory of every kernel, recursion, indirect calls. False and `message` if a kernel's layout is impossible.
bool linkModule(Module &module, std::string &message);

} // namespace moert::emulator::ptx

#endif // MOERT_EMULATOR_PTX_PARSERSTATE_H
