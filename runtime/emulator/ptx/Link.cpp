//===- Link.cpp - What a kernel reaches -----------------------------------===//
//
// A kernel owns the shared variables that it or a function it may call names;
// two kernels of one module do not share. An indirect call may reach every
// function whose address is taken anywhere.
//
//===----------------------------------------------------------------------===//
#include "runtime/emulator/ptx/ParserState.h"

#include <algorithm>

namespace moert::emulator::ptx {

namespace {
struct Uses {
  std::vector<uint32_t> callees;
  std::vector<uint32_t> shared;
  bool indirect = false;
};

void addUnique(std::vector<uint32_t> &list, uint32_t value) {
  if (std::find(list.begin(), list.end(), value) == list.end()) {
    list.push_back(value);
  }
}

Uses usesOf(const Module &module, const Function &function, std::vector<bool> &addressTaken) {
  Uses uses;
  auto visit = [&](const Operand &operand) {
    if ((operand.kind == OperandKind::Symbol || operand.kind == OperandKind::Address) &&
        operand.base == Base::Variable && module.variables[operand.index].space == Space::Shared) {
      addUnique(uses.shared, operand.index);
    }
  };
  for (const Instruction &instruction : function.instructions) {
    for (unsigned i = 0; i < instruction.operandCount; ++i) {
      const Operand &operand = function.operand(instruction, i);
      visit(operand);
      if (operand.kind == OperandKind::Function) {
        if (instruction.op == Opcode::Call) {
          addUnique(uses.callees, operand.index);
        } else {
          addressTaken[operand.index] = true;
        }
      }
    }
    uses.indirect |= instruction.op == Opcode::Call && function.operand(instruction, 0).kind == OperandKind::Register;
  }
  for (const Operand &element : function.elements) {
    visit(element);
  }
  return uses;
}
} // namespace

bool linkModule(Module &module, std::string &message) {
  size_t count = module.functions.size();
  std::vector<bool> addressTaken(count, false);
  std::vector<Uses> uses(count);
  for (size_t f = 0; f < count; ++f) {
    uses[f] = usesOf(module, module.functions[f], addressTaken);
  }
  for (const Variable &variable : module.variables) {
    for (const Relocation &relocation : variable.relocations) {
      if (relocation.function) {
        addressTaken[relocation.target] = true;
      }
    }
  }
  for (Uses &use : uses) {
    for (uint32_t f = 0; use.indirect && f < count; ++f) {
      if (addressTaken[f]) {
        addUnique(use.callees, f);
      }
    }
  }
  for (uint32_t f = 0; f < count; ++f) {
    Function &function = module.functions[f];
    std::vector<bool> reached(count, false);
    std::vector<uint32_t> work = uses[f].callees, variables = uses[f].shared;
    function.hasIndirectCalls = uses[f].indirect;
    while (!work.empty()) {
      uint32_t callee = work.back();
      work.pop_back();
      if (reached[callee]) {
        continue;
      }
      reached[callee] = true;
      function.hasIndirectCalls |= uses[callee].indirect;
      for (uint32_t variable : uses[callee].shared) {
        addUnique(variables, variable);
      }
      work.insert(work.end(), uses[callee].callees.begin(), uses[callee].callees.end());
    }
    function.isRecursive = reached[f];
    if (!function.isKernel) {
      continue;
    }
    std::sort(variables.begin(), variables.end());
    uint64_t bytes = 0;
    uint32_t dynamicAlign = 16;
    for (uint32_t v : variables) {
      const Variable &variable = module.variables[v];
      if (variable.size == 0) {
        dynamicAlign = std::max(dynamicAlign, variable.align);
        continue;
      }
      bytes = (bytes + variable.align - 1) / variable.align * variable.align;
      function.shared.push_back({v, static_cast<uint32_t>(bytes)});
      bytes += variable.size;
      if (bytes > (uint64_t(1) << 30)) {
        message = "kernel '" + function.name + "' uses more than 1 GiB of shared memory; the last variable is '" +
                  variable.name + "'";
        return false;
      }
    }
    function.sharedBytes = static_cast<uint32_t>(bytes);
    function.dynamicSharedAlign = dynamicAlign;
    auto dynamic = static_cast<uint32_t>((bytes + dynamicAlign - 1) / dynamicAlign * dynamicAlign);
    for (uint32_t v : variables) {
      if (module.variables[v].size == 0) {
        function.shared.push_back({v, dynamic});
      }
    }
  }
  return true;
}

} // namespace moert::emulator::ptx
