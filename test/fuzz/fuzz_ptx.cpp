//===- fuzz_ptx.cpp - libFuzzer target of the PTX front end ---------------===//
//
// Any bytes as PTX. An accepted module must be consistent, since who executes
// it trusts every index; a refused one must say where.
//
//   fuzz_ptx -max_total_time=600 -dict=test/fuzz/ptx.dict test/fuzz/corpus/ptx
//
//===----------------------------------------------------------------------===//
#include "runtime/emulator/ptx/Parser.h"

#include <algorithm>

using namespace moert::emulator::ptx;

/// Ends the run, as a finding, unless `condition` holds.
static void require(bool condition) {
  if (!condition) {
    __builtin_trap();
  }
}

static void checkOperand(const Module &module, const Function &function, const Operand &operand, unsigned depth = 0) {
  require(depth < 4);
  switch (operand.kind) {
  case OperandKind::Register:
    require(operand.index < function.registers.size());
    break;
  case OperandKind::Label:
    require(operand.index < function.blocks.size());
    break;
  case OperandKind::Function:
    require(operand.index < module.functions.size());
    break;
  case OperandKind::Prototype:
    require(operand.index < function.prototypes.size());
    break;
  case OperandKind::Targets:
    require(operand.index < std::max(function.branchTables.size(), function.callTables.size()));
    break;
  case OperandKind::Vector:
  case OperandKind::Tensor:
    require(uint64_t(operand.index) + operand.count <= function.elements.size());
    for (uint32_t i = 0; i < operand.count; ++i) {
      checkOperand(module, function, function.elements[operand.index + i], depth + 1);
    }
    break;
  case OperandKind::Symbol:
  case OperandKind::Address:
    switch (operand.base) {
    case Base::Register:
      require(operand.index < function.registers.size());
      break;
    case Base::Variable:
      require(operand.index < module.variables.size());
      break;
    case Base::Local:
      require(operand.index < function.locals.size());
      break;
    case Base::Parameter:
      require(operand.index < function.parameters.size());
      break;
    case Base::Result:
      require(operand.index < function.results.size());
      break;
    case Base::Function:
      require(operand.index < module.functions.size());
      break;
    case Base::None:
      break;
    }
    break;
  case OperandKind::None:
  case OperandKind::Immediate:
  case OperandKind::Special:
  case OperandKind::Sink:
    break;
  }
}

extern "C" int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
  std::string_view text(reinterpret_cast<const char *>(data), size);
  auto result = parseModule(text);
  if (auto *error = std::get_if<ParseError>(&result)) {
    require(error->line > 0 && error->column > 0 && !error->message.empty());
    return 0;
  }
  const Module &module = std::get<Module>(result);
  for (const Function &function : module.functions) {
    uint32_t next = 0;
    for (const Block &block : function.blocks) {
      require(block.first == next && block.end > block.first);
      next = block.end;
      require(block.reconvergence == none || block.reconvergence < function.blocks.size());
      for (uint32_t successor : block.successors) {
        require(successor < function.blocks.size());
      }
    }
    require(next == function.instructions.size());
    for (const Instruction &instruction : function.instructions) {
      require(instruction.guard == none || instruction.guard < function.registers.size());
      require(uint64_t(instruction.firstOperand) + instruction.operandCount <= function.operands.size());
      for (unsigned i = 0; i < instruction.operandCount; ++i) {
        checkOperand(module, function, function.operand(instruction, i));
      }
    }
    for (const Function::SharedPlace &place : function.shared) {
      require(place.variable < module.variables.size());
    }
  }
  for (const Variable &variable : module.variables) {
    require(variable.data.size() <= variable.size);
    for (const Relocation &relocation : variable.relocations) {
      require(relocation.offset + relocation.size <= variable.data.size());
      require(relocation.target < (relocation.function ? module.functions.size() : module.variables.size()));
    }
  }
  return 0;
}
