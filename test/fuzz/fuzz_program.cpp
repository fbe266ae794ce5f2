// Fuzzes the loader of program files: the FlatBuffers verifier and every check behind it, without the seal (a random
// input would never get past a checksum).
//
// Finding no crash is half of it. Whatever the checks accept must really be in bounds, so every accepted program is
// judged again here by other means: all slices of all steps are evaluated in 128 bits at corners and in the middle of
// what a session can bind, and any that leaves its buffer is a trap.
#include "runtime/core/Checks.h"
#include "runtime/core/Program.h"

#include <cstdint>
#include <cstdlib>
#include <cstring>

using namespace moert;

namespace {

using Wide = __int128;

Wide evaluateWide(const format::Extent &e, Wide t, Wide m, Wide b, Wide c) {
  return Wide(e.fixed()) + Wide(e.per_token()) * t + Wide(e.per_row()) * m + Wide(e.per_sequence()) * b +
         Wide(e.per_cache_row()) * b * c;
}

void require(bool holds) {
  if (!holds) {
    __builtin_trap();
  }
}

/// Whether buffer `index` is the caller's memory: an output, or an input of an entry.
bool isCallers(const format::Variant &variant, uint32_t index) {
  for (uint32_t e = 1; e < entryCount(variant); ++e) {
    const auto *inputs = entryOf(variant, e).inputs;
    for (uint32_t i = 0; inputs && i < inputs->size(); ++i) {
      if (inputs->Get(i) == index) {
        return true;
      }
    }
  }
  return variant.buffers()->Get(index)->kind() == format::BufferKind::Output;
}

/// Whether a step of entry `e` may touch the caller's memory `index`: its own arguments, and the logits of the step.
bool mayTouch(const format::Variant &variant, uint32_t e, uint32_t index) {
  const EntryView entry = entryOf(variant, e);
  for (const auto *arguments : {entry.inputs, entry.outputs}) {
    for (uint32_t i = 0; arguments && i < arguments->size(); ++i) {
      if (arguments->Get(i) == index) {
        return true;
      }
    }
  }
  return e == 0 && variant.buffers()->Get(index)->kind() == format::BufferKind::Output;
}

void judgeOperand(const format::Program &program, const format::Variant &variant, const format::Operand &operand,
                  Wide t, Wide m, Wide b, Wide c) {
  if (operand.kind() == format::OperandKind::Slice) {
    const format::Buffer &buffer = *variant.buffers()->Get(operand.index());
    const bool isOutput = isCallers(variant, operand.index());
    Wide most = program.max_tokens();
    Wide size = evaluateWide(buffer.size(), isOutput ? t : most, isOutput ? m : most, b, c);
    Wide bytes = evaluateWide(operand.extent(), t, m, b, c);
    require(bytes >= 0 && Wide(operand.offset()) + bytes <= size);
  } else if (operand.kind() == format::OperandKind::WeightSpan) {
    const format::Tensor &tensor = *program.tensors()->Get(operand.index());
    const Wide lastRank = Wide(operand.value()) * (variant.ranks() - 1);
    require(lastRank + operand.offset() + operand.extent().fixed() <= Wide(tensor.bytes()));
    if (tensor.file() != kNoFile) {
      require(Wide(tensor.offset()) + tensor.bytes() <= Wide(program.files()->Get(tensor.file())->size()));
    }
  } else if (operand.kind() == format::OperandKind::WeightTable) {
    const format::WeightTable &table = *program.tables()->Get(operand.index());
    require(Wide(operand.value()) * variant.ranks() <= Wide(table.count()));
    for (uint32_t i = 0; i < table.count() && i < 64; ++i) {
      const format::TableEntry &entry = *program.table_entries()->Get(table.first() + i);
      require(entry.offset() <= program.tensors()->Get(entry.tensor())->bytes());
    }
  } else if (operand.kind() == format::OperandKind::TensorMap) {
    const format::TensorMap &map = *variant.tensor_maps()->Get(operand.index());
    auto isInside = [&](uint32_t tensor, Wide offset) {
      return offset + Wide(map.rows()) * map.columns() * 2 <= Wide(program.tensors()->Get(tensor)->bytes());
    };
    if (!map.table()) {
      require(isInside(map.index(), Wide(map.per_rank()) * (variant.ranks() - 1) + map.offset()));
    } else {
      const format::WeightTable &table = *program.tables()->Get(map.index());
      require(Wide(map.per_rank()) * variant.ranks() <= Wide(table.count()));
      for (uint32_t i = 0; i < table.count() && i < 64; ++i) {
        const format::TableEntry &entry = *program.table_entries()->Get(table.first() + i);
        require(isInside(entry.tensor(), entry.offset()));
      }
    }
  }
}

void judgeStep(const format::Program &program, const format::Variant &variant, uint32_t entry,
               const format::StepVariant &step, uint64_t &budget) {
  for (uint32_t i = 0; i < step.command_count(); ++i) {
    const format::Command &command = *variant.commands()->Get(step.first_command() + i);
    if (command.kind() == format::CommandKind::Launch) {
      require(variant.kernels()->Get(command.target()) && command.grid().divisor() > 0);
    }
    for (uint32_t o = 0; o < command.operand_count() && budget; ++o, --budget) {
      const format::Operand &operand = *variant.operands()->Get(command.first_operand() + o);
      if (operand.kind() == format::OperandKind::Slice && isCallers(variant, operand.index())) {
        require(mayTouch(variant, entry, operand.index()));
      }
      const int64_t tokens[] = {step.min_tokens(), step.max_tokens(),
                                step.min_tokens() + (step.max_tokens() - step.min_tokens()) / 2};
      for (int64_t t : tokens) {
        for (int64_t m : {int64_t(0), t / 2, t}) {
          judgeOperand(program, variant, operand, t, m, 1, 1);
          judgeOperand(program, variant, operand, t, m, 3, 7);
          judgeOperand(program, variant, operand, t, m, 1, 1 << 20);
          judgeOperand(program, variant, operand, t, m, 1 << 20, 1 << 20);
        }
      }
    }
  }
}

void judge(const format::Program &program, const format::Variant &variant) {
  uint64_t budget = 20000;
  for (uint32_t i = 0; variant.initializers() && i < variant.initializers()->size(); ++i) {
    const format::Initializer &initializer = *variant.initializers()->Get(i);
    const uint64_t resultBytes = program.tensors()->Get(initializer.result())->bytes();
    for (uint32_t c = 0; c < initializer.command_count(); ++c) {
      const format::Command &command = *variant.commands()->Get(initializer.first_command() + c);
      for (uint32_t o = 0; o < command.operand_count() && budget; ++o, --budget) {
        const format::Operand &operand = *variant.operands()->Get(command.first_operand() + o);
        const Wide end = Wide(operand.offset()) + operand.extent().fixed();
        if (operand.kind() == format::OperandKind::Slice) {
          require(end <= Wide(initializer.scratch()->Get(operand.index())->size().fixed()));
        } else if (operand.kind() == format::OperandKind::WeightSpan && operand.index() == initializer.result()) {
          require(end <= Wide(resultBytes));
        } else {
          judgeOperand(program, variant, operand, 0, 0, 1, 1);
        }
      }
    }
  }
  for (uint32_t e = 0; e < entryCount(variant); ++e) {
    for (const format::StepVariant *step : *entryOf(variant, e).steps) {
      judgeStep(program, variant, e, *step, budget);
    }
  }
}

} // namespace

extern "C" int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
  // The loader's memory is aligned to pages; exactly as many bytes as there are, so that one too many is seen.
  void *copy = nullptr;
  if (size == 0 || posix_memalign(&copy, 64, size) != 0) {
    return 0;
  }
  memcpy(copy, data, size);
  const format::Program *program = nullptr;
  if (checkProgramBytes(static_cast<const uint8_t *>(copy), size, program).ok() && program->variants()) {
    for (uint32_t v = 0; v < program->variants()->size(); ++v) {
      judge(*program, *program->variants()->Get(v));
    }
  }
  free(copy);
  return 0;
}
